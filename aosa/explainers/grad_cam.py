"""Grad-CAM."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aosa.clip import Clip
from aosa.errors import ConfigError
from aosa.explainers.base import Explainer
from aosa.models.base import VideoModel
from aosa.options import check_choice


class GradCAM(Explainer):
    """Feature maps of a convolutional stage, weighted by the mean gradient of the class over each.

    Selvaraju et al. 2017, eq. 1 and 2, on 3D features; resized trilinearly to the clip. Where a model names
    several target layers, their maps are resized and averaged.

    Args:
        layer: dotted name(s) of the layer; default the model's target layer.
        pooling: mean of the gradient over ``clip`` (T', H', W') or per ``frame`` (H', W'; STEP's code,
            mmaction2). The two agree where the layer has one time step, as in R3D.
        output: differentiate the ``logit`` (the method's default) or the ``probability``.
        relu: drop negative values.

    Raises:
        ConfigError: an option out of its choices, a layer the model does not have, or one whose output is not
            B×C×T'×H'×W'.
    """

    def __init__(
        self,
        layer: str | list[str] | None = None,
        pooling: str = "clip",
        output: str = "logit",
        relu: bool = True,
    ) -> None:
        check_choice(
            "explainer",
            pooling=(pooling, ("clip", "frame")),
            output=(output, ("logit", "probability")),
            relu=(relu, (True, False)),
        )
        self.layer = layer
        self.pooling = pooling
        self.output = output
        self.relu = relu

    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """See `Explainer.explain`."""
        layers = [self.layer] if isinstance(self.layer, str) else list(self.layer or model.target_layers)
        if not layers:
            raise ConfigError(f"model {model.name} names no target layer; set explainer.layer or model.target_layer")
        x = clip.tensor(model.spec)[None]
        features: list[Tensor] = []

        def keep(module: nn.Module, args: object, output: Tensor) -> Tensor:
            # The graph starts here: nothing before the layer needs a gradient.
            if not isinstance(output, Tensor) or output.dim() != 5:
                raise ConfigError(f"explainer.layer={layers}: a layer's output must be B×C×T×H×W")
            features.append(output if output.requires_grad else output.detach().requires_grad_())
            return features[-1]

        handles = [model.module(name).register_forward_hook(keep) for name in layers]
        try:
            with torch.enable_grad():
                score = (model.logits(x) if self.output == "logit" else model.probabilities(x))[0, target]
                gradients = torch.autograd.grad(score, features)
        finally:
            for handle in handles:
                handle.remove()
        over = (2, 3, 4) if self.pooling == "clip" else (3, 4)
        maps = []
        for feature, gradient in zip(features, gradients, strict=True):
            cam = (gradient.float().mean(dim=over, keepdim=True) * feature.float()).sum(dim=1, keepdim=True)
            cam = cam.relu() if self.relu else cam
            maps.append(F.interpolate(cam, size=clip.size, mode="trilinear", align_corners=False)[0, 0])
        return torch.stack(maps).mean(dim=0)
