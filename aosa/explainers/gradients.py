"""Gradients of a class with respect to the input and to a layer's features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from aosa.errors import ConfigError
from aosa.models.base import VideoModel, leaves_autograd

OUTPUTS = ("logit", "probability")


def check_gradient(model: VideoModel) -> None:
    """Refuse a network through which no gradient comes; costs a forward pass, once for each model.

    Raises:
        ConfigError: naming methods that need none.
    """
    if not model.differentiable:
        raise ConfigError(_no_gradient(model, "the clip"))


def check_layer_gradient(model: VideoModel, layer: str | Sequence[str] | None) -> None:
    """Refuse layers that there are not, or between which and the output no gradient comes; costs a forward pass.

    Raises:
        ConfigError: naming the layers, or methods that need no gradient.
    """
    x = torch.zeros(1, 3, model.spec.frames, *model.spec.size)
    layers = chosen_layers(model, layer)
    try:
        with model.frozen():
            logits, features = capture(model, layers, lambda: model.logits(x))
            gradients_of(model, logits[0, 0], features, "the layer")
    except RuntimeError as error:
        if leaves_autograd(error):
            raise ConfigError(_no_gradient(model, "the layer")) from error
        raise


def gradients_of(model: VideoModel, score: Tensor, inputs: Sequence[Tensor], where: str) -> Sequence[Tensor]:
    """Gradients of a score with respect to some tensors.

    Raises:
        ConfigError: none comes there, as through a network under ``no_grad``.
    """
    check_graph(model, score, where)
    found = torch.autograd.grad(score, inputs, allow_unused=True)
    if any(gradient is None for gradient in found):
        raise ConfigError(_no_gradient(model, where))
    return found


def check_graph(model: VideoModel, score: Tensor, where: str = "the clip") -> None:
    """Refuse a score that has no gradient at all.

    Raises:
        ConfigError: see `gradients_of`.
    """
    if not score.requires_grad:
        raise ConfigError(_no_gradient(model, where))


def _no_gradient(model: VideoModel, where: str) -> str:
    return (
        f"no gradient of the outputs of {model.name} reaches {where}: its network, or a part of it, runs under no_grad "
        f"or inference_mode, or is detached. Take an explainer that needs none (aosa, osa, lime3d, rise3d …), or let "
        f"the network keep its gradients"
    )


def class_scores(model: VideoModel, x: Tensor, target: int, output: str) -> Tensor:
    """Logit or score of the class for B×3×T×H×W: B, differentiable. What they are is the model's head's to say."""
    return (model.logits(x) if output == "logit" else model.scores(x))[:, target]


def input_gradients(model: VideoModel, x: Tensor, target: int, output: str) -> tuple[Tensor, Tensor]:
    """Score of the class and its gradient with respect to each clip of a batch.

    Returns:
        B, and B×3×T×H×W.
    """
    with torch.enable_grad():
        leaf = x.detach().to(model.device).requires_grad_()
        scores = class_scores(model, leaf, target, output)
        # Clips of a batch don't see each other, so the gradient of the sum is each one's own.
        (found,) = gradients_of(model, scores.sum(), [leaf], "the clip")
    return scores.detach(), found


def batched(samples: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Stack 3×T×H×W samples into batches of at most `size`, drawn as they are needed."""
    batch: list[Tensor] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def chosen_layers(model: VideoModel, layer: str | Sequence[str] | None) -> list[str]:
    """The layers to read: those named, or the model's target layers.

    Raises:
        ConfigError: neither names one, or the model has no layer of that name.
    """
    layers = [layer] if isinstance(layer, str) else list(layer or model.target_layers)
    if not layers:
        raise ConfigError(f"model {model.name} names no target layer; set explainer.layer or model.target_layer")
    for name in layers:
        model.module(name)
    return layers


def capture(model: VideoModel, layers: Sequence[str], run: Callable[[], Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Run a forward pass and keep what the layers give, as leaves of the graph: nothing before a layer needs a
    gradient.

    Returns:
        what `run` returned, and each layer's output.

    Raises:
        ConfigError: a layer gives no tensor, or did not take part.
    """
    features: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, object], Tensor]:
        def hook(module: nn.Module, args: object, output: object) -> Tensor:
            if not isinstance(output, Tensor):
                raise ConfigError(f"explainer.layer={name} of {model.name} gives no tensor; choose another layer")
            features[name] = output if output.requires_grad else output.detach().requires_grad_()
            # A later in-place operation (an inplace ReLU) must not change what was kept.
            return features[name].clone()

        return hook

    handles = [model.module(name).register_forward_hook(keep(name)) for name in layers]
    try:
        with torch.enable_grad():
            result = run()
    finally:
        for handle in handles:
            handle.remove()
    for name in layers:
        if name not in features:
            raise ConfigError(f"explainer.layer={name} takes no part in a forward pass of {model.name}")
    return result, [features[name] for name in layers]


def feature_gradients(
    model: VideoModel, x: Tensor, target: int, layers: Sequence[str], output: str
) -> list[tuple[Tensor, Tensor]]:
    """Each layer's features and the gradient of the class with respect to them, both as C×T'×H'×W' float32.

    Args:
        x: 1×3×T×H×W.

    Raises:
        ConfigError: a layer whose output has no place in time and space, see `as_volume`.
    """
    score, features = capture(model, layers, lambda: class_scores(model, x, target, output)[0])
    gradients = gradients_of(model, score, features, "the layer")
    pairs = []
    for name, feature, gradient in zip(layers, features, gradients, strict=True):
        volume, slope = (as_volume(part, model, name).float() for part in (feature.detach(), gradient))
        pairs.append((volume, slope))
    return pairs


def as_volume(features: Tensor, model: VideoModel, layer: str) -> Tensor:
    """One clip's features in time and space, C×T'×H'×W'.

    Known layouts: 1×C×T'×H'×W' of 3D networks; T×C×H'×W' of networks that see each frame alone; T×(1 + P)×C of
    transformers that see each frame alone, whose first (class) token has no place and is dropped. The P patches lie in
    the network's ``grid`` (rows, columns), or in a square where it has none.

    Raises:
        ConfigError: another layout.
    """
    if features.dim() == 5 and len(features) == 1:
        return features[0]
    if len(features) == model.spec.frames:
        if features.dim() == 4:
            return features.transpose(0, 1)
        if features.dim() == 3:
            side = math.isqrt(features.shape[1] - 1)
            rows, columns = getattr(model.network, "grid", (side, side))
            if rows * columns == features.shape[1] - 1:
                return features[:, 1:].unflatten(1, (rows, columns)).permute(3, 0, 1, 2)
    raise ConfigError(
        f"explainer.layer={layer} of {model.name} gives {'×'.join(map(str, features.shape))} for a clip of "
        f"{model.spec.frames} frames, which has no place in time and space; its output must be B×C×T×H×W, (B·T)×C×H×W, "
        f"or (B·T)×(1 + P)×C tokens of the patches of each frame"
    )
