"""Numbered images of a folder, taken for a video."""

from __future__ import annotations

import io
import logging
import os
import re
import stat
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image

from aosa.errors import VideoError
from aosa.video.image_range import ImageRange

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# Of an image or a frame: twice the pixels of 8K film. As RGB so many take 200 MB, and 100 MB for each frame that a
# decoder holds.
MAX_PIXELS = 8192 * 8192

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
# What the names of frames, and of what often lies beside them, have before or after the number.
_FRAMES = {"img", "image", "images", "im", "frame", "frames", "rgb"}
_BESIDE = {
    "flow", "depth", "disparity", "ir", "mask", "seg", "alpha", "skeleton",
    "thumb", "thumbs", "thumbnail", "thumbnails", "cover", "poster", "preview", "icon", "tmp",
}  # fmt: skip
_log = logging.getLogger(__name__)
_said: set[tuple[str, ...]] = set()


@dataclass(frozen=True)
class Series:
    """Images of a folder whose names differ in one number only.

    Args:
        pattern: of their names: ``img_*.jpg``, with ``*`` for the number and the extension of the first.
        numbers: in ascending order; one comes twice where two files have it.
        names: of the images, in this order.
    """

    pattern: str
    numbers: tuple[int, ...]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.pattern} ({len(self.names)})"

    @property
    def rank(self) -> int:
        """0 = named as frames are, 1 = as neither, 2 = as what lies beside frames."""
        stem = os.path.splitext(self.pattern)[0].lower()
        words = set(re.findall(r"[a-z]+", stem))
        # Parts of optical flow have x, y, u or v right before the number.
        if words & _BESIDE or re.search(r"(?<![a-z])[xyuv]_?\*", stem):
            return 2
        return 0 if words & _FRAMES else 1


def list_images(folder: Path | ImageRange) -> list[Path]:
    """The images of a folder in the order of their numbers; see `find_series`.

    Raises:
        VideoError: see `find_series`.
    """
    place = folder.folder if isinstance(folder, ImageRange) else folder
    return [place / name for name in find_series(folder)[0].names]


def find_series(folder: Path | ImageRange) -> tuple[Series, list[Series]]:
    """The series of images that is the video, and the others that lie beside it.

    Names that differ in one number are a series, whatever their extension and case; where several numbers differ, it
    is the last one. Among several series, those named as frames are (``img``, ``image``, ``frame``, ``rgb``) come
    first, and those named as something else is (``flow_x``, ``flow_y``, ``depth``, ``mask``, ``thumb``, ``cover``,
    ``poster`` …) last; of the first of these ranks there must be one, or one of more than twice as many images as
    each other one. The choice is logged, once for each set of patterns.

    Raises:
        VideoError: no images, several series that could be the video, a number of the series that is missing or there
            twice, or an image that is no file; the message names them.
    """
    files = dict(_names(folder))
    every = sorted(_all_series(files), key=lambda series: (series.rank, -len(series.names), series.pattern))
    if not every:
        raise VideoError(f"{folder}: no numbered images (such as image_00001.jpg) in this folder")
    first, *others = every
    rivals = [s for s in others if s.rank == first.rank and 2 * len(s.names) >= len(first.names)]
    if rivals:
        raise VideoError(
            f"{folder}: which of these images are the video? {', '.join(map(str, [first, *rivals][:5]))}; "
            "leave one series in the folder, or name it img_*"
        )
    wrong = next((name for name in first.names if not files[name]), None)
    if wrong is not None:
        raise VideoError(f"{folder}: {wrong} is not a file (a folder, a pipe, or a link to nowhere)")
    steps = [after - before for before, after in pairwise(first.numbers)]
    if steps and min(steps) == 0:
        twice = steps.index(0)
        raise VideoError(f"{folder}: {first.names[twice]} and {first.names[twice + 1]} have one number")
    if steps and max(steps) > min(steps):
        gap = steps.index(max(steps))
        raise VideoError(f"{folder}: images are missing between {first.names[gap]} and {first.names[gap + 1]}")
    patterns = (first.pattern, *(series.pattern for series in others))
    if others and patterns not in _said:
        _said.add(patterns)
        beside = ", ".join(map(str, others[:5])) + " …" * (len(others) > 5)
        _log.warning("%s: the video is %s; left out: %s", folder, first, beside)
    return first, others


