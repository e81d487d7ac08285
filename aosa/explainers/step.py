"""STEP: spatio-temporal extremal perturbation."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from aosa.explainers.ep3d import EP3D
from aosa.fields import option
from aosa.removal.smooth_mask import rank_loss

KERNEL = (7, 11, 11)


@dataclass
class STEP(EP3D):
    """EP-3D whose masks are drawn together into ellipsoids, smooth in space and time.

    Li et al., WACV 2021, 3.2.2, eq. 7 to 9, with the authors' code's weights: −log f(M⊗x) + λ_t·mean((sort(M) −
    r_a)²) + μ_t·L_K(M), where λ_t = 300·1.0008668^t and μ_t is 0 up to t = 100, then 300. L_K takes the means of an
    ellipsoid of 7×11×11 (frames, rows, columns) over the mask, 11 pixels apart, and draws the k = ⌈a·volume/Z⌉
    largest to 1 and the others to 0: the mean of (v − 1)² over the former plus the mean of v² over the latter.

    The schedule is stretched with `iterations`, so that a shorter run sees all of it; 2000 is the authors'.

    ``z``: 443 is the authors' code's (a ball's volume), 311 the places that the kernel covers (eq. 9).
    ``temporal_stride``: 1 in the code, 11 in the paper (which then takes the ellipsoids of the first frames alone).

    Raises:
        ConfigError, AosaError: as EP3D.
    """

    name: ClassVar[str] = "step"
    title: ClassVar[str] = "STEP"
    score_weight: ClassVar[float] = 1.0

    z: int = option(443, "Z in k", choices=(443, 311))
    temporal_stride: int = option(1, "frames between the ellipsoids", low=1)

    def penalty(self, mask: Tensor, area: float, iteration: int) -> Tensor:
        t = 2000 * iteration / self.iterations
        penalty = 1.0008668**t * super().penalty(mask, area, iteration)
        return penalty + 300 * self.core_loss(mask, area) if t > 100 else penalty

    def core_loss(self, mask: Tensor, area: float) -> Tensor:
        """L_K of a mask, T×H'×W'."""
        kernel = ellipsoid(len(mask)).to(mask.device)
        stride = (self.temporal_stride, *KERNEL[1:])
        means = F.conv3d(mask[None, None], (kernel / kernel.sum())[None, None], stride=stride).flatten()[None]
        length = means.shape[1]
        count = min(math.ceil(area * mask.numel() / self.z), length)
        top, rest = rank_loss(means, count)
        return (top / count + rest / max(1, length - count))[0]


def ellipsoid(frames: int) -> Tensor:
    """Ones where (2t/(n−1) − 1)² + … ≤ 1, zeros elsewhere (eq. 8): 7×11×11, or fewer frames for a shorter clip."""
    axes = [torch.linspace(-1, 1, n, dtype=torch.float64) ** 2 for n in (min(KERNEL[0], frames), *KERNEL[1:])]
    # In float64 a place on the surface can come out as 1 + 2e-16; eq. 8 counts it.
    return ((axes[0][:, None, None] + axes[1][:, None] + axes[2]) <= 1 + 1e-9).float()
