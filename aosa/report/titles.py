"""What tables, figures and pages call explainers, models, data sets and columns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

# What no class is there for: the network's own accuracy, times, printed values, and options in the names of variants.
_OWN = {
    "": "Network",
    "aosa_journal": "AOSA (journal)",
    "aosa_wacv": "AOSA (WACV 2023)",
    "revex": "REVEX",
    "delta_t": "Δt",
}
_OWN_COLUMNS = {
    "seconds": "Seconds",
    "seconds_segmentation": "of these masks, regions, flow",
    "seconds_inference": "of these inference",
    "seconds_explanation": "of these the rest",
    "user_score": "Users' score",
}
_AVERAGES = {"class": "(over classes)", "video": "(over videos)"}


def _nothing(name: str) -> str | None:
    return None


@dataclass(frozen=True)
class Titles:
    """Titles by name; what has none is called by its name.

    Args:
        name: the title of an explainer, model or data set, by the name of its config; None where it has none.
        column: likewise of a metric's column.
    """

    of_name: Callable[[str], str | None] = _nothing
    of_column: Callable[[str], str | None] = _nothing

    def __call__(self, name: str) -> str:
        """Of an explainer, model, data set or paper."""
        return _OWN.get(name) or self.of_name(name) or name

    def column(self, name: str) -> str:
        """Of a column; ``spt_class`` is a column's average over classes, ``minimal_deletion_0.5`` one of a metric's
        thresholds."""
        if title := _OWN_COLUMNS.get(name) or self.of_column(name):
            return title
        stem, _, rest = name.rpartition("_")
        title = self.of_column(stem)
        if title and rest in _AVERAGES:
            return f"{title} {_AVERAGES[rest]}"
        return f"{title} to {rest}" if title and re.fullmatch(r"[\d.e+-]+", rest) else name

    def row(self, key: str) -> str:
        """Of the row of a table, see `aosa.report.tables.row_key`."""
        explainer, bracket, variant = key.partition(" (")
        return self(explainer) + bracket + re.sub(r"\w+(?==)", lambda option: self(option[0]), variant)

    def place(self, dataset: str, model: str) -> str:
        """``R3D-50 on UCF101``."""
        return f"{self(model)} on {self(dataset)}"


UNTITLED = Titles()
