"""Integrated gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Passes
from aosa.explainers.gradients import batched, input_gradients
from aosa.explainers.input_gradient import InputGradient
from aosa.fields import option, part
from aosa.models.base import VideoModel
from aosa.removal.fills import Black, Blur, ClipFill, ClipMean, Constant


@dataclass
class IntegratedGradients(InputGradient):
    """(x − x₀) times the mean gradient on the straight way from a baseline x₀ to the clip, summed over the channels.

    Sundararajan et al. 2017, eq. 1, by the midpoint rule. Sums to f(x) − f(x₀) as `steps` grows. Not of the papers
    that are reproduced here; a baseline that users expect.

    Raises:
        ConfigError: an option out of its range.
    """

    name: ClassVar[str] = "integrated_gradients"
    title: ClassVar[str] = "Integrated Gradients"

    absolute: bool = option(False, "sum |·| over the channels; off keeps the sign: a share of f(x) − f(x₀)")
    steps: int = option(50, "gradients on the way", low=1)
    baseline: ClipFill = part("constant", "x₀", (Constant, Black, ClipMean, Blur))

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        x = clip.tensor(model.spec).to(model.device)
        start = self.baseline(x, model.spec)
        way = (start + (i + 0.5) / self.steps * (x - start) for i in range(self.steps))
        total = torch.zeros_like(x)
        for batch in batched(way, model.batch_size):
            total += input_gradients(model, batch, target, self.output)[1].sum(dim=0)
        return self.over_channels((x - start) * total / self.steps)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(self.steps, self.steps)
