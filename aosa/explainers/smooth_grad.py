"""SmoothGrad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Passes
from aosa.explainers.gradients import batched, input_gradients
from aosa.explainers.input_gradient import InputGradient
from aosa.fields import option
from aosa.models.base import VideoModel
from aosa.rng import generator


@dataclass
class SmoothGrad(InputGradient):
    """The input's gradient, averaged over noisy copies of the clip.

    Smilkov et al. 2017: M = 1/n Σ ∂f(x + N(0, σ²))/∂x with σ = noise · (max x − min x); then |M| summed over the
    channels. AOSA's papers do not print n; STEP's code takes 25 samples and squares the gradients.

    Raises:
        ConfigError: an option out of its range.
    """

    name: ClassVar[str] = "smooth_grad"
    title: ClassVar[str] = "SmoothGrad"

    samples: int = option(50, "n", low=1)
    noise: float = option(
        0.15, "standard deviation of the noise, as a share of the range of the clip's normalised values", low=0
    )
    squared: bool = option(False, "average the squares of the gradients (SmoothGrad², Hooker et al. 2019)")
    seed: int = option(0, "of the noise; each sample's is drawn from (seed, clip id, its number)", low=0)

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """As the family, but that there is nothing below 0 in squares either."""
        return not (self.absolute or self.squared)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        x = clip.tensor(model.spec)
        sigma = self.noise * float(x.max() - x.min())
        noisy = (
            x + sigma * torch.randn(x.shape, generator=generator(self.seed, clip.id, i)) for i in range(self.samples)
        )
        total = torch.zeros_like(x, device=model.device)
        for batch in batched(noisy, model.batch_size):
            _, gradients = input_gradients(model, batch, target, self.output)
            total += (gradients**2 if self.squared else gradients).sum(dim=0)
        return self.over_channels(total / self.samples)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(self.samples, self.samples)
