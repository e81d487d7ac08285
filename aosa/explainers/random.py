"""The floor that every table should show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer, Passes
from aosa.fields import option
from aosa.models.base import VideoModel
from aosa.rng import generator


@dataclass
class Random(Explainer):
    """Uniform noise in [0, 1), drawn from (seed, clip id); blind to the model."""

    name: ClassVar[str] = "random"
    title: ClassVar[str] = "Random"

    seed: int = option(0, "of the draw", low=0)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        return torch.rand(clip.size, generator=generator(self.seed, clip.id))

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(0)
