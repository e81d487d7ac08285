"""SmoothGrad."""

from __future__ import annotations

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer
from aosa.explainers.gradients import OUTPUTS, batched, check_gradient, input_gradients
from aosa.models.base import VideoModel
from aosa.options import check_choice, check_range, check_whole
from aosa.rng import generator


class SmoothGrad(Explainer):
    """The input's gradient, averaged over noisy copies of the clip.

    Smilkov et al. 2017: M = 1/n Σ ∂f(x + N(0, σ²))/∂x with σ = noise · (max x − min x); then |M| summed over the
    channels. AOSA's papers do not print n; STEP's code takes 25 samples and squares the gradients.

    Args:
        samples: n.
        noise: standard deviation of the noise, as a share of the range of the clip's normalised values.
        squared: average the squares of the gradients instead (SmoothGrad², Hooker et al. 2019).
        absolute: sum |M| over the channels; off keeps the sign.
        output: differentiate the ``logit`` or the ``probability``.
        seed: of the noise; each sample's is drawn from (seed, clip id, its number).

    Raises:
        ConfigError: an option out of its range.
    """

    def __init__(
        self,
        samples: int = 50,
        noise: float = 0.15,
        squared: bool = False,
        absolute: bool = True,
        output: str = "logit",
        seed: int = 0,
    ) -> None:
        check_whole("explainer", samples=(samples, 1), seed=(seed, 0))
        check_range("explainer", noise=(noise, 0, float("inf")))
        check_choice(
            "explainer",
            squared=(squared, (True, False)),
            absolute=(absolute, (True, False)),
            output=(output, OUTPUTS),
        )
        self.samples = samples
        self.noise = noise
        self.squared = squared
        self.absolute = absolute
        self.output = output
        self.seed = seed

    def check(self, model: VideoModel) -> None:
        """See `Explainer.check`."""
        check_gradient(model)

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        x = clip.tensor(model.spec)
        sigma = self.noise * float(x.max() - x.min())
        noisy = (
            x + sigma * torch.randn(x.shape, generator=generator(self.seed, clip.id, i)) for i in range(self.samples)
        )
        total = torch.zeros_like(x, device=model.device)
        for batch in batched(noisy, model.batch_size):
            _, gradients = input_gradients(model, batch, target, self.output)
            total += (gradients**2 if self.squared else gradients).sum(dim=0)
        mean = total / self.samples
        return (mean.abs() if self.absolute else mean).sum(dim=0)
