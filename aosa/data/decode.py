"""Frames out of a video file, or out of a folder of numbered images."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from aosa.data.image_range import ImageRange, as_video
from aosa.data.images import list_images, read_image
from aosa.errors import VideoError

# A broken file is reported by one VideoError, not by lines of OpenCV and FFmpeg on stderr as well.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

Frame = Callable[[], np.ndarray]


@dataclass(frozen=True)
class VideoInfo:
    """What decoding a whole video showed: decoded frames, upright width and height in pixels, and
    the number of frames that the container claims (None when it says nothing)."""

    frames: int
    width: int
    height: int
    listed: int | None


# What `probe` found, by video and `_state`; to be handed on from process to process, as it costs a whole decoding.
probed: dict[tuple[Path | ImageRange, tuple[int, int]], VideoInfo] = {}


def probe(path: str | Path | ImageRange) -> VideoInfo:
    """Decode a whole video, keeping nothing. The answer is cached until the file changes.

    Raises:
        VideoError: not found, zero bytes, no video stream, or not one frame decodes.
    """
    path = as_video(path)
    key = path, _state(path)
    if key not in probed:
        probed[key] = _probe(path)
    return probed[key]


def count_frames(path: str | Path | ImageRange) -> int:
    """The number of frames that really decode; what a container claims is not trusted.

    Raises:
        VideoError: as `probe`.
    """
    path = as_video(path)
    return len(list_images(path)) if path.is_dir() else probe(path).frames


def frame_rate(path: str | Path | ImageRange) -> float | None:
    """Frames per second on average, as the container says; None for images and where it says nothing."""
    path = as_video(path)
    if isinstance(path, ImageRange) or path.is_dir():
        return None
    with suppress(av.FFmpegError, IndexError), av.open(os.path.abspath(path)) as container:
        rate = container.streams.video[0].average_rate
        return float(rate) if rate else None
    return None


def read_frames(path: str | Path | ImageRange, indices: Sequence[int]) -> np.ndarray:
    """The frames at `indices` (0 = first), upright; an index may come several times.

    Returns:
        uint8 N×H×W×3, RGB.

    Raises:
        VideoError: as `pick_frames`.
    """
    places = defaultdict(list)
    for place, i in enumerate(indices):
        places[i].append(place)
    out = np.empty(0, np.uint8)
    for i, pixels in pick_frames(path, indices):
        if not out.size:
            out = np.empty((len(indices), *pixels.shape), np.uint8)
        out[places[i]] = pixels
    return out


def pick_frames(path: str | Path | ImageRange, indices: Iterable[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Index and pixels (uint8 H×W×3, RGB, upright) of each frame of `indices`, in the video's order, one at a time.

    Reads forward and never seeks: seeking lands on wrong frames in many real files.

    Raises:
        VideoError: as `probe`; or the video ends before the last index, or changes its size.
    """
    path, wanted = as_video(path), set(indices)
    last, shape = max(wanted), None
    for i, frame in enumerate(_frames(path)):
        if i not in wanted:
            continue
        pixels = frame()
        shape = shape or pixels.shape
        if pixels.shape != shape:
            raise VideoError(f"{path}: the size of its frames changes within the window")
        yield i, pixels
        if i == last:
            return
    raise VideoError(f"{path}: frame {last} was asked for, and only {count_frames(path)} frames decode")


def _state(path: Path | ImageRange) -> tuple[int, int]:
    """Size and time of change: the key under which a probe stays valid."""
    try:
        stat = path.stat()
    except OSError:
        raise VideoError(f"{path}: no such video") from None
    return stat.st_size, stat.st_mtime_ns


def _probe(path: Path | ImageRange) -> VideoInfo:
    frames, size = 0, (0, 0)
    for frame in _frames(path):
        # Images are files of their own, so each is opened; in a video, going on is decoding.
        if frames == 0 or path.is_dir():
            height, width = frame().shape[:2]
            size = size if frames else (width, height)
        frames += 1
    return VideoInfo(frames, *size, None if isinstance(path, ImageRange) or path.is_dir() else _listed(path))


def _listed(path: Path) -> int | None:
    with suppress(av.FFmpegError, IndexError), av.open(os.path.abspath(path)) as container:
        return container.streams.video[0].frames or None
    return None


def _frames(path: Path | ImageRange) -> Iterator[Frame]:
    """Each frame in order, converted to RGB only when it is called (before the next is asked for)."""
    if isinstance(path, ImageRange) or path.is_dir():
        for image in list_images(path):
            yield partial(read_image, image)
        return
    size, _ = _state(path)
    if size == 0:
        raise VideoError(f"{path}: the file is empty (zero bytes)")
    for backend in (_opencv, _pyav):
        frames = backend(path)
        first = next(frames, None)
        if first is not None:
            yield first
            yield from frames
            return
    raise VideoError(f"{path}: {_why_unreadable(path)}")


def _opencv(path: Path) -> Iterator[Frame]:
    # An absolute path cannot be taken for a URL or a protocol ("12:30.mp4").
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)

    def retrieve() -> np.ndarray:
        ok, frame = capture.retrieve()
        if not ok:
            raise VideoError(f"{path}: a frame could not be converted to RGB")
        return cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)

    try:
        while capture.grab():
            yield retrieve
    finally:
        capture.release()


def _pyav(path: Path) -> Iterator[Frame]:
    # What was decoded before the error is used, as OpenCV does.
    with suppress(av.FFmpegError, IndexError), av.open(os.path.abspath(path)) as container:
        for frame in container.decode(container.streams.video[0]):
            yield partial(_upright, frame)


def _upright(frame: av.VideoFrame) -> np.ndarray:
    # The display matrix turns counter-clockwise, as rot90 does.
    return np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def _why_unreadable(path: Path) -> str:
    try:
        with av.open(os.path.abspath(path)) as container:
            if not container.streams.video:
                return "there is no video stream in it (audio only?)"
            codec = container.streams.video[0].codec_context
            if codec is None:
                return "there is no decoder for its video stream"
            return f"not one frame decodes ({codec.name}); the file is truncated or corrupt"
    except av.FFmpegError as error:
        return f"cannot be opened as a video; it is truncated, corrupt or no video ({error.strerror})"
