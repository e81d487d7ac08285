"""Pictures in rows and columns, with names and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aosa.errors import AosaError
from aosa.report.overlay import Pixels

_SIDE = 1.5  # height of a picture, inches


def picture_grid(
    rows: Mapping[str, Sequence[Pixels]],
    *,
    heads: Sequence[str] = (),
    notes: Mapping[str, Sequence[str]] | None = None,
    title: str | None = None,
) -> Figure:
    """Rows of pictures, all of one size.

    Args:
        rows: name at the left → uint8 H×W×3 RGB pictures.
        heads: a word above each column.
        notes: name of a row → a line beneath each of its pictures.
        title: a line above.

    Raises:
        AosaError: no picture.
    """
    columns = max((len(pictures) for pictures in rows.values()), default=0)
    if columns == 0:
        raise AosaError("there are no pictures to draw")
    height, width = next(p for pictures in rows.values() for p in pictures).shape[:2]
    side = _SIDE * (1.25 if notes else 1.05)
    names = 0.3 + 0.085 * max(map(len, rows))
    figure = Figure(figsize=(names + columns * _SIDE * width / height, 0.6 + len(rows) * side), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, pictures) in zip(panels, rows.items(), strict=True):
        beneath = (notes or {}).get(name, ())
        for at, axes in enumerate(line):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if at < len(pictures):
                axes.imshow(pictures[at], interpolation="antialiased")
            if at < len(beneath):
                axes.set_xlabel(beneath[at], fontsize="small")
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
    for axes, head in zip(panels[0], heads, strict=False):
        axes.set_title(head, fontsize="medium")
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure
