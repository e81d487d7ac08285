"""Deletion, insertion and over-all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.errors import AosaError
from aosa.explainers.base import Passes
from aosa.fields import Options, option, part
from aosa.metrics.base import Metric
from aosa.models.base import VideoModel
from aosa.removal.fills import FILLS, ClipFill
from aosa.removal.forward import RankMasks, masked_scores
from aosa.schema import NUMBER, WHOLE, Kind, listing

RANKINGS = ("clip", "frame")


@dataclass
class RankOptions(Options):
    """How a map orders the voxels of a clip."""

    ranking: str = option(
        "clip", "order voxels over the whole clip, or within each frame (all frames advance together)", choices=RANKINGS
    )
    top: float | None = option(
        None,
        "rank only the voxels that make up this share of the map's positive importance; None = all",
        low=0,
        high=1,
    )


@dataclass
class DeletionInsertion(RankOptions, Metric):
    """Areas under the class probability as the most important voxels are deleted from, or inserted into, a clip.

    Petsiuk et al. 2018, in 28 steps as AOSA's papers (journal IV-B): voxels of the whole clip (all channels of a
    voxel together) in the map's descending order, ties by index; boundaries round(linspace(0, T·H·W, steps + 1));
    both ends included; trapezoid with the share of voxels in [0, 1]. Over-all = insertion − deletion (Zhang et
    al. 2021). Of a model whose scores are no probabilities (head ``identity``) they are areas under its scores. Costs
    2·(steps + 1) forward passes.

    Record:
        deletion, insertion, overall (areas); deletion_curve, insertion_curve (steps + 1 probabilities each);
        probability of the target on the clip as it is; predicted class.
    """

    name: ClassVar[str] = "deletion_insertion"
    columns: ClassVar[dict[str, str]] = {"deletion": "lower", "insertion": "higher", "overall": "higher"}
    titles: ClassVar[dict[str, str]] = {"deletion": "Deletion", "insertion": "Insertion", "overall": "Over-all"}

    steps: int = option(28, "number of equal steps", low=1)
    deletion: ClipFill = part("constant", "what replaces deleted voxels", FILLS)
    insertion: ClipFill = part("blur", "what voxels not yet inserted show", FILLS)

    def schema(self) -> dict[str, Kind]:
        curve = listing(NUMBER, self.steps + 1)
        curves = {"deletion_curve": curve, "insertion_curve": curve, "probability": NUMBER, "predicted": WHOLE}
        return {**super().schema(), **dict.fromkeys(self.columns, NUMBER), **curves}

    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        x = clip.tensor(model.spec).to(model.device)
        rank, voxels = ranks(saliency if self.top is None else top_importance(saliency, self.top), self.ranking)
        counts = np.rint(np.linspace(0, voxels, self.steps + 1)).astype(np.int64)
        curves = {}
        for name, substrate, keep in (("deletion", self.deletion, False), ("insertion", self.insertion, True)):
            masks = RankMasks(rank, counts, keep=keep)
            curves[name] = masked_scores(model, x, masks, substrate(x, model.spec), target)
        deletion, insertion = (float(np.trapezoid(c, counts / voxels)) for c in curves.values())
        predicted = int(model.scores(x[None])[0].argmax())
        return {
            "deletion": deletion,
            "insertion": insertion,
            "overall": insertion - deletion,
            "deletion_curve": curves["deletion"].tolist(),
            "insertion_curve": curves["insertion"].tolist(),
            "probability": float(curves["deletion"][0]),
            "predicted": predicted,
        }

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(2 * (self.steps + 1) + 1)


def ranks(saliency: Tensor, within: str = "clip") -> tuple[Tensor, int]:
    """Place of each voxel in descending order, ties by index.

    Returns:
        int64 T×H×W, 0 = most important; and the number of voxels ranked together (of the clip or of a frame).
    """
    flat = saliency.reshape(1, -1) if within == "clip" else saliency.flatten(1)
    order = torch.argsort(flat, dim=1, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, order, torch.arange(flat.shape[1]).expand_as(order))
    return rank.view(saliency.shape), flat.shape[1]


def top_importance(saliency: Tensor, share: float) -> Tensor:
    """The map with all but its most important voxels at 0: those kept, equal values together, are the fewest whose
    sum reaches a share of the sum of all positive values. Negative ones count as 0 (REVEX 4.5, which shows 30 %).

    Raises:
        AosaError: no value is positive.
    """
    positive = saliency.double().clamp(min=0)
    ordered = positive.flatten().sort(descending=True).values
    if ordered[0] == 0:
        raise AosaError("the map has no positive value, so metric.top leaves nothing of it")
    sums = ordered.cumsum(0)
    last = int((sums < share * sums[-1]).sum().clamp(max=len(sums) - 1))
    return positive.where(positive >= ordered[last], 0)
