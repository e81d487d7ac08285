"""Grad-CAM++."""

from __future__ import annotations

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer
from aosa.explainers.grad_cam import resized
from aosa.explainers.gradients import check_layer, check_layer_gradient, chosen_layers, feature_gradients
from aosa.models.base import VideoModel
from aosa.options import check_choice


class GradCAMPP(Explainer):
    """Grad-CAM whose gradients are pooled by weights that count each place that speaks for the class once.

    Chattopadhyay et al. 2018, eq. 10 and 19, with Y = exp(logit), so that the higher derivatives are powers of the
    gradient g: α = g² / (2 g² + ΣA · g³), weights w = Σ α · ReLU(g). The factor exp(logit), the same for all, is left
    out. Not of the papers that are reproduced here; a baseline that users expect.

    Args:
        layer: dotted name(s) of the layer; default the model's target layer(s), whose maps are averaged.
        relu: drop negative values.

    Raises:
        ConfigError: as `aosa.explainers.grad_cam.GradCAM`.
    """

    def __init__(self, layer: str | list[str] | None = None, relu: bool = True) -> None:
        check_layer(layer)
        check_choice("explainer", relu=(relu, (True, False)))
        self.layer = layer
        self.relu = relu

    def check(self, model: VideoModel) -> None:
        """See `Explainer.check`; costs a forward pass."""
        check_layer_gradient(model, self.layer)

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        x = clip.tensor(model.spec)[None]
        layers = chosen_layers(model, self.layer)
        maps = []
        for feature, gradient in feature_gradients(model, x, target, layers, "logit"):
            square = gradient**2
            below = 2 * square + feature.sum(dim=(1, 2, 3), keepdim=True) * gradient**3
            alpha = torch.where(below != 0, square / below.where(below != 0, torch.ones_like(below)), 0)
            weights = (alpha * gradient.relu()).sum(dim=(1, 2, 3), keepdim=True)
            cam = (weights * feature).sum(dim=0)
            maps.append(resized(cam.relu() if self.relu else cam, clip.size))
        return torch.stack(maps).mean(dim=0)
