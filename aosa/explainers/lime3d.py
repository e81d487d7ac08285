"""3D LIME: a linear model of what a sample keeps."""

from __future__ import annotations

from aosa.explainers.removal import Removal


class LIME3D(Removal):
    """Fit a linear model to the score as a function of the super-voxels that a sample keeps.

    Ribeiro et al. 2016, as REVEX has it (4.4, Table 2): about 200 SLIC super-voxels of the whole clip, each kept with
    p = ½ in each of 1000 samples z; the map is β of min Σ w(z) (f(z) − β₀ − β·z)² + α|β|² with
    w = √exp(−d²/.25²), d = 1 − √(share kept), the cosine distance to the whole clip, and α = 1. Signed. Costs N
    forward passes.

    The clip itself is no sample of the regression, as in REVEX's code.

    Args:
        segmentation, segments, compactness, spacing, grid, flow, samples, keep, removal, kernel_width, alpha,
            seed: see `aosa.explainers.removal.Removal`.

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
        samples: int = 1000,
        keep: float = 0.5,
        removal: str = "black",
        kernel_width: float = 0.25,
        alpha: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            segmentation=segmentation,
            segments=segments,
            compactness=compactness,
            spacing=spacing,
            grid=grid,
            flow=flow,
            selection="bernoulli",
            samples=samples,
            keep=keep,
            removal=removal,
            summary="linear",
            kernel_width=kernel_width,
            alpha=alpha,
            seed=seed,
        )
