"""3D Sampled Occlusion Sensitivity: a window slid over the clip."""

from __future__ import annotations

from aosa.explainers.removal import Removal


class SOS(Removal):
    """Slide a window over the clip: 1 − f(x without the window), zoomed linearly from the grid of windows.

    Zeiler and Fergus 2014 in three dimensions, as REVEX has it (4.4, Table 2): windows of T/4 × H/7 × W/7 at every half
    of their length, 7·13·13 = 1183 forward passes.

    Args:
        grid, removal: see `aosa.explainers.removal.Removal`.

    Raises:
        ConfigError: an option out of its range, or a grid finer than the clip.
    """

    def __init__(
        self,
        grid: tuple[int, int, int] = (4, 7, 7),
        removal: str = "black",
    ) -> None:
        super().__init__(
            segmentation="windows",
            grid=grid,
            selection="one_out",
            removal=removal,
            summary="value",
        )
