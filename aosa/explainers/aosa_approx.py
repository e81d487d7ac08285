"""AOSA-approx: AOSA by one gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.errors import ConfigError
from aosa.explainers.aosa import AOSA
from aosa.explainers.base import Passes
from aosa.explainers.gradients import check_gradient, gradients_of
from aosa.fields import option, part
from aosa.models.base import VideoModel
from aosa.removal.boxes import BoxUnions
from aosa.removal.fills import FILLS, BoxMean, ClipFill, Constant
from aosa.removal.weighting import weighted_map


@dataclass
class AOSAApprox(AOSA):
    """First-order approximation of every mask's score: f̂ = f(x) + J·(g − x), J = ∂f/∂x of the probability.

    Uchiyama et al., journal III-C, III-D (eq. 3 to 8) and WACV 2023 3.4, 3.5. Costs one forward and one
    backward pass whatever the number of masks; each mask's score is a sum over boxes of one volume, taken
    from summed-area tables (see `aosa.removal.boxes.BoxUnions`).

    ``fill`` is μ. ``patches`` is conditional sampling (III-C), ``box_mean`` what the authors' code does for it,
    ``constant`` turns it off (Table VII, "cond."). AOSA's ``sampled`` is refused: to first order the mean over draws is
    the score of their mean (eq. 7), which is ``patches``.

    ``relu`` counts only voxels and channels whose occlusion lowers the score, S_m = Σ ReLU(−J(1−Ω)(μ−x)). This is what
    the text of III-D3 wants. Eq. 8 as printed, −ReLU(J(1−Ω)(μ−x)), keeps those whose occlusion raises it:
    ``relu="printed"``.

    ``iqr`` is WACV 3.5.3: scores outside [Q1 − 1.5 IQR, Q3 + 1.5 IQR] are expanded anew at x*, the clip occluded (with
    zeros, even when conditional) by the most extreme mask of that side: one more forward and backward pass per side.
    ``expand`` says what is expanded there: ``authors``, (1−Ω)⊙(μ−x*), which leaves the extreme mask's own region
    occluded; ``occluded``, g(x; Ω) − x*, towards the clip occluded by the mask itself.

    The authors' code has no ReLU and knows the fills ``constant`` and ``box_mean`` only, so ``compat="authors"`` needs
    ``relu=False`` and one of these.

    Raises:
        ConfigError: as AOSA, or options that do not go together.
    """

    name: ClassVar[str] = "aosa_approx"
    title: ClassVar[str] = "AOSA-approx"
    titles: ClassVar[dict[str, str]] = {
        "aosa_approx_single": "AOSA-approx (single mask)",
        "aosa_approx_iqr": "AOSA-approx (IQR, WACV)",
        "aosa_approx_iqr_single": "AOSA-approx (IQR, WACV, single mask)",
    }
    beside_fill: ClassVar[dict[str, object]] = {"margin": 4, "window": 9}

    fill: ClipFill = part("patches", "μ, what replaces occluded voxels", FILLS)
    relu: bool | str = option(
        True, "count only voxels whose occlusion lowers the score", choices=(True, False, "printed")
    )
    iqr: bool = option(False, "expand outliers anew (WACV); only without ReLU")
    expand: str = option("authors", "what is expanded there", choices=("authors", "occluded"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iqr and self.relu:
            raise ConfigError("explainer.iqr=true needs explainer.relu=false: neither paper defines the two together")
        if self.authors and (self.relu or not isinstance(self.fill, Constant | BoxMean)):
            raise ConfigError(
                f"explainer.compat=authors needs explainer.relu=false (is {self.relu}) and explainer.fill=constant or "
                f"box_mean (is {self.fill.name}): the authors' code has nothing else"
            )

    def check(self, model: VideoModel) -> None:
        check_gradient(model)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: BoxUnions) -> Tensor:
        x = clip.tensor(model.spec).to(model.device)
        mu = self.fill(x, model.spec)
        base, gradient = _value_and_gradient(model, x, target)
        scores = base - prepared.sum(self._drop(gradient, mu - x))
        if self.iqr:
            scores = self._stabilised(model, x, mu, prepared, target, scores, base)
        return weighted_map(prepared, scores, base, self.weighting)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1, 1) * (3 if self.iqr else 1)

    def _drop(self, gradient: Tensor, change: Tensor) -> np.ndarray:
        """Per voxel, how far putting μ for x lowers the score (eq. 7, 8): T×H×W."""
        effect = gradient * change
        if self.relu == "printed":
            drop = -effect.relu()
        elif self.relu:
            drop = (-effect).relu()
        else:
            drop = -effect
        return drop.sum(dim=0).cpu().numpy()

    def _stabilised(
        self,
        model: VideoModel,
        x: Tensor,
        mu: Tensor,
        masks: BoxUnions,
        target: int,
        scores: np.ndarray,
        base: float,
    ) -> np.ndarray:
        change = (scores - base).astype(np.float32)
        low, high = np.percentile(change, [25, 75])
        spread = 1.5 * (high - low)
        scores = scores.copy()
        for outside, extreme in (
            (change > high + spread, int(change.argmax())),
            (change < low - spread, int(change.argmin())),
        ):
            if not outside.any():
                continue
            hidden = masks.occluded(extreme, extreme + 1, x.device)
            at = torch.where(hidden, 0, x)
            value, gradient = _value_and_gradient(model, at, target)
            if self.expand == "authors":
                anew = value - masks.sum(self._drop(gradient, mu - at))
            else:
                # g − x* = Ω⊙(x − x*) + (1−Ω)⊙(μ − x*), summed as all of x − x* and (1−Ω)⊙(μ − x).
                anew = value + float((gradient * (x - at)).sum()) - masks.sum(self._drop(gradient, mu - x))
            scores[outside] = anew[outside]
        return scores


def _value_and_gradient(model: VideoModel, x: Tensor, target: int) -> tuple[float, Tensor]:
    """f and ∂f/∂x of the target's score at 3×T×H×W."""
    with torch.enable_grad():
        leaf = x.detach()[None].requires_grad_()
        value = model.scores(leaf)[0, target]
        (gradient,) = gradients_of(model, value, [leaf], "the clip")
    return float(value.detach()), gradient[0]
