"""LV Univariate Predictors: what each segment scores alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aosa.explainers.removal import RemovalMethod, SegmentOptions
from aosa.fields import fixed


@dataclass
class Univariate(SegmentOptions, RemovalMethod):
    """The score that each super-voxel gains alone: f(only r) − f(nothing).

    Guyon and Elisseeff 2003, turned local and visual by REVEX (4.4, Table 2). Signed. Costs R + 1 forward passes, R
    about 200. REVEX's code runs one empty sample more and counts it as a region; here it is left out.

    Raises:
        ConfigError: an option out of its range, or a grid finer than the clip.
    """

    name: ClassVar[str] = "univariate"
    title: ClassVar[str] = "Univariate"

    selection: str = fixed("one_in")
    summary: str = fixed("difference")
