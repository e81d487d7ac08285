"""What every explainer is."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from aosa.clip import Clip
from aosa.errors import AosaError
from aosa.models.base import VideoModel
from aosa.options import options_of


class Explainer(ABC):
    """``explainer(model, clip, target=None)`` gives a map; options belong to ``__init__``.

    Subclasses keep each ``__init__`` argument as an attribute of the same name, and raise `version`
    when a fix changes their maps.
    """

    version = 1

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
                f"{type(self).__name__} on clip {clip.id!r}: the map is not finite; "
                f"the weights of {model.name} or the input hold NaN or infinity"
            )
        if saliency.numel() > 1 and saliency.max() == saliency.min():
            warnings.warn(
                f"{type(self).__name__} on clip {clip.id!r}: the map is constant ({saliency.min():g})", stacklevel=2
            )
        saliency.target = target  # type: ignore[attr-defined]
        return saliency

    def check(self, model: VideoModel) -> None:  # noqa: B027  most methods refuse none
        """Refuse a model that the method is not defined for; most are defined for all. The stages ask before they
        read a clip.

        Raises:
            ConfigError: naming what is possible.
        """

    @abstractmethod
    def explain(self, model: VideoModel, clip: Clip, target: int) -> Tensor:
        """The method itself; called with the model in evaluation mode, parameters not requiring gradients."""

    def identity(self) -> dict[str, object]:
        """Class, version and options: all that changes a map."""
        return options_of(self)
