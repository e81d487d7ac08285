"""How much of a map's top lies where the evidence is known to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aosa.clip import Clip
from aosa.errors import AosaError
from aosa.explainers.base import Passes
from aosa.metrics.base import Metric
from aosa.metrics.deletion_insertion import ranks
from aosa.models.base import VideoModel


@dataclass
class TruthScore(Metric):
    """The share of a map's top voxels, as many as are truly relevant, that lie in the relevant region.

    For data whose evidence is known per voxel (`moving_shapes`); precision = recall at that size. Noise scores the
    region's share of the clip, a perfect map 1.

    Record:
        truth; relevant, the region's share of the clip.

    Raises:
        AosaError: the clip has no ground truth.
    """

    name: ClassVar[str] = "truth_score"
    needs: ClassVar[str] = "truth"
    columns: ClassVar[dict[str, str]] = {"truth": "higher"}
    titles: ClassVar[dict[str, str]] = {"truth": "Truth"}

    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        if clip.truth is None or not clip.truth.any():
            raise AosaError(f"clip {clip.id!r} has no ground truth: truth_score is for data sets such as moving_shapes")
        top = ranks(saliency)[0] < int(clip.truth.sum())
        return {
            "truth": float((top & clip.truth).sum() / clip.truth.sum()),
            "relevant": float(clip.truth.float().mean()),
        }

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(0)
