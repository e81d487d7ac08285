"""Grad-CAM++."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.explainers.cam import CAM
from aosa.fields import fixed


@dataclass
class GradCAMPP(CAM):
    """Grad-CAM whose gradients are pooled by weights that count each place that speaks for the class once.

    Chattopadhyay et al. 2018, eq. 10 and 19, with Y = exp(logit), so that the higher derivatives are powers of the
    gradient g: α = g² / (2 g² + ΣA · g³), weights w = Σ α · ReLU(g). The factor exp(logit), the same for all, is left
    out. Not of the papers that are reproduced here; a baseline that users expect.

    Raises:
        ConfigError: as `aosa.explainers.cam.CAM`.
    """

    name: ClassVar[str] = "grad_cam_pp"
    title: ClassVar[str] = "Grad-CAM++"

    output: str = fixed("logit")

    def weighted(self, feature: Tensor, gradient: Tensor) -> Tensor:
        square = gradient**2
        below = 2 * square + feature.sum(dim=(1, 2, 3), keepdim=True) * gradient**3
        alpha = torch.where(below != 0, square / below.where(below != 0, torch.ones_like(below)), 0)
        return (alpha * gradient.relu()).sum(dim=(1, 2, 3), keepdim=True) * feature
