"""The one place where masks meet the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from aosa.models.base import VideoModel

Replacement = Tensor | Callable[[Tensor, int], Tensor]


class Masks(Protocol):
    """A description of N masks that can show a few at a time as voxels."""

    def __len__(self) -> int: ...

    def occluded(self, start: int, stop: int, device: torch.device | str) -> Tensor:
        """Masks `start` to `stop`, B×T×H×W: bool, True = replaced by the fill; or float, the share that is."""
        ...


class RankMasks:
    """Masks that occlude the first (or keep only the first) so many voxels of a ranking.

    Args:
        rank: int T×H×W, 0 = first.
        counts: how many voxels each mask occludes.
        keep: occlude all but the first `count` instead.
    """

    def __init__(self, rank: Tensor, counts: Sequence[int] | np.ndarray, *, keep: bool = False) -> None:
        self.rank = rank
        self.counts = torch.as_tensor(counts)
        self.keep = keep

    def __len__(self) -> int:
        return len(self.counts)

    def occluded(self, start: int, stop: int, device: torch.device | str) -> Tensor:
        """See `Masks.occluded`."""
        self.rank = self.rank.to(device)
        first = self.rank[None] < self.counts[start:stop].to(device)[:, None, None, None]
        return ~first if self.keep else first


@torch.no_grad()
def masked_scores(model: VideoModel, x: Tensor, masks: Masks, fill: Replacement, target: int) -> np.ndarray:
    """Score of `target` under each mask; memory grows with the batch size, not with the number of masks.

    Args:
        x: the clip, normalised 3×T×H×W.
        masks: the masks' description.
        fill: what replaces occluded voxels, 3×T×H×W; or a function of a batch of masks and the index of its first that
            gives B×3×T×H×W.

    Returns:
        float64 N.
    """
    x = x.to(model.device)
    if isinstance(fill, Tensor):
        fill = fill.to(model.device)
    size = min(model.batch_size, len(masks))
    batch = torch.empty((size, *x.shape), device=model.device).to(memory_format=model.memory_format)
    scores = []
    for start in range(0, len(masks), model.batch_size):
        occluded = masks.occluded(start, min(start + model.batch_size, len(masks)), model.device)
        part = batch[: len(occluded)]
        new = fill if isinstance(fill, Tensor) else fill(occluded, start)
        if occluded.dtype == torch.bool:
            torch.where(occluded[:, None], new, x, out=part)
        else:
            torch.lerp(x, new, occluded[:, None], out=part)
        scores.append(model.scores(part)[:, target])
    return torch.cat(scores).double().cpu().numpy()
