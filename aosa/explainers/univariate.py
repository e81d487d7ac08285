"""LV Univariate Predictors: what each segment scores alone."""

from __future__ import annotations

from aosa.explainers.removal import Removal


class Univariate(Removal):
    """The score that each super-voxel gains alone: f(only r) − f(nothing).

    Guyon and Elisseeff 2003, turned local and visual by REVEX (4.4, Table 2). Signed. Costs R + 1 forward passes, R
    about 200. REVEX's code runs one empty sample more and counts it as a region; here it is left out.

    Args:
        segmentation, segments, compactness, spacing, grid, flow, removal: see
            `aosa.explainers.removal.Removal`.

    Raises:
        ConfigError: an option out of its range, or a grid finer than the clip.
    """

    def __init__(
        self,
        segmentation: str = "slic",
        segments: int = 200,
        compactness: float = 20.0,
        spacing: tuple[float, float, float] = (0.2, 1.0, 1.0),
        grid: tuple[int, int, int] = (4, 7, 7),
        flow: str | None = None,
        removal: str = "black",
    ) -> None:
        super().__init__(
            segmentation=segmentation,
            segments=segments,
            compactness=compactness,
            spacing=spacing,
            grid=grid,
            flow=flow,
            selection="one_in",
            removal=removal,
            summary="difference",
        )
