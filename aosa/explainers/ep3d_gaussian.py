"""EP-3D with seeds smoothed in time."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from aosa.explainers.ep3d import EP3D
from aosa.options import check_whole


class EP3DGaussian(EP3D):
    """EP-3D (Δt): Li et al., WACV 2021, 4.4, eq. 12. Each seed becomes a weighted mean over the frames t − Δt to
    t + Δt, with weights exp(−u²/(.6·Δt)) that sum to 1 over the frames there are.

    Args:
        areas, iterations, sigma, patience: as `aosa.explainers.ep3d.EP3D`.
        delta: Δt, frames; the paper tries 1, 2 and 3.

    Raises:
        ConfigError, AosaError: as EP3D.
    """

    def __init__(
        self,
        areas: Sequence[float] = (0.1,),
        iterations: int = 2000,
        sigma: int | None = None,
        patience: int | None = None,
        delta: int = 1,
    ) -> None:
        super().__init__(areas, iterations, sigma, patience)
        check_whole("explainer", delta=(delta, 1))
        self.delta = delta

    def smoothed(self, seeds: Tensor) -> Tensor:
        """See `EP3D.smoothed`."""
        frames = torch.arange(seeds.shape[1], device=seeds.device)
        apart = (frames[:, None] - frames).float()
        weights = torch.exp(-(apart**2) / (0.6 * self.delta)) * (apart.abs() <= self.delta)
        return torch.einsum("tu,auhw->athw", weights / weights.sum(dim=1, keepdim=True), seeds)
