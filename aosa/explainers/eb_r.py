"""EB-R: excitation backpropagation through a recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from aosa.clip import Clip
from aosa.errors import AosaError, ConfigError
from aosa.explainers.base import Explainer, Passes
from aosa.explainers.cam import resized
from aosa.explainers.gradients import OUTPUTS
from aosa.fields import option
from aosa.models.base import VideoModel
from aosa.models.vgg16_lstm import VGG16LSTM


@dataclass
class EBR(Explainer):
    """Which neurons of conv5 win, step by step, in a top-down competition that starts at the class.

    Adel Bargal et al., CVPR 2018, on excitation backprop (Zhang et al., ECCV 2016): a linear layer passes the winning
    probability P_i of its output i down to its inputs j in proportion to w⁺_ij·x_j; max pooling passes it to the
    maximum. The gates of the LSTM and the softmax pass it as they pass gradients (as the code of STEP's authors does).
    The probabilities that reach the LSTM's inputs are divided by their sum over all steps and multiplied by T, and
    taken on to conv5_3 frame by frame. The map: |P| averaged over the channels, scaled to [0, 1] over the clip,
    resized trilinearly. In float32 whatever the model's precision. Costs one forward and one backward pass.

    Raises:
        ConfigError: an option out of its choices, a model other than VGG16-LSTM, or a head other than ``softmax``.
        AosaError: ``probability`` on a clip whose probability is 0 or 1 to rounding.
    """

    name: ClassVar[str] = "eb_r"
    title: ClassVar[str] = "EB-R"

    output: str = option(
        "probability",
        "start at the class's probability, averaged over the steps, or at its logit in every step",
        choices=OUTPUTS,
    )

    def check(self, model: VideoModel) -> None:
        if not isinstance(model.network, VGG16LSTM):
            raise ConfigError(
                f"explainer=eb_r follows the steps of an LSTM over VGG-16, which {model.name} "
                f"({type(model.network).__name__}) does not have; it is defined for model=vgg16_lstm"
            )
        if model.head != "softmax":
            raise ConfigError(
                f"explainer=eb_r starts at a softmax, and model.head={model.head}: set model.head=softmax"
            )

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        self.check(model)
        network = model.network
        assert isinstance(network, VGG16LSTM)
        kept: list[Tensor] = []

        def keep(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
            kept.append(args[0].detach().requires_grad_())
            return (kept[0],)

        handle = network.get_submodule("pool5").register_forward_pre_hook(keep)
        try:
            with torch.enable_grad(), _Excitation():
                embedded = network.embed(clip.tensor(model.spec).transpose(0, 1).to(model.device))
                logits = network.steps(embedded[None])[0]
                # In float64: of a confident clip, float32 would leave rounding alone.
                outputs = (
                    logits.double().softmax(dim=1).mean(dim=0) if self.output == "probability" else logits.sum(dim=0)
                )
                (inputs,) = torch.autograd.grad(outputs[target], embedded, retain_graph=True)
                if not inputs.any():
                    raise AosaError(
                        f"eb_r on clip {clip.id!r}: the probability of class {target} is 0 or 1 to rounding, so "
                        f"nothing wins; use explainer.output=logit"
                    )
                inputs = len(inputs) * inputs / inputs.sum()
                (conv5,) = torch.autograd.grad(embedded, kept[0], inputs)
        finally:
            handle.remove()
        winning = conv5.abs().mean(dim=1)
        winning = winning - winning.min()
        return resized(winning / winning.max().clamp(min=torch.finfo().tiny), clip.size)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1, 1)


class _Excitation(TorchFunctionMode):
    """Linear layers and convolutions pass winning probabilities, not gradients, inside."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.linear or func is torch.conv2d or func is F.conv2d:
            x, weight, *rest = args
            layer = func

            def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
                with torch._C.DisableTorchFunction():
                    return layer(x, weight, bias, *rest[1:], **kwargs)

            return _Winning.apply(x, weight, rest[0] if rest else None, linear)
        return func(*args, **kwargs)


class _Winning(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Any) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        return layer(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, winning: Tensor) -> tuple[Tensor | None, None, None, None]:  # type: ignore[override]
        if not ctx.needs_input_grad[0]:
            return None, None, None, None
        x, weight = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            excited = ctx.layer(leaf, weight.clamp(min=0), None)
            # Nothing excites an output that is 0: its share is lost.
            (share,) = torch.autograd.grad(excited, leaf, winning / (excited + 1e-20))
        return share * x, None, None, None
