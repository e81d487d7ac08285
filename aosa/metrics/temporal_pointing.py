"""T-PT: the temporal pointing game."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Passes
from aosa.fields import option
from aosa.metrics.base import Metric
from aosa.models.base import VideoModel


@dataclass
class TemporalPointing(Metric):
    """Whether the map's most important frame lies in the annotated segment.

    STEP (Li et al., WACV 2021), 4.1 and Table 5: a clip hits when the frame with the highest value is one of the
    segment's; the first frame on ties, so that a map which gives all frames the same (EP-3D-Evenly) says nothing here.
    The table's value is the share of hits among the clips that have a segment.

    Record:
        tpt, 1 or 0, None for a clip without a segment; frame, the most important one; share, that of the segment in
        the clip: what a guess would hit.
    """

    name: ClassVar[str] = "temporal_pointing"
    needs: ClassVar[str] = "segment"
    columns: ClassVar[dict[str, str]] = {"tpt": "higher"}
    titles: ClassVar[dict[str, str]] = {"tpt": "T-PT"}

    frame: str = option(
        "max",
        "the most important frame has the highest single value (the paper's), or the highest sum",
        choices=("max", "sum"),
    )

    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        flat = saliency.flatten(1)
        # In float64: float32 sums of equal frames may differ by the order of their pixels.
        frame = int((flat.amax(dim=1) if self.frame == "max" else flat.double().sum(dim=1)).argmax())
        if clip.segment is None:
            return {"tpt": None, "frame": frame, "share": None}
        first, end = clip.segment
        return {"tpt": int(first <= frame < end), "frame": frame, "share": (end - first) / len(saliency)}

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(0)
