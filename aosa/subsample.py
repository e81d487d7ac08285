"""Some of many, evenly spaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def subsample(items: Sequence[T], count: int) -> list[T]:
    """So many of the items at even distances, the first and the last among them, in their order; all of them where
    there are no more."""
    places = np.linspace(0, len(items) - 1, max(0, min(count, len(items)))).round().astype(int)
    return [items[at] for at in places]
