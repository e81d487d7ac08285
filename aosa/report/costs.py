"""Figures of what explanations cost, and of how little of a clip they need."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aosa.errors import AosaError
from aosa.report.figures import PALETTE, explainer_styles
from aosa.report.tables import row_key
from aosa.report.titles import UNTITLED, Titles

_PARTS = {
    "seconds_segmentation": ("Segmentation", PALETTE[0]),
    "seconds_inference": ("Inference", PALETTE[5]),
    "seconds_explanation": ("Explanation", PALETTE[2]),
}
_GAMES = ("deletion", "insertion")


def times_figure(scores: pd.DataFrame, titles: Titles = UNTITLED) -> Figure:
    """Mean seconds per clip of each explainer in their parts, over all and by data set and model (REVEX, Figs. 9, 10).

    Args:
        scores: rows of an experiment (dataset, model, explainer, variant, column, value).
        titles: what rows and places are called.

    Raises:
        AosaError: no times among them.
    """
    found, parts = _parts(scores[scores["column"].isin(list(_PARTS))], "times", titles)
    figure = Figure(figsize=(7, sum(0.7 + 0.25 * len(found) for _ in parts) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, part) in zip(figure.subplots(len(parts), 1, squeeze=False)[:, 0], parts, strict=True):
        means = part.pivot_table(index="row", columns="column", values="value", aggfunc="mean").reindex(found)
        left = np.zeros(len(found))
        for column, (label, colour) in _PARTS.items():
            width = means[column].fillna(0).to_numpy()
            axes.barh(range(len(found)), width, left=left, color=colour, label=label)
            left += width
        axes.set_yticks(range(len(found)), [titles.row(row) for row in found])
        axes.invert_yaxis()
        _dress(axes, title, "Seconds per clip")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=len(labels), frameon=False)
    return figure


def minimal_masks_figure(scores: pd.DataFrame, titles: Titles = UNTITLED) -> Figure:
    """Mean size of the minimal mask over the thresholds, over all and by data set and model (REVEX, Figs. 11, 12). A
    threshold's mean is over the clips that reach it.

    Args:
        scores, titles: as for `times_figure`.

    Raises:
        AosaError: no minimal masks among them.
    """
    split = scores["column"].str.extract(r"^minimal_(deletion|insertion)_(.+)$")
    masks = scores.assign(game=split[0], threshold=split[1].astype(float)).dropna(subset=["game"])
    found, parts = _parts(masks, "minimal masks", titles)
    figure = Figure(figsize=(10, 0.5 + 2.6 * len(parts)), layout="constrained")
    FigureCanvasAgg(figure)
    styles = explainer_styles(found)
    for line, (title, part) in zip(figure.subplots(len(parts), 2, squeeze=False), parts, strict=True):
        for axes, game in zip(line, _GAMES, strict=True):
            for row in found:
                own = part[(part["row"] == row) & (part["game"] == game)].groupby("threshold")["value"].mean()
                axes.plot(own.index, own.to_numpy(), label=titles.row(row), **styles[row])
            _dress(axes, f"{titles.column(game)}: {title}", "Probability to reach")
            axes.set_ylabel("Share of voxels")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=min(4, len(labels)), frameon=False)
    return figure


def _parts(rows: pd.DataFrame, what: str, titles: Titles) -> tuple[list[str], list[tuple[str, pd.DataFrame]]]:
    """The rows there are, and the scores over all and, where there are several, of each data set and model."""
    if rows.empty:
        raise AosaError(f"there are no {what} to draw; run reproduce first")
    rows = rows.assign(row=[row_key(*pair) for pair in zip(rows["explainer"], rows["variant"], strict=True)])
    blocks = [
        (titles.place(str(dataset), str(model)), own)
        for (dataset, model), own in rows.groupby(["dataset", "model"], sort=False)
    ]
    whole = [("mean of all", rows)] if len(blocks) > 1 else []
    return list(dict.fromkeys(rows["row"])), [*whole, *blocks]


def _dress(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontsize="medium", fontweight="bold")
    axes.set_xlabel(label)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
