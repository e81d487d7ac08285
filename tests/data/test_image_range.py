"""A part of a folder of images is a video of its own, and the rest of the folder is never looked at."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from aosa.errors import VideoError
from aosa.video.decode import count_frames, probe, read_frames
from aosa.video.image_range import ImageRange


@pytest.fixture
def folder(tmp_path):
    """Images 1 to 12, image n grey 20·n."""
    for n in range(1, 13):
        cv2.imwrite(str(tmp_path / f"frame_{n:010d}.jpg"), np.full((8, 12, 3), 20 * n, np.uint8))
    return tmp_path


def test_frames_from_one_number_to_another(folder):
    video = ImageRange(folder, "frame_{:010d}.jpg", 4, 9)
    assert count_frames(video) == 6
    assert read_frames(video, [0, 2, 5])[:, 4, 6, 0].tolist() == [80, 120, 180]
    info = probe(video)
    assert (info.frames, info.width, info.height, info.listed) == (6, 12, 8, None)


def test_images_of_other_numbers_do_no_harm(folder):
    (folder / "frame_0000000002.jpg").unlink()
    (folder / "frame_0000000011.jpg").write_bytes(b"no image")
    assert probe(ImageRange(folder, "frame_{:010d}.jpg", 3, 10)).frames == 8
    with pytest.raises(VideoError, match=r"frame_0000000011\.jpg: not a readable image"):
        probe(ImageRange(folder, "frame_{:010d}.jpg", 4, 12))


def test_missing_image_is_named(folder):
    (folder / "frame_0000000006.jpg").unlink()
    with pytest.raises(
        VideoError, match=r"frame_0000000004\.jpg-9: images are missing between .*05\.jpg and .*07\.jpg"
    ):
        count_frames(ImageRange(folder, "frame_{:010d}.jpg", 4, 9))


def test_folder_is_never_listed(folder, monkeypatch):
    def refuse(*args: object) -> None:
        raise AssertionError("a folder was listed")

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(os, "listdir", refuse)
    assert len(read_frames(ImageRange(folder, "frame_{:010d}.jpg", 4, 9), range(6))) == 6


def test_record_names_it_below_the_root(folder):
    video = ImageRange(folder / "P01", "frame_{:010d}.jpg", 4, 9)
    assert video.relative_to(folder) == Path("P01/frame_0000000004.jpg-9")
    assert not video.exists()
