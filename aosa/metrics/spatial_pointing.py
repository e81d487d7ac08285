"""S-PT: the spatial pointing game."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Passes
from aosa.fields import option
from aosa.metrics.base import Metric
from aosa.models.base import VideoModel


@dataclass
class SpatialPointing(Metric):
    """Share of annotated frames whose most important pixel lies within a few pixels of a box.

    AOSA journal IV-B, after STEP: per frame with a box, the map's maximum (first index on ties) hits when the disc
    around it meets any box of the frame, that is when its distance to the nearest pixel of the box is at most the
    radius. Coordinates are the model input's. Frames without a box do not count.

    Record:
        hits, frames (annotated ones); spt = hits / frames, None for a clip without an annotated frame. A table's
        value is Σ hits / Σ frames over the clips.
    """

    name: ClassVar[str] = "spatial_pointing"
    needs: ClassVar[str] = "boxes"
    columns: ClassVar[dict[str, str]] = {"spt": "higher"}
    titles: ClassVar[dict[str, str]] = {"spt": "S-PT"}
    weights: ClassVar[dict[str, str]] = {"spt": "frames"}

    radius: float = option(7.0, "of the disc, pixels", low=0)

    def score(self, model: VideoModel, clip: Clip, saliency: Tensor, target: int) -> dict[str, object]:
        hits = frames = 0
        for frame, boxes in zip(saliency.numpy(), clip.boxes or [], strict=False):
            if len(boxes):
                y, x = divmod(int(frame.argmax()), frame.shape[1])
                frames += 1
                hits += bool((distance_to_boxes(x, y, boxes) <= self.radius).any())
        return {"hits": hits, "frames": frames, "spt": hits / frames if frames else None}

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(0)


def distance_to_boxes(x: float, y: float, boxes: np.ndarray) -> np.ndarray:
    """Distance of a pixel to the nearest pixel of each N×4 box (x0, y0, x1, y1): the pixels of a box are those it
    covers at least in part."""
    low = np.floor(boxes[:, :2])
    high = np.maximum(np.ceil(boxes[:, 2:]) - 1, low)
    gap = np.maximum(np.maximum(low - [x, y], [x, y] - high), 0)
    return np.hypot(gap[:, 0], gap[:, 1])
