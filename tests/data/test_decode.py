"""Frames out of files: the right ones, upright, and a clear message when there are none."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from aosa.errors import VideoError
from aosa.video.decode import count_frames, probe, read_frames


def noise(frames: int = 6, height: int = 32, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def test_frames_are_those_asked_for_in_that_order_in_rgb(tmp_path, write_video):
    frames = noise()
    path = write_video(tmp_path / "a.avi", frames)
    assert count_frames(path) == 6
    assert np.array_equal(read_frames(path, [1, 4, 2, 4]), frames[[1, 4, 2, 4]])


def test_probe_tells_frames_and_size(tmp_path, write_video):
    info = probe(write_video(tmp_path / "a.avi", noise(5, 24, 40)))
    assert (info.frames, info.height, info.width) == (5, 24, 40)


def test_probe_sees_that_a_file_has_changed(tmp_path, write_video):
    path = tmp_path / "a.avi"
    assert probe(write_video(path, 5)).frames == 5
    assert probe(write_video(path, 9)).frames == 9


def test_colon_in_a_file_name_is_no_protocol(tmp_path, write_video, monkeypatch):
    frames = noise()
    write_video(tmp_path / "12:30.avi", frames)
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(read_frames(Path("12:30.avi"), range(6)), frames)


def test_frame_beyond_the_end(tmp_path, write_video):
    path = write_video(tmp_path / "a.avi", 6)
    with pytest.raises(VideoError, match=r"a\.avi: frame 6 was asked for, and only 6 frames decode"):
        read_frames(path, [5, 6])


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_rotated_phone_video_is_upright(tmp_path, write_video, quarters):
    """The file's display matrix says: turn by so many quarters clockwise."""
    frames = np.zeros((4, 32, 64, 3), np.uint8)
    frames[:, :16, :32] = 255  # the top left quarter is white
    path = write_video(tmp_path / "phone.mp4", frames)
    cos, sin = {1: (0, 1), 2: (-1, 0), 3: (0, -1)}[quarters]
    one, shift = 1 << 16, {1: (32, 0), 2: (64, 32), 3: (0, 64)}[quarters]
    rows = [cos, sin, 0, -sin, cos, 0, *shift]
    matrix = struct.pack(">9i", *(v * one for v in rows), 1 << 30)
    data = path.read_bytes()
    header = data.index(b"tkhd")
    identity = struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:header] + data[header:].replace(identity, matrix, 1))

    expected = np.rot90(frames[0], -quarters)
    upright = read_frames(path, [0, 3])
    assert upright.shape == (2, *expected.shape)
    # MPEG-4 rings a little along the edge.
    assert np.abs(upright.astype(int) - expected).mean() < 8
    info = probe(path)
    assert (info.height, info.width) == expected.shape[:2]


def test_not_there(tmp_path):
    with pytest.raises(VideoError, match=r"gone\.mp4: no such video"):
        count_frames(tmp_path / "gone.mp4")


def test_zero_bytes(tmp_path):
    path = tmp_path / "empty.avi"
    path.touch()
    with pytest.raises(VideoError, match=r"empty\.avi: the file is empty \(zero bytes\)"):
        count_frames(path)


def test_no_video_at_all(tmp_path):
    path = tmp_path / "text.mp4"
    path.write_text("this is no video")
    with pytest.raises(VideoError, match=r"text\.mp4: cannot be opened as a video"):
        count_frames(path)


def test_audio_only(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match=r"sound\.mp4: there is no video stream in it \(audio only\?\)"):
        count_frames(path)


def test_truncated_avi_gives_the_frames_that_decode(tmp_path, write_video):
    frames = noise(20)
    path = write_video(tmp_path / "cut.avi", frames)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    count = count_frames(path)
    assert 5 <= count <= 12
    assert probe(path).listed == 20
    # The last frame may be cut in the middle; those before it are whole.
    assert np.array_equal(read_frames(path, range(count - 1)), frames[: count - 1])


def test_truncated_mp4_is_unreadable(tmp_path, write_video):
    path = write_video(tmp_path / "cut.mp4", noise(20))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(VideoError, match=r"cut\.mp4: cannot be opened as a video; it is truncated"):
        count_frames(path)


def test_truncated_mp4_whose_index_comes_first_gives_its_first_frames(tmp_path, write_video):
    """As videos for the web are written."""
    path = tmp_path / "web.mp4"
    whole = str(write_video(tmp_path / "a.mp4", noise(20)))
    with av.open(whole) as given, av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 5 <= count_frames(path) <= 12
    assert probe(path).listed == 20
    assert read_frames(path, [0, 3]).shape == (2, 32, 48, 3)


def write_images(folder: Path, numbers: list[int], frames: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, frame in zip(numbers, frames, strict=True):
        cv2.imwrite(str(folder / f"image_{number}.png"), frame[..., ::-1])
    return folder


def test_images_are_ordered_by_number_not_by_name(tmp_path):
    frames = noise(4)
    folder = write_images(tmp_path / "video", [8, 9, 10, 11], frames)
    (folder / "n_frames").write_text("4")
    assert count_frames(folder) == 4
    assert np.array_equal(read_frames(folder, [0, 2, 3]), frames[[0, 2, 3]])
    assert probe(folder).frames == 4


def test_missing_image_is_named_by_its_neighbours(tmp_path):
    folder = write_images(tmp_path / "video", [1, 2, 4, 5], noise(4))
    with pytest.raises(VideoError, match=r"missing between image_2\.png and image_4\.png"):
        count_frames(folder)


def test_broken_image_is_named(tmp_path):
    folder = write_images(tmp_path / "video", [1, 2], noise(2))
    (folder / "image_2.png").write_bytes(b"")
    with pytest.raises(VideoError, match=r"image_2\.png: not a readable image"):
        read_frames(folder, [0, 1])


def test_folder_without_images(tmp_path):
    with pytest.raises(VideoError, match="no numbered images"):
        count_frames(tmp_path)


@pytest.mark.real
def test_real_clips_decode_to_the_listed_number_of_frames(shared_data):
    with (shared_data / "MANIFEST.tsv").open() as file:
        rows = [r for r in csv.DictReader(file, delimiter="\t") if r["path"].endswith((".avi", ".mp4", ".mkv"))]
    assert len(rows) > 300
    for row in [*rows[::60], *(r for r in rows if r["dataset"] == "Kinetics-400")]:
        info = probe(shared_data / row["path"])
        assert (str(info.frames), f"{info.width}x{info.height}") == (row["frames"], row["size"]), row["path"]
