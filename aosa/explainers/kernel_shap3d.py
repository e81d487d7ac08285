"""3D Kernel SHAP: Shapley values of segments."""

from __future__ import annotations

from aosa.explainers.removal import Removal


class KernelSHAP3D(Removal):
    """Shapley values of super-voxels by a weighted regression.

    Lundberg and Lee 2017, as REVEX has it (4.4, Table 2): about 200 SLIC super-voxels, 1000 coalitions z by the Shapley
    kernel (`aosa.removal.selection.shapley_kernel`); φ minimises Σ w (f(z) − f(∅) − φ·z)² under Σφ = f(x) − f(∅). With
    2^R − 2 samples or more the values are exact. Signed. Costs N + 2 forward passes.

    REVEX calls the shap package with its default of `l1_reg`, which sets most regions to 0: ``aic`` below version
    0.47, ``10`` since. The default here is the plain regression of the paper.

    Args:
        segmentation, segments, compactness, spacing, grid, flow, samples, removal, l1_reg, seed: see
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
        samples: int = 1000,
        removal: str = "black",
        l1_reg: str | int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            segmentation=segmentation,
            segments=segments,
            compactness=compactness,
            spacing=spacing,
            grid=grid,
            flow=flow,
            selection="shapley",
            samples=samples,
            removal=removal,
            summary="shapley",
            l1_reg=l1_reg,
            seed=seed,
        )
