"""What every explainer is."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from aosa.clip import Clip, InputSpec
from aosa.errors import AosaError
from aosa.fields import Options
from aosa.models.base import VideoModel
from aosa.saliency import SaliencyMap


class Passes(NamedTuple):
    """How many clips a piece of work sends through the network, and how many of them back."""

    forward: float
    backward: float = 0

    def __mul__(self, factor: object) -> Passes:
        """So many times the work."""
        if not isinstance(factor, int | float):
            return NotImplemented
        return Passes(factor * self.forward, factor * self.backward)


@dataclass
class Explainer(Options, ABC):
    """``explainer(model, clip, target=None)`` gives a map. A subclass is a dataclass whose fields are its options.

    Its work has two parts: `prepare` is what needs no network (flow, tubes, super-voxels), `explain` the rest.

    `signed` says whether 0 means something in its maps, so that what is below 0 speaks against the class; a property
    where that depends on an option.
    """

    owner: ClassVar[str] = "explainer"
    signed: ClassVar[bool] = False

    def __call__(self, model: VideoModel, clip: Clip, target: int | None = None, prepared: Any = None) -> SaliencyMap:
        """The saliency map of `clip` for class `target`.

        Args:
            prepared: what `prepare` gave for this clip; None = it is called here.

        Returns:
            a map of the clip's size, its values finite, larger = more important.

        Raises:
            ConfigError: target out of range, or a model this explainer is not defined for.
            AosaError: the map holds NaN or infinity (weights or input do).
        """
        target = model.resolve_target(clip, target)
        if prepared is None:
            prepared = self.prepare(clip, model.spec)
        with model.frozen():
            saliency = SaliencyMap(self.explain(model, clip, target, prepared), target, self.signed)
        values = saliency.values
        if not torch.isfinite(values).all():
            raise AosaError(
                f"{self.name} on clip {clip.id!r}: the map is not finite; "
                f"the weights of {model.name} or the input hold NaN or infinity"
            )
        if values.numel() > 1 and values.max() == values.min():
            warnings.warn(f"{self.name} on clip {clip.id!r}: the map is constant ({values.min():g})", stacklevel=2)
        return saliency

    def check(self, model: VideoModel) -> None:
        """Refuse a model that the method is not defined for; most are defined for all. The stages ask before they
        read a clip.

        Raises:
            ConfigError: naming what is possible.
        """

    def prepare(self, clip: Clip, spec: InputSpec) -> Any:
        """What of the work needs no network; None when there is nothing. It may be done ahead, in another process.

        Raises:
            ConfigError: options that do not fit the clip's size.
        """
        return None

    @abstractmethod
    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: Any) -> Tensor:
        """The method itself: the values of the map, T×H×W; called with the model in evaluation mode, parameters not
        requiring gradients.

        Args:
            prepared: what `prepare` gave.
        """

    def passes(self, model: VideoModel, clip: Clip) -> Passes | None:
        """What a map costs at most; no network is asked. None where a method does not say."""
        return None
