"""The minimal explanation mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from aosa.clip import Clip
from aosa.data.base import VideoDataset
from aosa.errors import ConfigError
from aosa.explainers.base import Passes
from aosa.fields import option, part
from aosa.metrics.base import Metric
from aosa.metrics.deletion_insertion import RankOptions, ranks, top_importance
from aosa.models.base import VideoModel
from aosa.options import SHARES, check_shares
from aosa.removal.fills import FILLS, ClipFill
from aosa.removal.forward import RankMasks, masked_scores
from aosa.schema import NUMBER, SHARE, WHOLE, Kind, exactly, listing, optional

THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass
class MinimalMask(RankOptions, Metric):
    """The smallest share of voxels whose deletion brings the class probability down to a threshold, or whose insertion
    brings it up to it.

    REVEX (Gaya-Morey et al.), 4.6.1 and Fig. 11, after Fong and Vedaldi 2017: voxels are ranked by the map as in
    `aosa.metrics.DeletionInsertion`, both substrates are black. The probability need not be monotone in the share.
    Smallest is the first of the shares 0, 1/steps, … 1 at which it is at most (deletion) or at least (insertion) the
    threshold, whatever follows; so a clip whose probability is below a threshold from the start needs 0. A threshold
    that no share reaches has no mask: such clips do not count in its column.

    The shares are scanned a batch at a time, and only until all thresholds are reached: at most 2·(steps + 1) forward
    passes. Deviation: the authors' code cuts the map at equally spaced values, or at each of its values, in place of
    equally spaced shares.

    Record:
        thresholds; minimal_deletion and minimal_insertion, a share per threshold, None where it is not reached; the
        same one by one as ``minimal_deletion_<threshold>``, which are the columns; probability of the target on the
        clip as it is; predicted class.

    Raises:
        ConfigError: an option out of its range, or a model whose scores are no probabilities (head ``identity``).
    """

    name: ClassVar[str] = "minimal_mask"
    titles: ClassVar[dict[str, str]] = {
        "minimal_deletion": "Minimal mask, deletion",
        "minimal_insertion": "Minimal mask, insertion",
    }

    thresholds: Sequence[float] = option(THRESHOLDS, "the probabilities to reach, the code's by default", expect=SHARES)
    scale: str = option(
        "absolute",
        "thresholds are probabilities, or relative to the probability of the whole clip",
        choices=("absolute", "relative"),
    )
    steps: int = option(100, "the resolution of the shares", low=1)
    deletion: ClipFill = part("black", "what replaces deleted voxels", FILLS)
    insertion: ClipFill = part("black", "what voxels not yet inserted show", FILLS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("metric", thresholds=self.thresholds)
        # These depend on an option, so they are the instance's.
        self.columns = {  # type: ignore[misc]
            f"minimal_{game}_{t:g}": "lower" for game in ("deletion", "insertion") for t in self.thresholds
        }

    def schema(self) -> dict[str, Kind]:
        shares = listing(optional(SHARE), len(self.thresholds))
        more = {"thresholds": exactly(self.thresholds), "probability": NUMBER, "predicted": WHOLE}
        return {**super().schema(), **more, "minimal_deletion": shares, "minimal_insertion": shares}

    def check(self, model: VideoModel, dataset: VideoDataset) -> None:
        """Also: the model's scores must be probabilities."""
        super().check(model, dataset)
        _check_head(model)

    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        _check_head(model)
        x = clip.tensor(model.spec).to(model.device)
        whole = model.scores(x[None])[0]
        probability = float(whole[target])
        levels = [t * probability if self.scale == "relative" else t for t in self.thresholds]
        rank, voxels = ranks(saliency if self.top is None else top_importance(saliency, self.top), self.ranking)
        record: dict[str, object] = {"thresholds": list(self.thresholds)}
        for game, substrate, keep in (("deletion", self.deletion, False), ("insertion", self.insertion, True)):
            fill = substrate(x, model.spec)
            shares = self._smallest(model, x, rank.to(model.device), voxels, fill, target, levels, keep)
            record[f"minimal_{game}"] = shares
            record.update({f"minimal_{game}_{t:g}": s for t, s in zip(self.thresholds, shares, strict=True)})
        return {**record, "probability": probability, "predicted": int(whole.argmax())}

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(2 * (self.steps + 1) + 1)

    def _smallest(
        self,
        model: VideoModel,
        x: Tensor,
        rank: Tensor,
        voxels: int,
        fill: Tensor,
        target: int,
        levels: list[float],
        keep: bool,
    ) -> list[float | None]:
        """The first share to reach each level."""
        counts = np.rint(np.linspace(0, voxels, self.steps + 1)).astype(np.int64)
        shares: list[float | None] = [None] * len(levels)
        for start in range(0, len(counts), model.batch_size):
            part = counts[start : start + model.batch_size]
            found = masked_scores(model, x, RankMasks(rank, part, keep=keep), fill, target)
            for i, level in enumerate(levels):
                reached = found >= level if keep else found <= level
                if shares[i] is None and reached.any():
                    shares[i] = float(part[reached.argmax()] / voxels)
            if None not in shares:
                break
        return shares


def _check_head(model: VideoModel) -> None:
    if model.head == "identity":
        raise ConfigError(
            f"metric=minimal_mask looks for thresholds of a probability, and the scores of {model.name} "
            f"(model.head=identity) are none; metric=deletion_insertion takes scores as they are"
        )
