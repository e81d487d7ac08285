"""Integrated gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer
from aosa.explainers.gradients import OUTPUTS, batched, check_gradient, input_gradients
from aosa.models.base import VideoModel
from aosa.options import check_choice, check_whole
from aosa.removal.fills import make_fill


class IntegratedGradients(Explainer):
    """(x − x₀) times the mean gradient on the straight way from a baseline x₀ to the clip, summed over the channels.

    Sundararajan et al. 2017, eq. 1, by the midpoint rule. Sums to f(x) − f(x₀) as `steps` grows. Not of the papers
    that are reproduced here; a baseline that users expect.

    Args:
        steps: gradients on the way.
        baseline: x₀: ``constant`` (the data set's mean colour), ``black``, ``clip_mean`` or ``blur``, see
            `aosa.removal.fills.make_fill`.
        absolute: sum |·| over the channels; off keeps the sign.
        output: differentiate the ``logit`` or the ``probability``.

    Raises:
        ConfigError: an option out of its range.
    """

    def __init__(
        self, steps: int = 50, baseline: str = "constant", absolute: bool = False, output: str = "logit"
    ) -> None:
        check_whole("explainer", steps=(steps, 1))
        check_choice(
            "explainer",
            baseline=(baseline, ("constant", "black", "clip_mean", "blur")),
            absolute=(absolute, (True, False)),
            output=(output, OUTPUTS),
        )
        self.steps = steps
        self.baseline = baseline
        self.absolute = absolute
        self.output = output

    def check(self, model: VideoModel) -> None:
        """See `Explainer.check`."""
        check_gradient(model)

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        x = clip.tensor(model.spec).to(model.device)
        start = make_fill(self.baseline, x, model.spec).expand_as(x)
        way = (start + (i + 0.5) / self.steps * (x - start) for i in range(self.steps))
        total = torch.zeros_like(x)
        for batch in batched(way, model.batch_size):
            total += input_gradients(model, batch, target, self.output)[1].sum(dim=0)
        parts = (x - start) * total / self.steps
        return (parts.abs() if self.absolute else parts).sum(dim=0)
