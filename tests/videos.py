"""Video files of every kind, made by PyAV, and damage done to them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

INTERLACED = 1 << 18 | 1 << 29  # AV_CODEC_FLAG_INTERLACED_DCT, AV_CODEC_FLAG_INTERLACED_ME


def scene(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """uint8 T×H×W×3: smooth colours that move to the left by 3 pixels a frame: no two frames are alike."""
    noise = np.random.default_rng(0).uniform(0, 255, (height, width + 3 * frames, 3)).astype(np.float32)
    smooth = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 5), None, 16, 240, cv2.NORM_MINMAX).astype(np.uint8)
    return np.stack([smooth[:, 3 * i : 3 * i + width] for i in range(frames)])


def encode(
    path: Path,
    frames: np.ndarray,
    codec: str,
    pixels: str = "yuv420p",
    *,
    times: Sequence[int] | None = None,
    flags: int = 0,
    container: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    format: str | None = None,
    rate: Fraction | int = 25,
    **options: str | int,
) -> Path:
    """Write frames; the context's ``matrix`` and ``full_range`` among the options are tags, the rest the encoder's."""
    matrix, full = options.pop("matrix", None), options.pop("full_range", False)
    try:
        av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w", format=format, options=container or {}) as file:
        file.metadata.update(metadata or {})
        stream = file.add_stream(codec, rate=rate, options={k.replace("_", "-"): str(v) for k, v in options.items()})
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], pixels
        context = stream.codec_context
        context.flags |= flags
        if matrix is not None:
            context.colorspace, context.color_range = matrix, 2 if full else 1
        for i, pixel in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixel), format="rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=2 if full else None)
            frame.pts = i if times is None else times[i]
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def packets(path: Path) -> list[bytes]:
    """The data of each packet, in the file's order."""
    with av.open(str(path)) as file:
        return [bytes(p) for p in file.demux(video=0) if p.size]


def spoil(path: Path, number: int, keep: float = 0) -> Path:
    """A copy in which a packet holds zeros, after a share of it that is kept."""
    data = path.read_bytes()
    with av.open(str(path)) as file:
        packet = [p for p in file.demux(video=0) if p.size][number]
        begin, end = data.index(bytes(packet), packet.pos), packet.size
    end, begin = begin + end, begin + int(end * keep)
    other = path.with_name(f"spoilt{number}_{path.name}")
    other.write_bytes(data[:begin] + bytes(end - begin) + data[end:])
    return other


def copy(path: Path, other: Path, change=lambda number, data: data, template: Path | None = None) -> Path:
    """The packets of a file in another file, each as `change` gives it; None leaves it out."""
    with av.open(str(path)) as given, av.open(str(other), "w") as made:
        stream = made.add_stream_from_template(given.streams.video[0])
        for number, packet in enumerate(p for p in given.demux(video=0) if p.size):
            data = change(number, bytes(packet))
            if data is None:
                continue
            new = av.Packet(data)
            new.pts, new.dts, new.time_base, new.stream = packet.pts, packet.dts, packet.time_base, stream
            new.is_keyframe = packet.is_keyframe
            made.mux(new)
    return other


def set_matrix(path: Path, matrix: Sequence[int], shift: tuple[int, int] = (0, 0)) -> Path:
    """Write a display matrix (a, b, c, d) into an MP4."""
    a, b, c, d = (v << 16 for v in matrix)
    data = path.read_bytes()
    header = data.index(b"tkhd")
    plain = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    new = struct.pack(">9i", a, b, 0, c, d, 0, *(v << 16 for v in shift), 1 << 30)
    path.write_bytes(data[:header] + data[header:].replace(plain, new, 1))
    return path
