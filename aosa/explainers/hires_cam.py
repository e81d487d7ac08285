"""HiRes-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aosa.explainers.cam import CAM


@dataclass
class HiResCAM(CAM):
    """Features, each weighted at its own place by the gradient there: Σ_k g_k ⊙ A_k.

    Draelos and Carin 2020, on features in time and space. Where the layer is followed by one linear layer, the map sums
    to the class's logit but for its bias; where that layer takes the mean over all places, the map is Grad-CAM's. The
    sign matters there, so ``relu=False`` keeps it; the default drops what is negative, as the family does.

    Raises:
        ConfigError: as `aosa.explainers.cam.CAM`.
    """

    name: ClassVar[str] = "hires_cam"
    title: ClassVar[str] = "HiRes-CAM"

    def weighted(self, feature: Tensor, gradient: Tensor) -> Tensor:
        return gradient * feature
