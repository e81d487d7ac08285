"""Class probabilities over the time of a video, as a strip below its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from aosa.report.figures import PALETTE
from aosa.report.overlay import Pixels, load_font

COLOURS = tuple(ImageColor.getrgb(colour) for colour in PALETTE)
MAX_CLASSES = len(COLOURS)
_INK, _GREY, _LIGHT = (20, 20, 20), (96, 96, 96), (224, 224, 224)
_SMOOTH = 4  # lines are drawn so many times larger, then shrunk


class Timeline:
    """Curves with a legend, and a cursor that moves.

    Args:
        seconds: W, the middle of each window, ascending; before the first and after the last the curves are flat.
        probabilities: W×K, of K classes, at most `MAX_CLASSES`.
        names: K, in the order of the legend.
        captions: W, the line above the curves while the cursor is nearest to that window.
        duration: seconds of the whole video.
        width: of the strip in pixels.
    """

    def __init__(
        self,
        seconds: NDArray[np.float64],
        probabilities: NDArray[np.float64],
        names: Sequence[str],
        captions: Sequence[str],
        duration: float,
        width: int,
    ) -> None:
        self.seconds, self.probabilities = seconds, probabilities
        self.names, self.captions, self.duration = list(names), list(captions), duration
        unit = width / 640
        self._text, self._head = load_font(max(8, round(12 * unit))), load_font(max(9, round(14 * unit)), bold=True)
        self._unit, self.width, self.height = unit, width, round(170 * unit) // 2 * 2
        self._box = (round(36 * unit), round(32 * unit), round(396 * unit), self.height - round(24 * unit))

    def image(self, second: float | None = None) -> Pixels:
        """uint8 height×width×3: the strip with its cursor at that time, and each class's value there; without a time
        no cursor, and the highest value of each."""
        page = self._page.copy()
        draw = ImageDraw.Draw(page)
        left, top, right, bottom = self._box
        if second is None:
            line, values = "Highest probability of each class", self.probabilities.max(axis=0)
        else:
            x = round(self._x(second))
            draw.line([(x, top), (x, bottom)], _INK, max(1, round(1.5 * self._unit)))
            line = f"{_clock(second)}   {self.captions[int(np.abs(self.seconds - second).argmin())]}"
            values = np.array([np.interp(second, self.seconds, column) for column in self.probabilities.T])
        line = _fit(line, self._head, self.width - 2 * left)
        draw.text((left, round(16 * self._unit)), line, _INK, self._head, "lm")
        for value, y in zip(values, self._rows(), strict=True):
            draw.text((right + round(62 * self._unit), y), f"{value:.2f}", _INK, self._text, "rm")
        return np.asarray(page).copy()

    @cached_property
    def _page(self) -> Image.Image:
        """All that does not move."""
        left, top, right, bottom = self._box
        page = Image.new("RGB", (self.width * _SMOOTH, self.height * _SMOOTH), "white")
        draw = ImageDraw.Draw(page)
        for share in (0.0, 0.5, 1.0):
            y = (bottom + share * (top - bottom)) * _SMOOTH
            draw.line([(left * _SMOOTH, y), (right * _SMOOTH, y)], _LIGHT, round(_SMOOTH * self._unit))
        times = [0.0, *self.seconds, self.duration]
        for k in reversed(range(len(self.names))):  # the first of the legend on top
            values = np.interp(times, self.seconds, self.probabilities[:, k])
            points = [
                (self._x(t) * _SMOOTH, (bottom + v * (top - bottom)) * _SMOOTH)
                for t, v in zip(times, values, strict=True)
            ]
            draw.line(points, COLOURS[k], round(2 * _SMOOTH * self._unit), "curve")
        page = page.resize((self.width, self.height), Image.Resampling.BOX)
        draw = ImageDraw.Draw(page)
        for share in (0.0, 0.5, 1.0):
            y = round(bottom + share * (top - bottom))
            draw.text((left - round(6 * self._unit), y), f"{share:g}", _GREY, self._text, "rm")
        for t in _ticks(self.duration):
            x = round(self._x(t))
            draw.line([(x, bottom), (x, bottom + round(4 * self._unit))], _GREY)
            draw.text((x, bottom + round(6 * self._unit)), _clock(t, t % 1 > 0), _GREY, self._text, "mt")
        start, name = right + round(12 * self._unit), right + round(70 * self._unit)
        for k, y in enumerate(self._rows()):
            draw.line([(start, y), (start + round(14 * self._unit), y)], COLOURS[k], max(2, round(3 * self._unit)))
            shown = _fit(self.names[k], self._text, self.width - name - round(6 * self._unit))
            draw.text((name, y), shown, _INK, self._text, "lm")
        return page

    def _x(self, second: float) -> float:
        left, _, right, _ = self._box
        return left + (right - left) * min(1.0, max(0.0, second / self.duration))

    def _rows(self) -> list[int]:
        _, top, _, bottom = self._box
        return [round(top + (k + 0.5) * (bottom - top) / max(5, len(self.names))) for k in range(len(self.names))]


def _ticks(duration: float) -> list[float]:
    """At most nine round times from 0 on."""
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
    step = next((s for s in steps if duration / s <= 8), steps[-1] * math.ceil(duration / steps[-1] / 8))
    return [step * i for i in range(int(duration / step) + 1)]


def _clock(second: float, fraction: bool = True) -> str:
    """``7.4 s``, ``1:02.5`` or ``1:30:00.0``."""
    tenths = round(second * 10)
    minutes, rest = divmod(tenths, 600)
    end = f"{rest / 10:.1f}" if fraction else f"{rest // 10}"
    if not minutes:
        return f"{end} s"
    end = end.zfill(4 if fraction else 2)
    return f"{minutes}:{end}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{end}"


def _fit(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, cut so that it fits."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"
