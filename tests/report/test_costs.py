"""Figures of times and minimal masks show the means of the scores."""

from __future__ import annotations

import pandas as pd
import pytest

from aosa.errors import AosaError
from aosa.experiment.titles import titles
from aosa.report.costs import minimal_masks_figure, times_figure


def scores(values: dict[tuple[str, str, str], list[float | None]]) -> pd.DataFrame:
    """Rows of (model, explainer, column) → a value per clip."""
    rows = [
        {"dataset": "d", "model": m, "explainer": e, "variant": "", "column": c, "clip": str(i), "value": v}
        for (m, e, c), own in values.items()
        for i, v in enumerate(own)
    ]
    return pd.DataFrame(rows).astype({"value": float})


def test_bars_are_mean_times_one_after_another():
    parts = {"segmentation": [1, 3], "inference": [4, 4], "explanation": [1, 1]}
    figure = times_figure(scores({("m", "osa", f"seconds_{k}"): v for k, v in parts.items()}), titles())
    (axes,) = figure.axes
    assert [(bar.get_x(), bar.get_width()) for bar in axes.patches] == [(0, 2), (2, 4), (6, 1)]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["OSA"]


def test_lines_are_means_of_the_clips_that_reach_the_threshold():
    values = {
        ("m", "osa", "minimal_deletion_0.5"): [0.1, 0.3],
        ("m", "osa", "minimal_deletion_0.1"): [0.6, None],
        ("m", "osa", "minimal_insertion_0.5"): [0.2, 0.2],
        ("n", "osa", "minimal_deletion_0.5"): [0.8, 0.8],
        ("n", "osa", "deletion"): [1.0, 1.0],
    }
    figure = minimal_masks_figure(scores(values), titles())
    assert len(figure.axes) == 6  # the mean of all, then each model
    mean, insertion, own = (figure.axes[n].lines[0] for n in (0, 1, 2))
    assert list(mean.get_xdata()) == [0.1, 0.5]
    assert list(mean.get_ydata()) == pytest.approx([0.6, 0.5])
    assert list(insertion.get_ydata()) == [0.2]
    assert list(own.get_ydata()) == pytest.approx([0.6, 0.2])


@pytest.mark.parametrize("draw", [times_figure, minimal_masks_figure])
def test_nothing_to_draw(draw):
    with pytest.raises(AosaError, match="to draw; run reproduce first"):
        draw(scores({("m", "osa", "deletion"): [0.5]}))
