"""Grad-CAM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from aosa.clip import Clip
from aosa.explainers.base import Explainer
from aosa.explainers.gradients import OUTPUTS, check_layer, check_layer_gradient, chosen_layers, feature_gradients
from aosa.models.base import VideoModel
from aosa.options import check_choice


class GradCAM(Explainer):
    """Feature maps of a convolutional stage, weighted by the mean gradient of the class over each.

    Selvaraju et al. 2017, eq. 1 and 2, on 3D features; resized trilinearly to the clip. Where a model names
    several target layers (the two pathways of SlowFast), their maps are resized and averaged. The patch tokens of
    TimeSformer and the frames of a 2D network count as features in time and space too, see
    `aosa.explainers.gradients.as_volume`.

    Args:
        layer: dotted name(s) of the layer; default the model's target layer.
        pooling: mean of the gradient over ``clip`` (T', H', W') or per ``frame`` (H', W'; STEP's code,
            mmaction2). The two agree where the layer has one time step, as in R3D.
        output: differentiate the ``logit`` (the method's default) or the ``probability``.
        relu: drop negative values.

    Raises:
        ConfigError: an option out of its choices, a layer the model does not have, or one whose output has no place
            in time and space.
    """

    def __init__(
        self,
        layer: str | list[str] | None = None,
        pooling: str = "clip",
        output: str = "logit",
        relu: bool = True,
    ) -> None:
        check_layer(layer)
        check_choice(
            "explainer",
            pooling=(pooling, ("clip", "frame")),
            output=(output, OUTPUTS),
            relu=(relu, (True, False)),
        )
        self.layer = layer
        self.pooling = pooling
        self.output = output
        self.relu = relu

    def check(self, model: VideoModel) -> None:
        """See `Explainer.check`; costs a forward pass."""
        check_layer_gradient(model, self.layer)

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        x = clip.tensor(model.spec)[None]
        layers = chosen_layers(model, self.layer)
        maps = []
        for feature, gradient in feature_gradients(model, x, target, layers, self.output):
            weights = gradient.mean(dim=(1, 2, 3) if self.pooling == "clip" else (2, 3), keepdim=True)
            cam = (weights * feature).sum(dim=0)
            maps.append(resized(cam.relu() if self.relu else cam, clip.size))
        return torch.stack(maps).mean(dim=0)


def resized(cam: Tensor, size: tuple[int, int, int]) -> Tensor:
    """T'×H'×W' → T×H×W, trilinear."""
    return F.interpolate(cam[None, None], size=size, mode="trilinear", align_corners=False)[0, 0]
