"""The floor that every table should show."""

from __future__ import annotations

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer
from aosa.models.base import VideoModel
from aosa.options import check_whole
from aosa.rng import generator


class Random(Explainer):
    """Uniform noise in [0, 1), drawn from (seed, clip id); blind to the model.

    Args:
        seed: of the draw.
    """

    def __init__(self, seed: int = 0) -> None:
        check_whole("explainer", seed=(seed, 0))
        self.seed = seed

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        return torch.rand(clip.size, generator=generator(self.seed, clip.id))
