"""What every explainer is."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.errors import AosaError
from aosa.models.base import VideoModel
from aosa.options import Options


@dataclass
class Explainer(Options, ABC):
    """``explainer(model, clip, target=None)`` gives a map. A subclass is a dataclass whose fields are its options."""

    owner: ClassVar[str] = "explainer"

    def __call__(self, model: VideoModel, clip: Clip, target: int | None = None) -> Tensor:
        """The saliency map of `clip` for class `target`.

        Returns:
            float32 T×H×W on the CPU, finite, larger = more important. The class explained is kept as
            its attribute ``target``.

        Raises:
            ConfigError: target out of range, or a model this explainer is not defined for.
            AosaError: the map holds NaN or infinity (weights or input do).
        """
        target = model.resolve_target(clip, target)
        with model.frozen():
            saliency = self.explain(model, clip, target)
        saliency = saliency.detach().to("cpu", torch.float32).contiguous()
        if not torch.isfinite(saliency).all():
            raise AosaError(
                f"{self.name} on clip {clip.id!r}: the map is not finite; "
                f"the weights of {model.name} or the input hold NaN or infinity"
            )
        if saliency.numel() > 1 and saliency.max() == saliency.min():
            warnings.warn(f"{self.name} on clip {clip.id!r}: the map is constant ({saliency.min():g})", stacklevel=2)
        saliency.target = target  # type: ignore[attr-defined]
        return saliency

    def check(self, model: VideoModel) -> None:
        """Refuse a model that the method is not defined for; most are defined for all. The stages ask before they
        read a clip.

        Raises:
            ConfigError: naming what is possible.
        """

    @abstractmethod
    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """The method itself; called with the model in evaluation mode, parameters not requiring gradients."""
