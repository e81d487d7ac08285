"""Folders of images as tools and users leave them: the right series, each image as it is meant, and what is refused."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from aosa.errors import VideoError
from aosa.video.decode import count_frames, read_frames
from aosa.video.images import _said, find_series, list_images, read_image


def picture(height: int = 24, width: int = 32) -> np.ndarray:
    """Smooth, with another value in each channel."""
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * x, 8 * y, 255 - 4 * x], axis=-1).clip(0, 255).astype(np.uint8)


def encoded(kind: str, image: np.ndarray | Image.Image | None = None, **options: object) -> bytes:
    image = picture() if image is None else image
    out = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def touch(tmp_path):
    def make(*names: str) -> Path:
        for name in names:
            (tmp_path / name).touch()
        return tmp_path

    return make


def numbered(pattern: str, count: int) -> list[str]:
    return [pattern.format(n) for n in range(1, count + 1)]


@pytest.mark.parametrize(
    ("beside", "frames"),
    [
        (numbered("flow_x_{:05d}.jpg", 5) + numbered("flow_y_{:05d}.jpg", 5), "img_{:05d}.jpg"),
        (numbered("x_{:05d}.jpg", 5) + numbered("y_{:05d}.jpg", 5), "clip_{:05d}.jpg"),
        (numbered("thumb_{:04d}.jpg", 9), "frame{:04d}.jpg"),
        (numbered("depth{}.png", 9), "video7_{:03d}.png"),
        (["cover.jpg", "poster1.png", "notes1.txt", ".img_9.jpg"], "{}.jpg"),
        (numbered("mask_{}.png", 5), "RGB_{}.tif"),
        (numbered("small_{}.png", 2), "v_X_g01_c01_{:04d}.ppm"),
        ([], "frame_{:03d}_320x240.pgm"),
        ([], "{:03d}.TIFF"),
    ],
)
def test_series_of_the_frames_is_found_by_its_pattern(touch, beside, frames):
    wanted = numbered(frames, 5)
    folder = touch(*beside, *reversed(wanted))
    assert [path.name for path in list_images(folder)] == wanted


def test_choice_is_said_once(touch, caplog):
    folder = touch(*numbered("img_{:02d}.jpg", 4), *numbered("flow_x_{:02d}.jpg", 3), "poster1.png")
    _said.clear()
    with caplog.at_level(logging.WARNING, "aosa"):
        first, others = find_series(folder)
        list_images(folder)
    assert (str(first), [str(s) for s in others]) == ("img_*.jpg (4)", ["flow_x_*.jpg (3)", "poster*.png (1)"])
    assert [r.getMessage() for r in caplog.records] == [
        f"{folder}: the video is img_*.jpg (4); left out: flow_x_*.jpg (3), poster*.png (1)"
    ]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            numbered("left_{}.jpg", 4) + numbered("right_{}.jpg", 5),
            r"which of these images are the video\? right_\*\.jpg \(5\), left_\*\.jpg \(4\); leave one series",
        ),
        (numbered("flow_x_{}.jpg", 3) + numbered("flow_y_{}.jpg", 3), r"flow_x_\*\.jpg \(3\), flow_y_\*\.jpg \(3\)"),
        (["img_1.jpg", "img_2.jpg", "img_2.png"], r"img_2\.jpg and img_2\.png have one number"),
        (["img_1.jpg", "img_01.jpg"], r"img_01\.jpg and img_1\.jpg have one number"),
        (["IMG_1.JPG", "img_2.jpg", "img_4.jpg"], r"missing between img_2\.jpg and img_4\.jpg"),
        (["img_1.jpg", f"img_{10**30}.jpg", f"img_{10**30 + 1}.jpg"], r"missing between img_1\.jpg and img_1000"),
        (["cover.jpg"], "no numbered images"),
    ],
)
def test_folder_that_is_no_one_video(touch, names, message):
    with pytest.raises(VideoError, match=message):
        list_images(touch(*names))


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_image_that_is_no_file(touch, kind):
    folder = touch("img_1.jpg")
    odd = folder / "img_2.jpg"
    {"folder": odd.mkdir, "pipe": lambda: os.mkfifo(odd), "link": lambda: odd.symlink_to("gone.jpg")}[kind]()
    with pytest.raises(VideoError, match=r"img_2\.jpg is not a file"):
        count_frames(folder)
    with pytest.raises(VideoError, match=r"img_2\.jpg: (not a file|cannot be read)"):
        read_image(odd)
    touch("frame_1.jpg", "frame_2.jpg", "frame_3.jpg", "frame_4.jpg", "frame_5.jpg")
    assert count_frames(folder) == 5, "what lies beside the video does no harm"


@pytest.mark.parametrize("extension", ["png", "bmp", "tif", "tiff", "ppm"])
def test_pixels_are_those_that_were_written(tmp_path, extension):
    frames = [np.roll(picture(), n, axis=1) for n in range(3)]
    for n, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"img_{n}.{extension}")
    assert np.array_equal(read_frames(tmp_path, [0, 2]), np.stack(frames)[[0, 2]])


KINDS = {
    "grey": (encoded("PNG", picture()[..., 0]), picture()[..., [0, 0, 0]]),
    "alpha": (encoded("PNG", np.dstack([picture(), picture()[..., 1]])), picture()),
    "16 bits": (cv2.imencode(".png", picture()[..., ::-1].astype(np.uint16) * 256 + 99)[1].tobytes(), picture()),
    "16 bits, grey": (
        cv2.imencode(".tif", picture()[..., 0].astype(np.uint16) * 256 + 99)[1].tobytes(),
        picture()[..., [0, 0, 0]],
    ),
    "JPEG": (encoded("JPEG", quality=95, subsampling=0), picture()),
    "progressive": (encoded("JPEG", quality=95, subsampling=0, progressive=True), picture()),
    "bytes after its end": (encoded("JPEG", quality=95, subsampling=0) + bytes(99), picture()),
    "CMYK": (encoded("JPEG", Image.fromarray(picture()).convert("CMYK"), quality=95), picture()),
    "other extension": (encoded("PNG"), picture()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_images(tmp_path, kind):
    data, expected = KINDS[kind]
    (tmp_path / "img_1.jpg").write_bytes(data)
    image = read_image(tmp_path / "img_1.jpg")
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= (0 if data.startswith(b"\x89PNG") or data[:2] == b"II" else 4)


@pytest.mark.parametrize(("orientation", "quarters"), [(3, 2), (6, -1), (8, 1)])
def test_turned_as_its_orientation_says(tmp_path, orientation, quarters):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG", exif=exif, quality=95, subsampling=0))
    expected = np.rot90(picture(), quarters)
    image = read_image(tmp_path / "a.jpg")
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= 4


def detailed(**options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return encoded("JPEG", cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC), **options)


def without(data: bytes, start: float, stop: float) -> bytes:
    return data[: int(len(data) * start)] + data[int(len(data) * stop) :]


def claiming(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(np.full((8, 8, 3), v, np.uint8)) for v in (0, 99, 255)]
    return encoded(kind, frames[0], save_all=True, append_images=frames[1:])


DAMAGED = {
    "cut": detailed()[:-900],
    "its end alone is lost": detailed()[:-6],
    "cut, and closed": detailed()[:-900] + b"\xff\xd9",
    "a hole": without(detailed(), 0.5, 0.6),
    "zeros": detailed()[:-900] + bytes(600) + detailed()[-300:],
    "cut, progressive": without(detailed(progressive=True), 0.5, 1) + b"\xff\xd9",
    "cut in the header": detailed()[:300],
    "PNG, cut": encoded("PNG")[:-40],
    "PNG, a chunk of gigabytes": encoded("PNG")[:33] + b"\x77" + encoded("PNG")[34:],
    "PNG, a byte changed": encoded("PNG")[:60] + b"\0" + encoded("PNG")[61:],
    "BMP, cut": encoded("BMP")[:-40],
    "TIFF, cut": encoded("TIFF")[:-400],
    "PPM, cut": encoded("PPM")[:-40],
    "WebP, cut": encoded("WEBP")[:-40],
    "text": b"no image",
    "nothing": b"",
    "a video": b"\0\0\0\x18ftypisom",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_image_is_refused_by_name(tmp_path, kind, capfd):
    (tmp_path / "img_1.jpg").write_bytes(DAMAGED[kind])
    with pytest.raises(VideoError, match=r"img_1\.jpg: not a readable image"):
        read_image(tmp_path / "img_1.jpg")
    assert "premature end" not in capfd.readouterr().err, "no decoder has filled in what is missing"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (claiming(detailed(), 12000, 11500), r"claims 12000×11500 pixels, more than 64 million"),
        (claiming(detailed(), 65000, 65000), "claims more than 64 million pixels"),
        (animated("PNG"), r"several images in one file \(animated\?\)"),
        (animated("WEBP"), r"several images in one file"),
        (animated("TIFF"), r"several images in one file"),
        (b"P5\n# by hand\n2 2\n4095\n" + bytes(8), "its brightest value is 4095; only 255 and 65535 can be read"),
    ],
)
def test_image_that_is_none_of_a_video(tmp_path, data, message):
    (tmp_path / "img_1.jpg").write_bytes(data)
    with pytest.raises(VideoError, match=rf"img_1\.jpg: .*{message}"):
        read_image(tmp_path / "img_1.jpg")


def test_file_of_gigabytes_is_not_read(tmp_path):
    with (tmp_path / "img_1.jpg").open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(VideoError, match=r"img_1\.jpg: 8192 MiB are no image of a video"):
        read_image(tmp_path / "img_1.jpg")


@pytest.mark.real
def test_real_frames_are_read_as_they_were(shared_data):
    jpgs = sorted((shared_data / "ucf101/jpg").rglob("*.jpg"))[::40]
    for image in [*jpgs, *(shared_data / "epic_kitchens").rglob("*.png")]:
        assert np.array_equal(read_image(image), cv2.imread(str(image))[..., ::-1]), image
