"""LV LOCO: what the score loses without each segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aosa.explainers.removal import RemovalMethod, SegmentOptions
from aosa.fields import fixed


@dataclass
class LOCO(SegmentOptions, RemovalMethod):
    """The score that the clip loses with each super-voxel: f(x) − f(x without r).

    Lei et al. 2018, turned local and visual by REVEX (4.4, Table 2). Signed. Costs R + 1 forward passes, R about 200.

    Raises:
        ConfigError: an option out of its range, or a grid finer than the clip.
    """

    name: ClassVar[str] = "loco"
    title: ClassVar[str] = "LOCO"

    selection: str = fixed("one_out")
    summary: str = fixed("difference")
