"""AOSA-approx: AOSA by one gradient."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.errors import ConfigError
from aosa.explainers.aosa import AOSA
from aosa.explainers.gradients import check_gradient, gradients_of
from aosa.models.base import VideoModel
from aosa.options import check_choice
from aosa.removal.boxes import BoxUnions
from aosa.removal.fills import FILLS, make_fill
from aosa.removal.weighting import weighted_map


class AOSAApprox(AOSA):
    """First-order approximation of every mask's score: f̂ = f(x) + J·(g − x), J = ∂f/∂x of the probability.

    Uchiyama et al., journal III-C, III-D (eq. 3 to 8) and WACV 2023 3.4, 3.5. Costs one forward and one
    backward pass whatever the number of masks; each mask's score is a sum over boxes of one volume, taken
    from summed-area tables (see `aosa.removal.boxes.BoxUnions`).

    Args:
        stride, box, neighbours, similarity, temporal_stride, uncovered, flow, flow_weights, displacement,
            subpixel, letter_box: as `aosa.explainers.aosa.AOSA`.
        fill: μ. ``patches`` is conditional sampling (III-C), ``box_mean`` what the authors' code does for
            it, ``constant`` turns it off (Table VII, "cond."). AOSA's ``sampled`` is refused: to first order the
            mean over draws is the score of their mean (eq. 7), which is ``patches``.
        margin: m of ``patches``: 4 in the journal, 10 in WACV (36×36 around a box of 16).
        window: n of ``box_mean``; unpublished.
        relu: count only voxels and channels whose occlusion lowers the score, S_m = Σ ReLU(−J(1−Ω)(μ−x)).
            This is what the text of III-D3 wants. Eq. 8 as printed, −ReLU(J(1−Ω)(μ−x)), keeps those whose
            occlusion raises it: ``relu="printed"``.
        weighting: as AOSA's, with f̂ in place of the true score.
        iqr: WACV 3.5.3: scores outside [Q1 − 1.5 IQR, Q3 + 1.5 IQR] are expanded anew at the clip occluded
            (with zeros, even when conditional) by the most extreme mask of that side: one more forward and
            backward pass per side. Only without ReLU.
        expand: what is expanded there. ``authors``: (1−Ω)⊙(μ−x*), which leaves the extreme mask's own region
            occluded; ``occluded``: g(x; Ω) − x*, towards the clip occluded by the mask itself.
        compat: as AOSA's, for the masks and the weighting. The public code has no ReLU and knows the fills
            ``constant`` and ``box_mean`` only, so ``authors`` needs relu=False and one of these.
        seed: of ``similarity=random``, with the clip's id.

    Raises:
        ConfigError: an option out of its range.
    """

    fills: ClassVar[tuple[str, ...]] = FILLS

    def __init__(
        self,
        stride: int = 8,
        box: int | tuple[int, int] = 16,
        neighbours: int = 3,
        similarity: str = "cosine",
        temporal_stride: int | None = None,
        uncovered: bool = False,
        flow: str = "farneback",
        flow_weights: str | None = None,
        fill: str = "patches",
        margin: int = 4,
        window: int = 9,
        relu: bool | str = True,
        weighting: str = "authors",
        iqr: bool = False,
        expand: str = "authors",
        displacement: str = "positions",
        subpixel: bool = False,
        letter_box: bool = False,
        compat: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(
            stride=stride,
            box=box,
            neighbours=neighbours,
            similarity=similarity,
            temporal_stride=temporal_stride,
            uncovered=uncovered,
            flow=flow,
            flow_weights=flow_weights,
            fill=fill,
            margin=margin,
            window=window,
            weighting=weighting,
            displacement=displacement,
            subpixel=subpixel,
            letter_box=letter_box,
            compat=compat,
            seed=seed,
        )
        check_choice(
            "explainer",
            relu=(relu, (True, False, "printed")),
            iqr=(iqr, (True, False)),
            expand=(expand, ("authors", "occluded")),
        )
        if iqr and relu:
            raise ConfigError("explainer.iqr=true needs explainer.relu=false: neither paper defines the two together")
        if compat == "authors" and (relu or fill not in ("constant", "box_mean")):
            raise ConfigError(
                f"explainer.compat=authors needs explainer.relu=false (is {relu}) and explainer.fill=constant or "
                f"box_mean (is {fill}): the authors' code has nothing else"
            )
        self.relu = relu
        self.iqr = iqr
        self.expand = expand

    def check(self, model: VideoModel) -> None:
        """See `Explainer.check`."""
        check_gradient(model)

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        x = clip.tensor(model.spec).to(model.device)
        masks = self.masks(clip, model.spec)
        mu = make_fill(self.fill, x, model.spec, margin=self.margin, window=self.window)
        base, gradient = _value_and_gradient(model, x, target)
        scores = base - masks.sum(self._drop(gradient, mu - x))
        if self.iqr:
            scores = self._stabilised(model, x, mu, masks, target, scores, base)
        return weighted_map(masks, scores, base, self.weighting)

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
