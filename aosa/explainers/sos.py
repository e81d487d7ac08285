"""3D Sampled Occlusion Sensitivity: a window slid over the clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aosa.explainers.removal import RemovalMethod
from aosa.fields import fixed


@dataclass
class SOS(RemovalMethod):
    """Slide a window over the clip: 1 − f(x without the window), zoomed linearly from the grid of windows.

    Zeiler and Fergus 2014 in three dimensions, as REVEX has it (4.4, Table 2): windows of T/4 × H/7 × W/7 at every half
    of their length, 7·13·13 = 1183 forward passes.

    Raises:
        ConfigError: an option out of its range, or a grid finer than the clip.
    """

    name: ClassVar[str] = "sos"
    title: ClassVar[str] = "SOS"

    segmentation: str = fixed("windows")
    selection: str = fixed("one_out")
    summary: str = fixed("value")
