"""Saliency tubes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.errors import ConfigError
from aosa.explainers.base import Explainer, Passes
from aosa.explainers.cam import resized
from aosa.explainers.gradients import as_volume, capture, chosen_layers
from aosa.models.base import VideoModel
from aosa.models.checkpoints import head


@dataclass
class SaliencyTubes(Explainer):
    """The last convolutional features, each weighted by the classifier's weight for the class.

    Stergiou et al., ICIP 2019: Σ_i w_{c,i}·A_i, without ReLU, resized trilinearly and scaled to [0, 1]. Defined where
    nothing but pooling stands between the features and the classifier. Of two pathways (SlowFast), whose pooled
    features the classifier takes side by side, each is weighted by its own part, resized, and added. Costs one
    forward pass.

    Raises:
        ConfigError: a model whose classifier does not take the pooled features of its target layers.
    """

    name: ClassVar[str] = "saliency_tubes"
    title: ClassVar[str] = "Saliency Tubes"

    def check(self, model: VideoModel) -> None:
        """Costs a forward pass."""
        with model.frozen():
            self._features(model, torch.zeros(1, 3, model.spec.frames, *model.spec.size))

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        features = self._features(model, clip.tensor(model.spec)[None])
        row = head(model.network)[1].weight[target].flatten().float()
        tubes = torch.zeros(clip.size, device=row.device)
        for feature, weights in zip(features, row.split([len(f) for f in features]), strict=True):
            tubes = tubes + resized((weights[:, None, None, None] * feature).sum(dim=0), clip.size)
        tubes = tubes - tubes.min()
        return tubes / tubes.max().clamp(min=torch.finfo().tiny)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1)

    def _features(self, model: VideoModel, x: Tensor) -> list[Tensor]:
        layers = chosen_layers(model, None)
        with torch.no_grad():
            _, outputs = capture(model, layers, lambda: model.logits(x))
        taken = head(model.network)[1].weight[0].numel()
        given = [o.shape[-1] if o.dim() == 3 else o.shape[1] for o in outputs]
        if any(o.dim() == 3 for o in outputs) or sum(given) != taken:
            raise ConfigError(
                f"explainer=saliency_tubes weighs the last convolutional features by the classifier's weights: those "
                f"of {model.name} ({', '.join(layers)}) have {sum(given)} channels and its classifier takes {taken} "
                f"numbers, of another kind; it is defined for 3D CNNs that end in pooling and one linear layer, such "
                f"as r3d50, r2plus1d50, r2plus1d18, i3d, slowfast_r50"
            )
        return [as_volume(o.detach().float(), model, name) for o, name in zip(outputs, layers, strict=True)]
