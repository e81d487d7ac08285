"""Saliency laid over the video: frames, MP4 files, contact sheets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import cv2
import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aosa.clip import Clip
from aosa.errors import AosaError
from aosa.files import whole_file
from aosa.saliency import SaliencyMap, as_array
from aosa.subsample import subsample

Pixels = NDArray[np.uint8]
Values = SaliencyMap | Tensor | NDArray[Any]  # T×H×W, larger = more important

# Turbo without its darkest ends: the one map tried that stands out from bright and dark scenes alike.
_COLOURS = (matplotlib.colormaps["turbo"](np.linspace(0.06, 0.93, 256))[:, :3] * 255).round().astype(np.uint8)
_GREYED = 0.6  # how far the scene loses its own colours, so that colour means saliency
MIN_VIDEO_HEIGHT = 224


@dataclass(frozen=True)
class Overlay:
    """A clip under its map.

    Attributes:
        frames: uint8 T×H×W×3, RGB, of the clip's size.
    """

    frames: Pixels

    def save(self, path: str | os.PathLike[str], *, fps: float = 8) -> Path:
        """Write an MP4; see `save_video`."""
        return save_video(self.frames, path, fps)


def overlay(
    clip: Clip, saliency: Values, *, alpha: float = 0.6, percentile: tuple[float, float] = (1.0, 99.0)
) -> Overlay:
    """Lay a map over its clip.

    A map orders voxels and has no natural zero, so colours run from the low to the high percentile of
    the whole clip, never of one frame: a frame without evidence looks like one. Opacity grows in
    proportion to the value, over a scene that is partly greyed: it stays visible where the map says little.

    Args:
        saliency: as an explainer gives it; or a bare tensor or array, T×H×W, larger = more important.
        alpha: opacity of the largest values, 0 to 1.
        percentile: values at or beyond these take the ends of the colour map.

    Raises:
        AosaError: the map is not finite or not of the clip's size, or an option is out of range.
    """
    if not 0 <= alpha <= 1:
        raise AosaError(f"alpha={alpha}: must lie between 0 and 1")
    return Overlay(lay(clip.frames.numpy(), normalise_map(clip, saliency, percentile), alpha))


def lay(frames: Pixels, value: NDArray[np.float32], alpha: float = 0.6) -> Pixels:
    """Colours over a partly greyed scene: uint8 …×3 pixels under values in [0, 1]."""
    scene = frames.astype(np.float32)
    grey = scene @ np.array([0.299, 0.587, 0.114], np.float32)
    scene = scene + _GREYED * (grey[..., None] - scene)
    opacity = alpha * value[..., None]
    mixed = scene * (1 - opacity) + colour(value) * opacity
    return mixed.round().astype(np.uint8)


def normalise_map(clip: Clip, saliency: Values, percentile: tuple[float, float] = (1.0, 99.0)) -> NDArray[np.float32]:
    """The map as T×H×W in [0, 1], from the low to the high percentile over the whole clip. A constant
    map becomes 0; one whose percentiles are the same (almost all zeros) runs from minimum to maximum."""
    values = as_array(saliency)
    if values.shape != clip.size:
        raise AosaError(f"clip {clip.id!r}: the map is {values.shape}, the clip {clip.size} (T, H, W)")
    if not 0 <= percentile[0] < percentile[1] <= 100:
        raise AosaError(f"percentile={percentile}: must be two numbers between 0 and 100, the lower first")
    if not np.isfinite(values).all():
        raise AosaError(f"clip {clip.id!r}: the map holds NaN or infinity")
    return to_unit(values, *colour_range(values, percentile))


def colour_range(saliency: Values, percentile: tuple[float, float] = (1.0, 99.0)) -> tuple[float, float]:
    """The values that take the ends of the colour map, see `normalise_map`."""
    values = as_array(saliency).astype(np.float64)
    low, high = np.percentile(values, percentile)
    return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))


def to_unit(saliency: Values, low: float, high: float) -> NDArray[np.float32]:
    """A map in [0, 1]: 0 at `low` and below, 1 at `high` and above; all 0 when these are the same."""
    values = as_array(saliency).astype(np.float64)
    if low == high:
        return np.zeros(values.shape, np.float32)
    return ((values - low) / (high - low)).clip(0, 1).astype(np.float32)


def colour(value: NDArray[np.float32]) -> Pixels:
    """Values in [0, 1] as RGB."""
    return _COLOURS[(value * 255).round().astype(np.uint8)]


def save_video(frames: Iterable[Pixels], path: str | os.PathLike[str], fps: float = 8) -> Path:
    """Write H.264 in an MP4 that browsers play (yuv420p, BT.709, index first). The same frames give the same bytes.

    Small frames are enlarged by a whole factor to at least 224 pixels of height; an odd side loses its
    last row or column.

    Args:
        frames: uint8 T×H×W×3, RGB; or one frame after the other, each held only while it is written.

    Raises:
        AosaError: the frames are of another kind.
        OSError: the file cannot be written.
    """
    images = iter(frames)
    first = next(images, None)
    if first is None or first.dtype != np.uint8 or first.ndim != 3 or first.shape[2] != 3 or 0 in first.shape:
        got = "none" if first is None else f"{first.dtype} {first.shape}"
        raise AosaError(f"{path}: a video needs uint8 T×H×W×3 frames; each is H×W×3, got {got}")
    factor = max(1, -(-MIN_VIDEO_HEIGHT // first.shape[0]))
    height, width = (max(2, factor * side // 2 * 2) for side in first.shape[:2])
    with (
        whole_file(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        # Without cpu-independent, x264's rate control depends on the processor and even on memory alignment.
        stream.options = {"crf": "18", "preset": "veryfast", "x264-params": "cpu-independent=1"}
        context = stream.codec_context
        context.thread_count = 1
        context.colorspace = context.color_primaries = context.color_trc = 1  # BT.709
        context.color_range = 1  # limited
        for image in chain([first], images):
            if image.shape != first.shape:
                raise AosaError(f"{path}: the size of the frames changes from {first.shape} to {image.shape}")
            big = enlarge(image, factor)[:height, :width]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(big), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(stream.encode())
    return Path(path)


def save_png(image: Pixels, path: str | os.PathLike[str]) -> Path:
    """Write a uint8 H×W×3 RGB image as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    with whole_file(path) as temporary:
        Image.fromarray(image).save(temporary, format="PNG")
    return Path(path)


