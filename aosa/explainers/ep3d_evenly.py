"""EP-3D-Evenly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aosa.explainers.ep3d import EP3D, area_loss


@dataclass
class EP3DEvenly(EP3D):
    """EP-3D that keeps the same share of every frame: Li et al., WACV 2021, 4.4, eq. 10 and 11."""

    name: ClassVar[str] = "ep3d_evenly"
    title: ClassVar[str] = "EP-3D-Evenly"

    def penalty(self, mask: Tensor, area: float, iteration: int) -> Tensor:
        """The mean over the frames, as the authors' code."""
        return 300 * area_loss(mask.flatten(1), area)
