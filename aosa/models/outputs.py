"""From what a network gives to B×K numbers, and from those to scores by the network's head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from aosa.errors import ConfigError

HEADS = ("softmax", "sigmoid", "identity", "probabilities")
OUTPUT_LAYOUTS = ("BK", "BTK", "BKT")
# Where class scores lie in a dict or an output object, in the order in which they are looked for.
_KEYS = ("logits", "scores", "cls_score", "out", "output", "preds", "pred", "predictions")


def activate(logits: Tensor, head: str) -> Tensor:
    """B×K logits → B×K scores, in the same precision; those of ``probabilities`` are logarithms."""
    match head:
        case "softmax":
            return logits.softmax(dim=1)
        case "sigmoid":
            return logits.sigmoid()
        case "probabilities":
            return logits.exp()
    return logits


def pick(outputs: Any, key: str | int | None, batch: int, classes: int | None) -> Tensor:
    """The tensor of the class scores among what a network gives.

    Args:
        outputs: a tensor, which is it; or several in a tuple, a list, a dict or an object.
        key: name or index of the tensor, as the user gives it; None finds one called as in `_KEYS`, the only one, or
            the only one of the shape B×K.
        batch, classes: B, and K where it is known.

    Raises:
        ConfigError: none or more than one could be meant.
    """
    if isinstance(outputs, Tensor):
        return outputs
    tensors = {name: value for name, value in _named(outputs).items() if isinstance(value, Tensor)}
    listed = ", ".join(f"{name}: {sizes(value.shape)}" for name, value in tensors.items()) or "no tensor"
    if key is not None:
        if key not in tensors:
            raise ConfigError(f"model.output={key}: the network's {type(outputs).__name__} holds {listed}")
        return tensors[key]
    if named := [name for name in _KEYS if name in tensors]:
        return tensors[named[0]]
    fitting = [value for value in tensors.values() if _is_rows(value, batch, classes)]
    if len(tensors) == 1 or len(fitting) == 1:
        return fitting[0] if fitting else next(iter(tensors.values()))
    choose = "set model.output to the one of the class scores" if tensors else "it must give class scores, B×K"
    raise ConfigError(f"the network gives a {type(outputs).__name__} that holds {listed}: {choose}")


def _named(outputs: Any) -> dict[Any, Any]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if hasattr(outputs, "_asdict"):
        return outputs._asdict()
    if isinstance(outputs, Sequence) and not isinstance(outputs, str):
        return dict(enumerate(outputs))
    return getattr(outputs, "__dict__", {})


def _is_rows(value: Tensor, batch: int, classes: int | None) -> bool:
    count = value.shape[1] if value.dim() > 1 else 0
    return len(value.shape) >= 2 and value.numel() == batch * count and classes in (None, count)


def as_rows(outputs: Tensor, layout: str, batch: int, frames: int, classes: int | None) -> Tensor:
    """The tensor of the class scores as B×K.

    Args:
        outputs: B×K, with further dimensions of 1 or without the dimension that is 1 (B = 1 or K = 1); by the `layout`
            ``BTK`` B×T×K or (B·T)×K, by ``BKT`` B×K×T, both averaged over T.
        batch, frames: B and the clips' T.
        classes: K, where it is known.

    Raises:
        ConfigError: another shape, or one that could mean two things.
    """
    shape = sizes(outputs.shape)
    if layout != "BK":
        if layout == "BTK" and outputs.dim() == 2 and len(outputs) == batch * frames:
            outputs = outputs.unflatten(0, (batch, frames))
        while outputs.dim() > 3 and outputs.shape[-1] == 1:
            outputs = outputs.squeeze(-1)
        if outputs.dim() == 3 and len(outputs) == batch:
            return outputs.mean(dim=1 if layout == "BTK" else 2)
        raise ConfigError(
            f"the network gives {shape} for a batch of {batch}, which is not model.output_layout={layout}"
        )
    if outputs.dim() < 2 and batch in (1, outputs.numel()):
        return outputs.reshape(batch, -1)
    if tuple(outputs.shape) == (batch, frames, 1) and frames > 1 and classes is None:
        raise ConfigError(
            f"the network gives {shape}, {frames} classes or one per frame: set model.output_layout=BTK, or say by "
            f"model.class_names that these are classes"
        )
    while outputs.dim() > 2 and outputs.shape[-1] == 1:
        outputs = outputs.squeeze(-1)
    if outputs.dim() == 2 and len(outputs) == batch:
        return outputs
    raise ConfigError(
        f"the network gives {shape} for a batch of {batch}, it must give one row of class scores a clip: for scores "
        f"per frame set model.output_layout=BTK or BKT, which averages them"
    )


def check_values(rows: Tensor, head: str, ending: str, exact: bool) -> str:
    """Refuse outputs that do not go with the head.

    Args:
        rows: B×K.
        ending: ``softmax`` or ``sigmoid`` where the network is known to end in it, else empty.
        exact: whether the pass ran in float32.

    Returns:
        a remark on outputs that may or may not be probabilities, else empty.

    Raises:
        ConfigError: with the head that would be right.
    """
    if not rows.is_floating_point():
        raise ConfigError(f"the network gives {rows.dtype}, such as indices of classes: it must give their scores")
    rows = rows.detach().double()
    if not torch.isfinite(rows).all():
        raise ConfigError(
            "the network's outputs are not finite (NaN or infinity): the weights are damaged, or precision is too low"
        )
    inside = bool(((rows >= 0) & (rows <= 1)).all())
    slack = 1e-5 if exact else 1e-2
    if head == "softmax" and rows.shape[1] == 1:
        raise ConfigError(
            "the network has one output, whose softmax is 1 whatever the clip: set model.head=sigmoid (one class, "
            "there or not), identity (a number), or probabilities (where the network ends in a sigmoid)"
        )
    if head == "probabilities" and not inside:
        raise ConfigError(
            f"model.head=probabilities, but the network gives numbers from {rows.min():.3g} to {rows.max():.3g}: set "
            f"model.head=softmax, sigmoid (several classes at once, or one) or identity (no probabilities at all)"
        )
    if head == "sigmoid" and rows.shape[1] > 1 and ((rows.exp().sum(dim=1) - 1).abs() <= slack).all():
        raise ConfigError("the network gives logarithms of probabilities that sum to 1: set model.head=softmax")
    if head not in ("softmax", "sigmoid") or not inside:
        return ""
    if rows.shape[1] > 1 and ((rows.sum(dim=1) - 1).abs() <= slack).all():
        ending = "softmax"
    if ending:
        raise ConfigError(
            f"the network ends in a {ending}: its outputs are probabilities already, which another {head} would "
            f"flatten; set model.head=probabilities"
        )
    return "all outputs of a trial lie in [0, 1]: if they are probabilities already, set model.head=probabilities"


class Ending(TorchFunctionMode):
    """Inside, notes the last softmax or sigmoid, to tell afterwards whether a result comes straight from it."""

    _KINDS = {  # noqa: RUF012  a constant
        **dict.fromkeys((F.softmax, torch.softmax, Tensor.softmax, torch.special.softmax), "softmax"),
        **dict.fromkeys((F.sigmoid, torch.sigmoid, Tensor.sigmoid, torch.special.expit), "sigmoid"),
        **dict.fromkeys((torch.sigmoid_, Tensor.sigmoid_), "sigmoid"),
    }

    def __init__(self) -> None:
        super().__init__()
        self.last: tuple[str, Tensor] | None = None

    def __enter__(self) -> Ending:
        super().__enter__()
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in self._KINDS:
            self.last = self._KINDS[func], result
        return result

    def of(self, result: Tensor) -> str:
        """``softmax``, ``sigmoid``, or empty where something else was done last."""
        if self.last is None or self.last[1].untyped_storage().data_ptr() != result.untyped_storage().data_ptr():
            return ""
        return self.last[0]


def sizes(shape: Sequence[int]) -> str:
    """``2×101``; ``a number`` for no dimension."""
    return "×".join(map(str, shape)) or "a number"
