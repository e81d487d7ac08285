"""Video files decoded to RGB, against OpenCV on the same progressive files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from omegaconf import DictConfig

from aosa.bench.timing import warm
from aosa.clip import Clip
from aosa.errors import VideoError
from aosa.models.base import VideoModel
from aosa.rng import generator
from aosa.video.video_file import Converter, VideoFile

# Progressive, as OpenCV gives leftover memory for interlaced frames.
_MADE = {"MPEG-4, 320×240": ("mpeg4", (240, 320), 150), "H.264, 1280×720": ("libx264", (720, 1280), 60)}


def rows(config: DictConfig, model: VideoModel, clip: Clip) -> Iterator[dict[str, Any]]:
    """Frames a second of each, and the ratio of their times: every frame decoded, and every frame converted too."""
    with tempfile.TemporaryDirectory() as folder:
        files = {name: _make(Path(folder), *made) for name, made in _MADE.items()}
        if config.videos is not None:
            files = {Path(video).name: Path(video).expanduser() for video in config.videos}
        for name, path in files.items():
            frames = _read(path, False)
            for what, convert in (("decoded", False), ("decoded to RGB", True)):
                acts = [partial(_read_opencv, path, convert), partial(_read, path, convert)]
                floor, ours = warm(acts, model, config.repeats)
                yield {"what": f"{name}, {what} by OpenCV", "value": frames / floor, "unit": "frames/s"}
                yield {"what": f"{name}, {what}", "value": frames / ours, "unit": "frames/s"}
                yield {"what": f"{name}, {what}, time / OpenCV's", "value": ours / floor, "unit": "×", "limit": 1.25}


def _read(path: Path, convert: bool) -> int:
    frames, converter = 0, Converter()
    for _, frame in VideoFile(path):
        if convert:
            converter(path, frame)
        frames += 1
    return frames


def _read_opencv(path: Path, convert: bool) -> int:
    frames, capture = 0, cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG)
    while capture.grab():
        if convert:
            cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB)
        frames += 1
    capture.release()
    if not frames:
        raise VideoError(f"{path}: OpenCV decodes nothing of it")
    return frames


def _make(folder: Path, codec: str, size: tuple[int, int], frames: int) -> Path:
    """A texture that drifts by two pixels a frame."""
    height, width = size
    noise = torch.randint(0, 256, (height, width + 2 * frames, 3), dtype=torch.uint8, generator=generator("decode"))
    scene = cv2.GaussianBlur(noise.numpy(), (0, 0), 3)
    path = folder / f"{codec}.mp4"
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream(codec, rate=25)  # type: ignore[call-overload]
        stream.height, stream.width, stream.pix_fmt, stream.bit_rate = height, width, "yuv420p", 4 * height * width
        for i in range(frames):
            pixels = np.ascontiguousarray(scene[:, 2 * i : 2 * i + width]).astype(np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    return path
