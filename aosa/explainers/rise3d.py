"""3D RISE: the mean score of soft random masks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aosa.explainers.removal import BernoulliOptions, RemovalMethod
from aosa.fields import fixed


@dataclass
class RISE3D(BernoulliOptions, RemovalMethod):
    """Per node of a coarse grid the mean score of the random soft masks that keep it.

    Petsiuk et al. 2018, as REVEX has it (4.4, Table 2): each node of a 4×7×7 grid kept with p = ½ in each of 1000
    samples, the mask linear between nodes; value of a node = mean of f over the samples that keep it, the clip itself
    among them, divided by the sum over nodes; the map is linear between nodes. Positive. Costs N + 1 forward passes.

    As in REVEX's code, and unlike Petsiuk's RISE, masks are not shifted at random, and the mean is taken on the
    grid rather than of the up-sampled masks.

    Raises:
        ConfigError: an option out of its range, or a grid finer than the clip.
    """

    name: ClassVar[str] = "rise3d"
    title: ClassVar[str] = "RISE (3D)"

    segmentation: str = fixed("soft_grid")
    selection: str = fixed("bernoulli")
    summary: str = fixed("mean")
