"""Grad-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aosa.explainers.cam import CAM
from aosa.fields import option


@dataclass
class GradCAM(CAM):
    """Feature maps of a convolutional stage, weighted by the mean gradient of the class over each.

    Selvaraju et al. 2017, eq. 1 and 2, on 3D features. With ``pooling="frame"`` the mean is taken per time step
    (H', W'; STEP's code, mmaction2). The two agree where the layer has one time step, as in R3D.

    Raises:
        ConfigError: as `aosa.explainers.cam.CAM`.
    """

    name: ClassVar[str] = "grad_cam"
    title: ClassVar[str] = "Grad-CAM"

    pooling: str = option("clip", "mean of the gradient over the clip, or per frame", choices=("clip", "frame"))

    def weighted(self, feature: Tensor, gradient: Tensor) -> Tensor:
        return gradient.mean(dim=(1, 2, 3) if self.pooling == "clip" else (2, 3), keepdim=True) * feature
