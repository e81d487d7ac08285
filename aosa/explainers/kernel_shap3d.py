"""3D Kernel SHAP: Shapley values of segments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aosa.explainers.removal import LassoOptions, RemovalMethod, SampleOptions, SegmentOptions
from aosa.fields import fixed


@dataclass
class KernelSHAP3D(SegmentOptions, SampleOptions, LassoOptions, RemovalMethod):
    """Shapley values of super-voxels by a weighted regression.

    Lundberg and Lee 2017, as REVEX has it (4.4, Table 2): about 200 SLIC super-voxels, 1000 coalitions z by the Shapley
    kernel (`aosa.removal.selection.shapley_kernel`); φ minimises Σ w (f(z) − f(∅) − φ·z)² under Σφ = f(x) − f(∅). With
    2^R − 2 samples or more the values are exact. Signed. Costs N + 2 forward passes.

    REVEX calls the shap package with its default of `l1_reg`, which sets most regions to 0: ``aic`` below version
    0.47, ``10`` since. The default here is the plain regression of the paper.

    Raises:
        ConfigError: an option out of its range, or a grid finer than the clip.
    """

    name: ClassVar[str] = "kernel_shap3d"
    title: ClassVar[str] = "Kernel SHAP (3D)"

    selection: str = fixed("shapley")
    summary: str = fixed("shapley")
