"""Score-CAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer, Passes
from aosa.explainers.cam import resized
from aosa.explainers.gradients import OUTPUTS, as_volume, capture, chosen_layers, class_scores
from aosa.fields import option
from aosa.models.base import VideoModel


@dataclass
class ScoreCAM(Explainer):
    """Feature maps of a layer, each weighted by the score of the clip that is seen through it; no gradient.

    Wang et al. 2020: each channel, resized to the clip and scaled to [0, 1], is multiplied with the
    normalised clip; the weights are the softmax over the channels of the score that the class gains, and the map is
    ReLU(Σ_k α_k A_k). The score of the baseline, which is taken off all alike, drops out of the softmax and is not
    computed. Where a model names several target layers, their maps are resized and averaged, as the family of
    Grad-CAM does.

    Deviations for video: a channel is resized trilinearly, and its range is taken over the whole clip, so that a mask
    hides frames as well as places. A constant channel, which the paper leaves undefined, hides the whole clip.

    Costs one forward pass, and one for each channel (of each layer).

    Raises:
        ConfigError: an option out of its range, a layer the model does not have, or one whose output has no place in
            time and space.
    """

    name: ClassVar[str] = "score_cam"
    title: ClassVar[str] = "Score-CAM"

    layer: str | list[str] | None = option(
        None,
        "dotted name(s) of the layer; default the model's target layer(s)",
        expect="a layer's dotted name, a list of names, or null",
    )
    channels: int | None = option(
        None, "at most so many of a layer, those of the highest mean activation; None = all", low=1
    )
    output: str = option("logit", "the score that weighs the channels", choices=OUTPUTS)

    def check(self, model: VideoModel) -> None:
        """Costs a forward pass."""
        with model.frozen():
            self._features(model, torch.zeros(1, 3, model.spec.frames, *model.spec.size))

    @torch.no_grad()
    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        x = clip.tensor(model.spec).to(model.device)
        maps = []
        for features in self._features(model, x[None]):
            shown = features[self._chosen(features)]
            batches = shown.split(model.batch_size)
            gains = torch.cat([class_scores(model, x * masks(b, clip.size), target, self.output) for b in batches])
            weights = gains.double().softmax(dim=0).float()
            maps.append(resized(torch.einsum("k,kthw->thw", weights, shown).relu(), clip.size))
        return torch.stack(maps).mean(dim=0)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        """Counting the channels takes a forward pass of its own."""
        with model.frozen():
            layers = self._features(model, torch.zeros(1, 3, model.spec.frames, *model.spec.size))
        return Passes(1 + sum(len(self._chosen(features)) for features in layers))

    def _features(self, model: VideoModel, x: Tensor) -> list[Tensor]:
        """C×T'×H'×W' of each layer."""
        layers = chosen_layers(model, self.layer)
        with torch.no_grad():
            _, outputs = capture(model, layers, lambda: model.logits(x))
        return [as_volume(o.detach(), model, name).float() for o, name in zip(outputs, layers, strict=True)]

    def _chosen(self, features: Tensor) -> Tensor:
        """The channels shown, in their order."""
        order = features.mean(dim=(1, 2, 3)).argsort(descending=True, stable=True)
        return order[: self.channels].sort().values


def masks(features: Tensor, size: tuple[int, int, int]) -> Tensor:
    """K×T'×H'×W' features → K×1×T×H×W, each resized to the clip and scaled to [0, 1]; 0 where it is constant."""
    large = torch.stack([resized(feature, size) for feature in features])
    low, high = (end(large, dim=(1, 2, 3), keepdim=True) for end in (torch.amin, torch.amax))
    return ((large - low) / (high - low).clamp(min=torch.finfo().tiny))[:, None]
