"""Videos of several containers and codecs, damaged: frames that are given are the same each time."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

import av
import numpy as np

from aosa.clip import InputSpec
from aosa.data.files import read_clip
from aosa.video import decode
from tests.conftest import SHARED_DATA
from tests.fuzz.mutate import mutate

_FRAMES, _HEIGHT, _WIDTH = 12, 48, 64
_KINDS = (
    ("avi", "mpeg4", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("mp4", "mpeg4", "yuv420p"),
    ("mp4", "libx264", "yuv420p"),
    ("mkv", "ffv1", "yuv420p"),
    ("mkv", "libx264", "yuv422p10le"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("mpg", "mpeg2video", "yuv420p"),
    ("mov", "prores_ks", "yuv422p10le"),
    ("flv", "flv1", "yuv420p"),
    ("gif", "gif", "rgb8"),
)
_REAL = ("ucf101/UCF-101/Archery/v_Archery_g01_c01.avi", "kinetics400/val/abseiling/abseiling_k400.mp4")


def inputs(rng: random.Random) -> Iterator[bytes]:
    """The name's ending, which tells some readers the format, a zero byte, and the file."""
    made = seeds()
    real = [(Path(name).suffix[1:], SHARED_DATA / name) for name in _REAL if (SHARED_DATA / name).is_file()]
    while True:
        if real and rng.random() < 0.02:
            ending, path = rng.choice(real)
            content = path.read_bytes()
        else:
            ending, content = rng.choice(made)
        if rng.random() < 0.05:
            ending = rng.choice(made)[0]
        yield ending.encode() + b"\0" + mutate(rng, content, [other for _, other in made])


def check(content: bytes, folder: Path) -> None:
    ending, _, data = content.partition(b"\0")
    path = folder / f"clip.{ending.decode(errors='replace')[:8] or 'avi'}"
    path.write_bytes(data)
    info = decode.probe(path)
    assert info.frames > 0
    assert info.width > 0
    assert info.height > 0
    spec = InputSpec(frames=4, size=(24, 32))
    clips = []
    for _ in range(2):
        decode.probed.clear()
        clips.append(read_clip(path, spec)[0].frames)
    assert (np.asarray(clips[0]) == np.asarray(clips[1])).all(), "two decodings differ"


@cache
def seeds() -> list[tuple[str, bytes]]:
    """A moving square, in every format that this build of FFmpeg writes."""
    made = []
    with tempfile.TemporaryDirectory() as folder:
        for ending, codec, pixels in _KINDS:
            path = Path(folder) / f"clip.{ending}"
            with suppress(av.FFmpegError, ValueError):  # without this encoder
                _write(path, codec, pixels)
                made.append((ending, path.read_bytes()))
    return made


def _write(path: Path, codec: str, pixels: str) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = _HEIGHT, _WIDTH, pixels
        stream.gop_size = 4
        for i in range(_FRAMES):
            frame = np.full((_HEIGHT, _WIDTH, 3), 60, np.uint8)
            frame[8:24, 4 * i : 4 * i + 16] = (200, 40 + 10 * i, 90)
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format=pixels)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
