"""EP-3D: extremal perturbation of a whole clip."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from aosa.clip import Clip
from aosa.errors import AosaError, ConfigError
from aosa.explainers.base import Explainer, Passes
from aosa.explainers.gradients import check_gradient, check_graph
from aosa.fields import option
from aosa.models.base import VideoModel
from aosa.options import SHARES, check_shares
from aosa.removal.fills import gaussian_blur
from aosa.removal.smooth_mask import BlurPyramid, SmoothMax, rank_loss

SPACING = 7  # pixels between seeds


@dataclass
class EP3D(Explainer):
    """The part of the clip, of a given share, that keeps the score highest while the rest is blurred.

    Li et al., WACV 2021 ("Towards visually explaining video understanding networks with perturbation"), 3.2.1,
    eq. 5 and 6: per share a, seeds are learnt that minimise −100·log f(M⊗x) + 300·mean((sort(M) − r_a)²) over the
    masks M that `aosa.removal.smooth_mask.SmoothMax` makes of them, margins included; ⊗ blurs where M is low. SGD,
    rate .05, momentum and dampening .9; seeds start at 1 and are clamped to [0, 1]. The weights, the rate and log f
    are the authors' code's: eq. 6 has f itself. The masks of all shares are learnt together, as one batch.

    With one share the map is its mask; with several it is their sum, smoothed per frame (Gaussian, σ 10 pixels)
    and divided by its maximum. Costs `iterations` forward and backward passes per share.

    ``areas``: AOSA's papers take the code's default, .1; STEP's .02, .05, .1, .2 for R(2+1)D and .05, .1, .2, .3 for
    VGG16-LSTM. ``patience`` compares energies with the weights of the last iteration.

    Raises:
        ConfigError: an option out of its range; a model whose scores are no probabilities (head ``identity``), or
            through which no gradient comes.
        AosaError: the energy is not finite.
    """

    name: ClassVar[str] = "ep3d"
    title: ClassVar[str] = "EP-3D"
    score_weight: ClassVar[float] = 100.0

    areas: Sequence[float] = option((0.1,), "shares of the clip to be kept", expect=SHARES)
    iterations: int = option(2000, "steps of the optimiser", low=1)
    sigma: int | None = option(
        None, "σ of the masks' kernel, pixels; default 11 up to 112 pixels, 23 for more (the shorter side)", low=1
    )
    patience: int | None = option(
        None, "stop once no mask's energy has fallen by a thousandth within so many iterations; None = never", low=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shares("explainer", areas=self.areas)

    def check(self, model: VideoModel) -> None:
        _check_head(model)
        check_gradient(model)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        masks = self.masks(model, clip.tensor(model.spec), target, self.areas)
        if len(masks) == 1:
            return masks[0]
        summed = gaussian_blur(masks.sum(dim=0, keepdim=True), 81, 10.0)[0]
        return summed / summed.max()

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1, 1) * (self.iterations * len(self.areas))

    def masks(self, model: VideoModel, x: Tensor, target: int, areas: Sequence[float]) -> Tensor:
        """Learn one mask per share.

        Args:
            x: the clip, normalised 3×T×H×W.

        Returns:
            A×T×H×W in [0, 1].
        """
        _check_head(model)
        x = x.to(model.device)
        frames, height, width = x.shape[1:]
        if self.sigma is not None and self.sigma > min(height, width):
            raise ConfigError(f"explainer.sigma={self.sigma}: at most the shorter side of the frames, {height}×{width}")
        up = SmoothMax((height, width), SPACING, self.sigma or (11 if min(height, width) <= 112 else 23))
        pyramid = BlurPyramid(x)
        seeds = torch.ones(len(areas), frames, *up.grid, device=model.device, requires_grad=True)
        optimiser = torch.optim.SGD([seeds], lr=0.05, momentum=0.9, dampening=0.9)
        best, since = torch.full((len(areas),), math.inf), 0
        with torch.enable_grad():
            for i in tqdm(range(self.iterations), desc=self.name, unit="step", leave=False, mininterval=1):
                optimiser.zero_grad()
                parts = (slice(start, start + model.batch_size) for start in range(0, len(areas), model.batch_size))
                energy = torch.cat(
                    [self._descend(model, pyramid, up, seeds, part, target, areas, i) for part in parts]
                ).cpu()
                if not torch.isfinite(energy).all():
                    raise AosaError(
                        f"{self.name}: the energy is not finite in iteration {i + 1}; the weights of "
                        f"{model.name} or the input hold NaN or infinity, or precision={model.precision} is too low"
                    )
                optimiser.step()
                with torch.no_grad():
                    seeds.clamp_(0, 1)
                since = 0 if (energy < 0.999 * best).any() else since + 1
                best = torch.minimum(best, energy)
                if self.patience is not None and since >= self.patience:
                    break
        with torch.no_grad():
            return self._masks(up, seeds)[0]

    def _descend(
        self,
        model: VideoModel,
        pyramid: BlurPyramid,
        up: SmoothMax,
        seeds: Tensor,
        part: slice,
        target: int,
        areas: Sequence[float],
        iteration: int,
    ) -> Tensor:
        """Add the gradients of some masks' energies; returns the energies, by which progress is judged."""
        masks, padded = self._masks(up, seeds[part])
        log_score = model.log_scores(pyramid(masks))[:, target]
        check_graph(model, log_score)  # without which the energy would be the penalty alone
        penalty = torch.stack([self.penalty(p, a, iteration) for p, a in zip(padded, areas[part], strict=True)])
        energy = penalty - self.score_weight * log_score
        energy.sum().backward()
        if self.patience is None:
            return energy.detach()
        # Weights that grow would hide any progress.
        last = [self.penalty(p, a, self.iterations - 1) for p, a in zip(padded.detach(), areas[part], strict=True)]
        return torch.stack(last) - self.score_weight * log_score.detach()

    def _masks(self, up: SmoothMax, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """A×T×h×w seeds → A×T×H×W masks, and the same with margins."""
        small, padded = up(self.smoothed(seeds).flatten(0, 1))
        return small.unflatten(0, seeds.shape[:2]), padded.unflatten(0, seeds.shape[:2])

    def smoothed(self, seeds: Tensor) -> Tensor:
        """What is done to A×T×h×w seeds before they are up-sampled: nothing here."""
        return seeds

    def penalty(self, mask: Tensor, area: float, iteration: int) -> Tensor:
        """How far a mask (T×H'×W', with its margin) is from a binary one of this share, weighted."""
        return 300 * area_loss(mask.flatten()[None], area)


def _check_head(model: VideoModel) -> None:
    if model.head == "identity":
        raise ConfigError(
            f"masks are learnt by the logarithm of a probability, and the scores of {model.name} (model.head=identity) "
            f"are none; take an explainer that takes scores as they are (aosa, osa, lime3d, kernel_shap3d, grad_cam …)"
        )


def area_loss(masks: Tensor, area: float) -> Tensor:
    """mean over the rows of N×L of mean((sort(m) − r_a)²)."""
    length = masks.shape[1]
    top, rest = rank_loss(masks, length - int(length * (1 - area)))
    return ((top + rest) / length).mean()


def minimum_preservation_ratio(
    explainer: EP3D, model: VideoModel, clip: Clip, target: int | None, areas: Sequence[float]
) -> float:
    """Smallest share whose learnt mask keeps the probability at least as high as the whole clip's (STEP, Table 2).

    Args:
        areas: the shares to try, learnt together.

    Returns:
        the share; 1 when none of them does, since the whole clip always does.
    """
    target = model.resolve_target(clip, target)
    x = clip.tensor(model.spec).to(model.device)
    with model.frozen():
        masks = explainer.masks(model, x, target, sorted(areas))
        pyramid = BlurPyramid(x)
        with torch.no_grad():
            whole = float(model.scores(x[None])[0, target])
            for area, mask in zip(sorted(areas), masks, strict=True):
                if float(model.scores(pyramid(mask[None]))[0, target]) >= whole:
                    return area
    return 1.0
