"""OSA: occlusion sensitivity analysis with a cuboid."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from aosa.clip import Clip, InputSpec
from aosa.explainers.base import Explainer, Passes
from aosa.fields import option, part
from aosa.models.base import VideoModel
from aosa.removal.boxes import BoxUnions
from aosa.removal.fills import FILLS, ClipFill
from aosa.removal.forward import masked_scores
from aosa.removal.weighting import WEIGHTINGS, weighted_map


@dataclass
class OSA(Explainer):
    """Occlude a cuboid at every place of a grid, weigh it by the score's drop.

    Zeiler and Fergus 2014, extended to video as the baseline of AOSA's papers (journal IV-A: half the frames
    and 2 % of the image; WACV 4.1: 8×16×16, every 2 frames and 8 pixels, 1568 masks on 16×112×112).
    Centres lie at k·stride from 0; cuboids are clipped to the clip. Costs one pass per centre, plus one.

    Raises:
        ConfigError: an option out of its range.
    """

    name: ClassVar[str] = "osa"
    title: ClassVar[str] = "OSA"

    box: tuple[int, int, int] | None = option(
        None,
        "frames, height, width of the cuboid; default T/2 and round(√.02·H), round(√.02·W)",
        low=1,
        expect="[frames, height, width], whole numbers of at least 1",
    )
    stride: tuple[int, int, int] | None = option(
        None,
        "frames, rows, columns between centres; default T/8 and half the box",
        low=1,
        expect="[frames, height, width], whole numbers of at least 1",
    )
    fill: ClipFill = part("constant", "what replaces occluded voxels", FILLS)
    weighting: str = option("authors", "as AOSA's", choices=WEIGHTINGS)

    def prepare(self, clip: Clip, spec: InputSpec) -> BoxUnions:
        return cuboids(clip.size, self.box, self.stride)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: BoxUnions) -> Tensor:
        x = clip.tensor(model.spec).to(model.device)
        base = float(model.scores(x[None])[0, target])
        return weighted_map(
            prepared, masked_scores(model, x, prepared, self.fill(x, model.spec), target), base, self.weighting
        )

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1 + len(self.prepare(clip, model.spec)))


def cuboids(
    size: tuple[int, int, int], box: tuple[int, int, int] | None, stride: tuple[int, int, int] | None
) -> BoxUnions:
    """The grid of cuboids on a T×H×W clip, in the order frame, row, column of their centres."""
    t, h, w = size
    side = math.sqrt(0.02)
    box = box or (max(1, t // 2), max(1, round(side * h)), max(1, round(side * w)))
    stride = stride or (max(1, t // 8), max(1, box[1] // 2), max(1, box[2] // 2))
    edges = []
    for length, extent, step in zip(size, box, stride, strict=True):
        low = np.arange(0, length, step) - extent // 2
        edges.append(np.stack([low.clip(0), (low + extent).clip(max=length)], axis=1))
    at = np.stack(np.meshgrid(*(np.arange(len(e)) for e in edges), indexing="ij"), axis=-1).reshape(-1, 3)
    frames, rows, columns = (e[at[:, axis]] for axis, e in enumerate(edges))
    active = (np.arange(t) >= frames[:, :1]) & (np.arange(t) < frames[:, 1:])
    boxes = np.where(active[..., None], np.concatenate([rows, columns], axis=1)[:, None], 0)
    return BoxUnions(boxes, np.arange(len(boxes))[:, None], size)
