"""EP-3D with seeds smoothed in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.explainers.ep3d import EP3D
from aosa.fields import option


@dataclass
class EP3DGaussian(EP3D):
    """EP-3D (Δt): Li et al., WACV 2021, 4.4, eq. 12. Each seed becomes a weighted mean over the frames t − Δt to
    t + Δt, with weights exp(−u²/(.6·Δt)) that sum to 1 over the frames there are.

    Raises:
        ConfigError, AosaError: as EP3D.
    """

    name: ClassVar[str] = "ep3d_gaussian"
    title: ClassVar[str] = "EP-3D (Gaussian)"

    delta: int = option(1, "Δt, frames; the paper tries 1, 2 and 3", low=1)

    def smoothed(self, seeds: Tensor) -> Tensor:
        frames = torch.arange(seeds.shape[1], device=seeds.device)
        apart = (frames[:, None] - frames).float()
        weights = torch.exp(-(apart**2) / (0.6 * self.delta)) * (apart.abs() <= self.delta)
        return torch.einsum("tu,auhw->athw", weights / weights.sum(dim=1, keepdim=True), seeds)
