"""Layer-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aosa.explainers.cam import CAM


@dataclass
class LayerCAM(CAM):
    """Features, each weighted at its own place by what the class gains from it: ReLU(Σ_k ReLU(g_k) ⊙ A_k).

    Jiang et al. 2021, on features in time and space. Weights are not pooled, so that early layers, too, give maps that
    are fine. Deviation: the paper scales the maps of early layers by a tanh before it fuses those of several; here the
    maps of several layers are averaged as they are, as the family does.

    Raises:
        ConfigError: as `aosa.explainers.cam.CAM`.
    """

    name: ClassVar[str] = "layer_cam"
    title: ClassVar[str] = "Layer-CAM"

    def weighted(self, feature: Tensor, gradient: Tensor) -> Tensor:
        return gradient.relu() * feature
