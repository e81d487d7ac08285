"""Class activation maps: feature maps of a layer, weighted by what the class's gradient says of them."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer, Passes
from aosa.explainers.gradients import OUTPUTS, check_layer_gradient, chosen_layers, feature_gradients
from aosa.fields import option
from aosa.models.base import VideoModel


@dataclass
class CAM(Explainer):
    """A member of the family says in `weighted` how features and gradients become a map of the layer's size.

    Maps are resized trilinearly to the clip. Where a model names several target layers (the two pathways of SlowFast),
    their maps are resized and averaged. The patch tokens of TimeSformer and the frames of a 2D network count as
    features in time and space too, see `aosa.explainers.gradients.as_volume`. Costs one forward and one backward pass.

    Raises:
        ConfigError: an option out of its choices, a layer the model does not have, or one whose output has no place
            in time and space.
    """

    layer: str | list[str] | None = option(
        None,
        "dotted name(s) of the layer; default the model's target layer(s)",
        expect="a layer's dotted name, a list of names, or null",
    )
    output: str = option("logit", "what is differentiated", choices=OUTPUTS)
    relu: bool = option(True, "drop negative values")

    @property
    def signed(self) -> bool:  # type: ignore[override]
        """What lowers the class is below 0, unless ReLU drops it."""
        return not self.relu

    def check(self, model: VideoModel) -> None:
        """Costs a forward pass."""
        check_layer_gradient(model, self.layer)

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        x = clip.tensor(model.spec)[None]
        layers = chosen_layers(model, self.layer)
        maps = []
        for feature, gradient in feature_gradients(model, x, target, layers, self.output):
            cam = self.weighted(feature, gradient).sum(dim=0)
            maps.append(resized(cam.relu() if self.relu else cam, clip.size))
        return torch.stack(maps).mean(dim=0)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1, 1)

    @abstractmethod
    def weighted(self, feature: Tensor, gradient: Tensor) -> Tensor:
        """A layer's features, weighted: C×T'×H'×W', from features and gradient of the same shape."""


def resized(cam: Tensor, size: tuple[int, int, int]) -> Tensor:
    """T'×H'×W' → T×H×W, trilinear."""
    return F.interpolate(cam[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
