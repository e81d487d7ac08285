"""Guided backpropagation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aosa.clip import Clip
from aosa.errors import ConfigError
from aosa.explainers.base import Passes
from aosa.explainers.gradients import input_gradients
from aosa.explainers.input_gradient import InputGradient
from aosa.models.base import VideoModel


@dataclass
class GuidedBackprop(InputGradient):
    """The input's gradient, with what is negative stopped at each ReLU on the way back too.

    Springenberg et al. 2015. ``absolute`` is the largest magnitude over the channels. Not of the papers that are
    reproduced here; a baseline that users expect, with a known flaw: it hardly depends on the last layers' weights
    (Adebayo et al. 2018).

    Raises:
        ConfigError: an option out of its choices, or a network without ReLU.
    """

    name: ClassVar[str] = "guided_backprop"
    title: ClassVar[str] = "Guided Backprop"

    def check(self, model: VideoModel) -> None:
        """Costs a forward pass."""
        super().check(model)
        with model.frozen(), torch.no_grad(), _Guided() as guide:
            model.logits(torch.zeros(1, 3, model.spec.frames, *model.spec.size))
        if not guide.relus:
            raise ConfigError(
                f"explainer=guided_backprop changes how ReLUs pass gradients back, and {model.name} has none; choose a "
                f"network that has them (the convolutional ones), or explainer=integrated_gradients"
            )

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        with _Guided() as guide:
            _, gradients = input_gradients(model, clip.tensor(model.spec)[None], target, self.output)
        if not guide.relus:
            self.check(model)
        return gradients[0].abs().amax(dim=0) if self.absolute else gradients[0].sum(dim=0)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1, 1)


class _Guided(TorchFunctionMode):
    """Replaces every ReLU of a forward pass, be it a module, a function or in place; the network stays untouched."""

    in_place = (F.relu_, torch.relu_, Tensor.relu_)
    kinds = (F.relu, torch.relu, Tensor.relu, *in_place)

    def __init__(self) -> None:
        super().__init__()
        self.relus = 0

    def __enter__(self) -> _Guided:
        super().__enter__()
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func not in self.kinds:
            return func(*args, **kwargs)
        self.relus += 1
        x = args[0] if args else kwargs["input"]
        inplace = func in self.in_place or kwargs.get("inplace", args[1] if len(args) > 1 else False)
        return _GuidedReLU.apply(x, inplace)


class _GuidedReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x > 0)
        if inplace:
            ctx.mark_dirty(x)
            return x.clamp_(min=0)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return gradient.clamp(min=0) * ctx.saved_tensors[0], None
