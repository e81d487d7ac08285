"""The settings of a sweep: a table, best first, and the score over each option."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aosa.errors import AosaError
from aosa.report.figures import PALETTE, save
from aosa.report.statistics import Comparison, compare, holm
from aosa.report.tables import ARROWS, MISSING
from aosa.report.titles import UNTITLED, Titles


@dataclass(frozen=True)
class Setting:
    """One setting and its score.

    Args:
        options: override → value.
        column, direction: the metric's column, and whether ``higher`` or ``lower`` is better.
        score: (weighted) mean over videos.
        low, high: its 95 % bootstrap interval; None for fewer than two groups.
        clips: video → value, weight, group.
        about: what else it came from: explainer, model, dataset, metric, commit, folder of its records.
    """

    options: dict[str, Any]
    column: str
    direction: str
    score: float
    low: float | None
    high: float | None
    clips: dict[str, Sequence[Any]]
    about: dict[str, str]

    @property
    def better(self) -> float:
        """The score, turned so that more is better."""
        return self.score if self.direction == "higher" else -self.score


def to_markdown(settings: Sequence[Setting], titles: Titles = UNTITLED) -> str:
    """A table for GitHub, best first, with each setting's difference to the best on the same videos.

    Raises:
        AosaError: settings of different columns.
    """
    ranked, keys = _ranked(settings), varying(settings)
    best = ranked[0]
    rows = [
        [*keys, f"{titles.column(best.column)} {ARROWS[best.direction]}", "n", "to the best", "p"],
        [*[":--"] * len(keys), "--:", "--:", "--:", "--:"],
    ]
    for setting, against in zip(ranked, _against_best(ranked), strict=True):
        score = _with_interval(setting.score, setting.low, setting.high)
        rows.append(
            [
                *(_shown(setting.options.get(k)) for k in keys),
                f"**{score}**" if setting is best else score,
                str(len(setting.clips)),
                "best" if setting is best else MISSING if against is None else _difference(against),
                MISSING if against is None else _p(against.adjusted),
            ]
        )
    caption = _caption(ranked, keys, titles)
    return f"{caption}\n\n" + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def to_csv(settings: Sequence[Setting]) -> str:
    """One line per setting, best first: its options, score, low, high, n, difference to the best, what it came from."""
    ranked, keys = _ranked(settings), varying(settings)
    rows = []
    for setting, against in zip(ranked, _against_best(ranked), strict=True):
        rows.append(
            {
                **{k: setting.options.get(k) for k in keys},
                "column": setting.column,
                "score": setting.score,
                "low": setting.low,
                "high": setting.high,
                "n": len(setting.clips),
                "difference": None if against is None else against.difference,
                "difference_low": None if against is None else against.low,
                "difference_high": None if against is None else against.high,
                "p": None if against is None else against.adjusted,
                **setting.about,
            }
        )
    return pd.DataFrame(rows).to_csv(index=False, float_format="%.6g", lineterminator="\n")


def draw(settings: Sequence[Setting], path: str | os.PathLike[str], titles: Titles = UNTITLED) -> list[Path]:
    """Score over each option, a panel per option that varies, with 95 % intervals.

    A line joins settings that differ in that option alone, where these are a grid; other settings are points.

    Args:
        path: where to write; the suffix is replaced by .png (150 dpi) and .pdf.
        titles: what the column is called.

    Returns:
        The two files.
    """
    ranked, keys = _ranked(settings), varying(settings)
    panels = keys or [""]
    figure = Figure(figsize=(4.8 * len(panels), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for number, key in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), number + 1)
        _panel(axes, ranked, key, [k for k in keys if k != key])
        axes.set_xlabel(key or "the only setting")
        axes.set_ylabel(f"{titles.column(ranked[0].column)} {ARROWS[ranked[0].direction]}")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    return save(figure, path)


def varying(settings: Sequence[Setting]) -> list[str]:
    """The options in which the settings differ, in the order they were given."""
    keys = dict.fromkeys(k for s in settings for k in s.options)
    return [k for k in keys if len({_shown(s.options.get(k)) for s in settings}) > 1]


def _panel(axes: Axes, ranked: Sequence[Setting], key: str, others: Sequence[str]) -> None:
    values = [s.options.get(key) for s in ranked]
    numeric = _numbers(values)
    names = sorted({_shown(v) for v in values})
    lines: dict[tuple[str, ...], list[tuple[float, Setting]]] = {}
    for setting in sorted(ranked, key=lambda s: [_order(s.options.get(k)) for k in others]):
        value = setting.options.get(key)
        at = float(value) if numeric else float(names.index(_shown(value)))  # type: ignore[arg-type]
        lines.setdefault(tuple(_shown(setting.options.get(k)) for k in others), []).append((at, setting))
    grid = len(lines) <= len(PALETTE) and any(len(points) > 1 for points in lines.values())
    places = sorted({at for points in lines.values() for at, _ in points})
    apart = 0.012 * max(places[-1] - places[0], 1e-9) if grid else 0.0  # so that intervals don't hide each other
    for number, (label, points) in enumerate(lines.items()):
        points.sort(key=lambda point: point[0])
        x = [at + apart * (number - (len(lines) - 1) / 2) for at, _ in points]
        y = np.array([s.score for _, s in points])
        # A setting of one group has no interval.
        low = [s.score if s.low is None else s.low for _, s in points]
        high = [s.score if s.high is None else s.high for _, s in points]
        axes.errorbar(
            x, y, [np.maximum(0, y - low), np.maximum(0, high - y)], marker="o", markersize=4, capsize=3, linewidth=1.5,
            color=PALETTE[number if grid else 0], linestyle="-" if grid and numeric else "none",
            label=", ".join(f"{k.rpartition('.')[2]} {v}" for k, v in zip(others, label, strict=True)),
        )  # fmt: skip
    if not numeric:
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, len(names) - 0.5)
    elif len(places) <= 8:
        axes.set_xticks(places, [f"{v:g}" for v in places])
    if grid and others:
        axes.legend(frameon=False, fontsize="small")


def _numbers(values: Sequence[object]) -> bool:
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def _order(value: object) -> tuple[float, str]:
    return (float(value), "") if isinstance(value, int | float) else (np.inf, _shown(value))


def _ranked(settings: Sequence[Setting]) -> list[Setting]:
    if len({(s.column, s.direction) for s in settings}) != 1:
        columns = ", ".join(sorted({s.column for s in settings}))
        raise AosaError(f"a sweep compares one column, these settings have {columns or 'none'}; give a name of its own")
    return sorted(settings, key=lambda s: (-s.better, [_shown(v) for v in s.options.values()]))


def _against_best(ranked: Sequence[Setting]) -> list[Comparison | None]:
    """Each setting less the best, on the videos of both; the p-values corrected for their number."""
    best = ranked[0]
    found: list[Comparison | None] = []
    for setting in ranked:
        shared = [c for c in setting.clips if c in best.clips]
        if setting is best or not shared:
            found.append(None)
            continue
        values = {name: [s.clips[c][0] for c in shared] for name, s in (("setting", setting), ("best", best))}
        weights, groups = ([best.clips[c][i] for c in shared] for i in (1, 2))
        found.append(next(iter(compare(values, groups, weights)), None))
    adjusted = iter(holm([c.p for c in found if c is not None]))
    return [None if c is None else Comparison(**{**vars(c), "adjusted": float(next(adjusted))}) for c in found]


def _caption(ranked: Sequence[Setting], keys: Sequence[str], titles: Titles) -> str:
    first = ranked[0]
    same = {k: v for k, v in first.about.items() if k not in ("records", "commit")}
    names = [titles(v) for k, v in same.items() if all(s.about[k] == v for s in ranked)]
    fixed = [f"{k}={_shown(v)}" for k, v in first.options.items() if k not in keys and k not in same]
    count = "1 setting" if len(ranked) == 1 else f"{len(ranked)} settings"
    return (
        f"{count}: {', '.join([*names, *fixed])}. Mean over n videos [95 % bootstrap interval]; difference to the best "
        "setting on the same videos, p corrected for the number of settings (Holm)."
    )


def _with_interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _difference(against: Comparison) -> str:
    known = not np.isnan(against.low)
    return _with_interval(against.difference, *((against.low, against.high) if known else (None, None)))


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _shown(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
