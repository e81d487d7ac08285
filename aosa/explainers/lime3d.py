"""3D LIME: a linear model of what a sample keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aosa.explainers.removal import BernoulliOptions, RemovalMethod, RidgeOptions, SegmentOptions
from aosa.fields import fixed


@dataclass
class LIME3D(SegmentOptions, BernoulliOptions, RidgeOptions, RemovalMethod):
    """Fit a linear model to the score as a function of the super-voxels that a sample keeps.

    Ribeiro et al. 2016, as REVEX has it (4.4, Table 2): about 200 SLIC super-voxels of the whole clip, each kept with
    p = ½ in each of 1000 samples z; the map is β of min Σ w(z) (f(z) − β₀ − β·z)² + α|β|² with
    w = √exp(−d²/.25²), d = 1 − √(share kept), the cosine distance to the whole clip, and α = 1. Signed. Costs N
    forward passes.

    The clip itself is no sample of the regression, as in REVEX's code.

    Raises:
        ConfigError: an option out of its range, or a grid finer than the clip.
    """

    name: ClassVar[str] = "lime3d"
    title: ClassVar[str] = "LIME (3D)"

    selection: str = fixed("bernoulli")
    summary: str = fixed("linear")