def contact_sheet(clip: Clip, saliency: Values, *, columns: int = 8, title: str | None = None) -> Pixels:
    """One figure of a map: frames, map and overlay as rows, evenly spaced frames as columns.

    Args:
        saliency: as an explainer gives it; or a bare tensor or array, T×H×W, larger = more important.
        columns: at most so many frames.
        title: a line above: class, probability, explainer.

    Returns:
        uint8 height×width×3, RGB, on white.
    """
    rows = {
        "Frames": clip.frames.numpy(),
        "Map": colour(normalise_map(clip, saliency)),
        "Overlay": overlay(clip, saliency).frames,
    }
    return _sheet(rows, columns, title)


def comparison_sheet(
    clip: Clip, saliencies: Mapping[str, Values], *, columns: int = 8, title: str | None = None
) -> Pixels:
    """One figure of several maps of one clip: the frames, then a row of overlays per explainer.

    Args:
        saliencies: name to show → map.

    Returns:
        uint8 height×width×3, RGB, on white.
    """
    rows = {name: overlay(clip, saliency).frames for name, saliency in saliencies.items()}
    return _sheet({"Frames": clip.frames.numpy(), **rows}, columns, title)


_CELL, _GAP, _TEXT, _HEAD = 168, 6, 20, 26
_INK, _GREY = (20, 20, 20), (96, 96, 96)


def _sheet(rows: Mapping[str, Pixels], columns: int, title: str | None) -> Pixels:
    """Rows of frames in a grid: names at the left, frame numbers (from 0) below, a colour bar at the right."""
    if columns < 1:
        raise AosaError(f"columns={columns}: must be at least 1")
    count, height, width = next(iter(rows.values())).shape[:3]
    chosen = subsample(range(count), columns)
    text, head = load_font(_TEXT), load_font(_HEAD, bold=True)
    cell_h, cell_w = _CELL, max(1, round(_CELL * width / height))
    margin = 24
    left = margin + round(max(text.getlength(name) for name in rows)) + 16
    bar_left = left + len(chosen) * (cell_w + _GAP) + 10
    right = bar_left + 18 + round(text.getlength("high")) + 8 + margin
    lines = _wrap(title, head, right - 2 * margin) if title else []
    top = margin + len(lines) * (_HEAD + 8) + (8 if lines else 0)
    bottom = top + len(rows) * (cell_h + _GAP)
    page = Image.new("RGB", (right, bottom + _TEXT + 8 + margin - 8), "white")
    draw = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        draw.text((margin, margin + number * (_HEAD + 8) + _HEAD // 2), line, _INK, head, anchor="lm")
    for row, (name, frames) in enumerate(rows.items()):
        y = top + row * (cell_h + _GAP)
        draw.text((left - 16, y + cell_h // 2), name, _INK, text, anchor="rm")
        for column, index in enumerate(chosen):
            big = cv2.resize(frames[index], (cell_w, cell_h), interpolation=_method(cell_h / height))
            page.paste(Image.fromarray(big), (left + column * (cell_w + _GAP), y))
    for column, index in enumerate(chosen):
        x = left + column * (cell_w + _GAP) + cell_w // 2
        label = f"frame {index}" if column == 0 else str(index)
        draw.text((x, bottom + 4), label, _GREY, text, anchor="mt")
    bar_top = top + cell_h + _GAP
    bar_bottom = min(bottom, bar_top + 2 * (cell_h + _GAP)) - _GAP
    ramp = colour(np.linspace(1, 0, bar_bottom - bar_top, dtype=np.float32))[:, None].repeat(18, axis=1)
    page.paste(Image.fromarray(ramp), (bar_left, bar_top))
    draw.text((bar_left + 26, bar_top), "high", _GREY, text, anchor="lt")
    draw.text((bar_left + 26, bar_bottom), "low", _GREY, text, anchor="ls")
    return np.asarray(page).copy()


def _wrap(line: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in line.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def load_font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib: the same picture on every machine."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def enlarge(image: Pixels, factor: int) -> Pixels:
    """A frame larger by a whole factor."""
    if factor == 1:
        return image
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=_method(factor)), dtype=np.uint8)


def _method(factor: float) -> int:
    return cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
