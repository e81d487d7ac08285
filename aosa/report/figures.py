"""Figures of aggregated records."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aosa.errors import AosaError
from aosa.files import whole_file
from aosa.report.statistics import bootstrap_interval
from aosa.report.tables import ARROWS, Cell, Table, row_key
from aosa.report.titles import UNTITLED, Titles

# Okabe and Ito's palette, which the colour-blind can tell apart, without its yellow (too light for a line).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("solid", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
_PANELS = (("deletion", "lower", "Share of voxels deleted"), ("insertion", "higher", "Share of voxels inserted"))


def curves(
    records: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    titles: Titles = UNTITLED,
) -> list[Path]:
    """Mean deletion and insertion curves per explainer with 95 % bootstrap bands over videos.

    The legend of each panel is in order of the area under the mean curve, the better first, and says it.

    Args:
        records: one per clip and explainer: ``explainer``, ``clip``, ``deletion`` and ``insertion`` (the
            probabilities at equal steps from 0 to 1), and optionally ``group``.
        path: where to write; the suffix is replaced by .png (150 dpi) and .pdf.
        title: a line above.
        titles: what explainers and panels are called.

    Returns:
        The two files.

    Raises:
        AosaError: no records, or curves of different lengths.
        OSError: a file cannot be written.
    """
    return save(curves_figure(records, title=title, titles=titles), path)


def save(figure: Figure, path: str | os.PathLike[str]) -> list[Path]:
    """Write a figure as PNG (150 dpi) and PDF, the same bytes each time; the suffix of `path` is replaced.

    Raises:
        OSError: a file cannot be written.
    """
    written = []
    for suffix, options in ((".png", {"dpi": 150}), (".pdf", {"metadata": {"CreationDate": None}})):
        target = Path(path).with_suffix(suffix)
        with whole_file(target) as temporary:
            figure.savefig(temporary, format=suffix[1:], **options)  # type: ignore[arg-type]
        written.append(target)
    return written


def scores_figure(table: Table) -> Figure:
    """A table as a picture: a panel per score, a line per row, ours with its 95 % interval and the paper's value;
    filled where a row is best or second best beyond noise."""
    columns, several = list(table.spec.columns.items()), len(table.blocks) > 1
    lines = [(block, row) for block in table.blocks for row in block.rows]
    figure = Figure(figsize=(2.2 + 2.6 * len(columns), 1.3 + 0.28 * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (column, direction) in zip(panels, columns, strict=True):
        for height, (_, (_, _, cells)) in enumerate(lines):
            _mark(axes, cells[column], height)
        axes.set_title(f"{table.spec.titles.column(column)} {ARROWS[direction]}", loc="left", fontweight="bold")
        axes.grid(axis="x", alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    names = [table.spec.titles.row(row_key(explainer, variant)) for _, (explainer, variant, _) in lines]
    if several:
        names = [f"{name}, {block.label}" for name, (block, _) in zip(names, lines, strict=True)]
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    kinds = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(kinds.values(), kinds.keys(), loc="outside lower left", ncols=len(kinds), frameon=False)
    return figure


def _mark(axes: Axes, cell: Cell, height: int) -> None:
    if cell.ours is not None:
        colour = PALETTE[0]
        if not math.isnan(cell.low):
            axes.plot([cell.low, cell.high], [height, height], color=colour, linewidth=3 if cell.mark else 1.5)
        label = "ours, best or second best beyond noise" if cell.mark else "ours, 95 % interval"
        axes.plot(cell.ours, height, "o", color=colour, markerfacecolor=colour if cell.mark else "white", label=label)
    if cell.paper is not None:
        axes.plot(cell.paper, height, "x", color=PALETTE[1], label="paper")


def curves_figure(
    records: Sequence[Mapping[str, Any]], *, title: str | None = None, titles: Titles = UNTITLED
) -> Figure:
    """The figure that `curves` writes."""
    names = list(dict.fromkeys(str(r["explainer"]) for r in records))
    if not names:
        raise AosaError("there are no curves to draw; run evaluate with deletion_insertion first")
    figure = Figure(figsize=(11, 3.6 + 0.12 * max(0, len(names) - 10)), layout="constrained")
    FigureCanvasAgg(figure)
    styles = explainer_styles(names)
    for panel, (kind, direction, label) in enumerate(_PANELS):
        axes = figure.add_subplot(1, 2, panel + 1)
        _panel(axes, [r for r in records if r.get(kind) is not None], kind, direction, styles, titles)
        axes.set_xlabel(label)
        axes.set_ylabel("Probability of the target class")
        axes.set_title(f"{titles.column(kind)} {ARROWS[direction]}", loc="left", fontweight="bold")
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def _panel(
    axes: Axes,
    records: Sequence[Mapping[str, Any]],
    kind: str,
    direction: str,
    styles: Mapping[str, dict[str, Any]],
    titles: Titles,
) -> None:
    drawn = []
    for name, style in styles.items():
        own = sorted((r for r in records if r["explainer"] == name), key=lambda r: str(r["clip"]))
        if not own:
            continue
        if len({len(r[kind]) for r in own}) != 1:
            raise AosaError(f"{kind} curves of {name}: clips have curves of different lengths")
        values = np.array([r[kind] for r in own], dtype=np.float64)
        mean, share = values.mean(axis=0), np.linspace(0, 1, values.shape[1])
        low, high = bootstrap_interval(values, [r.get("group") or r["clip"] for r in own])
        area = float((mean[1:] + mean[:-1]).mean() / 2)  # trapezoids of equal width
        axes.fill_between(share, low, high, color=style["color"], alpha=0.12, linewidth=0)
        (line,) = axes.plot(share, mean, linewidth=1.8, label=f"{area:.3f}  {titles.row(name)}", **style)
        drawn.append((area, line))
    drawn.sort(key=lambda pair: pair[0], reverse=direction == "higher")
    axes.legend(
        handles=[line for _, line in drawn], title="Area", loc="upper left", bbox_to_anchor=(1.01, 1.02),
        frameon=False, fontsize="small", alignment="left", borderaxespad=0,
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, None))
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def explainer_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """A colour and a dash per explainer; `random`, the floor, is grey and dotted."""
    styles: dict[str, dict[str, Any]] = {}
    rank = 0
    for name in names:
        if name == "random":
            styles[name] = {"color": "#808080", "linestyle": (0, (1, 1))}
            continue
        turn, colour = divmod(rank, len(PALETTE))
        styles[name] = {"color": PALETTE[colour], "linestyle": _DASHES[turn % len(_DASHES)]}
        rank += 1
    return styles