def read_image(path: Path) -> np.ndarray:
    """One image, upright: uint8 H×W×3, RGB.

    Turned as its EXIF orientation says. Grey is three equal channels, transparency is left out, CMYK is converted
    without a colour profile, and of 16 bits the upper 8 are taken.

    Raises:
        VideoError: not a file, not an image, truncated or empty; damaged JPEG data, which decoders fill with grey;
            more than `MAX_PIXELS` by its header, which is read before anything is decoded; an animation.
    """
    # OpenCV and FFmpeg decode bytes, since neither opens every file name on every platform.
    data = _read_bytes(path)
    _check_header(path, data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise VideoError(f"{path}: not a readable image (truncated, corrupt, or of a kind that cannot be read)")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _all_series(names: Iterable[str]) -> Iterator[Series]:
    # Names that have the same text between their numbers, each with its numbers.
    alike: dict[tuple[str, ...], list[tuple[tuple[str, ...], str]]] = defaultdict(list)
    for name in names:
        stem, extension = os.path.splitext(name)
        parts = re.split(r"([0-9]+)", stem)
        if extension.lower() in IMAGE_EXTENSIONS and len(parts) > 1 and not name.startswith("."):
            alike[tuple(part.casefold() for part in parts[::2])].append((tuple(parts[1::2]), name))
    for rows in alike.values():
        columns = list(zip(*(numbers for numbers, _ in rows), strict=True))
        place = next((i for i in reversed(range(len(columns))) if len(set(columns[i])) > 1), len(columns) - 1)
        # Where that number is not enough to tell the images apart, the other numbers tell series apart.
        several = len(set(map(int, columns[place]))) < len({numbers for numbers, _ in rows})
        split = defaultdict(list)
        for numbers, name in rows:
            others = (*numbers[:place], *numbers[place + 1 :]) if several else ()
            split[others].append((int(numbers[place]), name))
        yield from (_series(place, sorted(images)) for images in split.values())


def _series(place: int, images: list[tuple[int, str]]) -> Series:
    numbers, names = zip(*images, strict=True)
    stem, extension = os.path.splitext(names[0])
    parts = re.split(r"([0-9]+)", stem)
    parts[2 * place + 1] = "*"
    return Series("".join(parts) + extension, numbers, names)


def _names(folder: Path | ImageRange) -> Iterator[tuple[str, bool]]:
    """The names in a folder, and whether each is a file."""
    if isinstance(folder, ImageRange):
        yield from ((path.name, path.is_file()) for path in folder.iterdir())
        return
    try:
        with os.scandir(folder) as content:
            yield from ((entry.name, entry.is_file()) for entry in content)
    except OSError as error:
        raise VideoError(f"{folder}: cannot be listed ({(error.strerror or 'unknown reason').lower()})") from None


def _read_bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise VideoError(f"{path}: not a file (a folder or a pipe)")
        if status.st_size > 8 * MAX_PIXELS:
            raise VideoError(f"{path}: {status.st_size >> 20} MiB are no image of a video")
        data = path.read_bytes()
    except OSError as error:
        raise VideoError(f"{path}: cannot be read ({(error.strerror or 'unknown reason').lower()})") from None
    if not data:
        raise VideoError(f"{path}: not a readable image (the file is empty)")
    return data


def _check_header(path: Path, data: bytes) -> None:
    """Refuse what its header tells to be no image of a video, and what its bytes tell to be cut or damaged."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                (width, height), kind = image.size, image.format
                several = kind in ("PNG", "WEBP", "TIFF") and getattr(image, "is_animated", False)
    except Image.DecompressionBombError:
        raise VideoError(f"{path}: its header claims more than {MAX_PIXELS >> 20} million pixels") from None
    except Exception:  # the readers of Pillow raise whatever a damaged header makes of them
        raise VideoError(f"{path}: not a readable image ({', '.join(_FORMATS)}), or its header is damaged") from None
    if width * height > MAX_PIXELS:
        raise VideoError(f"{path}: its header claims {width}×{height} pixels, more than {MAX_PIXELS >> 20} million")
    if several:
        raise VideoError(f"{path}: several images in one file (animated?); give each frame a file of its own")
    if data[:2] == b"\xff\xd8" and not _is_whole_jpeg(data):
        raise VideoError(f"{path}: not a readable image (truncated or damaged JPEG)")
    if kind == "PNG" and not _is_whole_png(data):
        raise VideoError(f"{path}: not a readable image (truncated or damaged PNG)")
    header = re.match(rb"P[2356](?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+\d+(?:\s+|#[^\n]*\n)+(\d+)\s", data)
    if header and header[1] not in (b"255", b"65535"):
        raise VideoError(f"{path}: its brightest value is {header[1].decode()}; only 255 and 65535 can be read")


def _is_whole_png(data: bytes) -> bool:
    """Whether a PNG has its end, and no chunk that claims more bytes than there are, which OpenCV would allocate."""
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG has its end and all of its data; libjpeg, which OpenCV uses, fills what is missing in silence."""
    if data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda"):  # end of image, start of scan
        return False
    codec = av.CodecContext.create("mjpeg", "r")
    codec.thread_count = 1
    # At an eighth of its size, for speed: the data are read in full all the same.
    codec.options = {"err_detect": "explode", "lowres": "3"}
    try:
        codec.decode(av.Packet(data))
        codec.decode(None)
    except av.InvalidDataError:
        return False
    except av.FFmpegError:
        return True  # a kind of JPEG that FFmpeg has no decoder for
    return True
