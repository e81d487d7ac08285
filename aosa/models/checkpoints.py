"""The one way from a checkpoint to a network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aosa.errors import CheckpointError, ConfigError
from aosa.models.checkpoint_files import read_checkpoint
from aosa.models.outputs import sizes

_KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def load_weights(
    network: nn.Module, path: str | Path, *, new_head: bool = False, weights_key: str | None = None
) -> None:
    """Put a checkpoint's weights into a network; every tensor must have its place.

    Absent ``num_batches_tracked`` counters, which old files lack and inference does not use, are allowed. A prefix that
    all names share (``module.``, ``model.``, ``_orig_mod.`` …, in any nesting) is taken off, or one that all of the
    network's share put on, where more of the names then fit. A network whose published checkpoints have other names
    tells them by ``published_name(key) -> str | None``: its own name for a published key, itself for an own one, None
    for what only training uses (auxiliary heads).

    Args:
        new_head: leave the network's own last layer where the checkpoint's is of another size, to be trained.
        weights_key: see `aosa.models.checkpoint_files.read_checkpoint`.

    Raises:
        CheckpointError: as `aosa.models.checkpoint_files.read_checkpoint`; a missing, extra or mis-shaped key, all of
            them listed; a prefix of some names, or a head of another size, named as such; a tensor of another kind than
            plain floating-point numbers, one that is not finite, also after the cast to the network's type, or a
            negative variance, by name.
    """
    path = Path(path)
    tensors, extra = read_checkpoint(path, weights_key)
    own = network.state_dict()
    rename: Callable[[str], str | None] = getattr(network, "published_name", lambda key: key)
    tensors = _renamed(_aligned(tensors, own, rename), rename, path)
    if new_head:
        tensors = _without_head(network, tensors)
    for key in own.keys() & tensors.keys():
        _check_kind(tensors[key], own[key], f"checkpoint {path}: {key}")
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unknown = [k for k in tensors if k not in own]
    shapes = {k: (tuple(tensors[k].shape), tuple(v.shape)) for k, v in own.items() if k in tensors}
    wrong = {k: pair for k, pair in shapes.items() if pair[0] != pair[1]}
    if missing or unknown or wrong:
        raise CheckpointError(_mismatch(network, path, extra, missing, unknown, wrong))
    for key, value in tensors.items():
        _check_values(value, own[key], f"checkpoint {path}: {key}", variance=key.endswith("running_var"))
    network.load_state_dict(tensors, strict=False)


def _check_kind(value: Tensor, own: Tensor, name: str) -> None:
    plain = value.layout == torch.strided and not value.is_nested and not value.is_quantized and not value.is_meta
    if not plain or (own.is_floating_point() and value.dtype not in _KINDS) or value.is_complex():
        kind = "without values (on the device meta)" if value.is_meta else f"{value.dtype} {value.layout}"
        wanted = f"dense float ({', '.join(str(k).removeprefix('torch.') for k in _KINDS)})"
        raise CheckpointError(f"{name} is {kind}, should be {wanted if own.is_floating_point() else own.dtype}")


def _check_values(value: Tensor, own: Tensor, name: str, *, variance: bool) -> None:
    if not torch.isfinite(value).all():
        raise CheckpointError(f"{name} holds NaN or infinity; the training that made it diverged")
    if value.dtype != own.dtype and not torch.isfinite(value.to(own.dtype)).all():
        raise CheckpointError(
            f"{name} holds {value.abs().max():.3g}, which is infinite in the network's {own.dtype}; the training that "
            f"made it diverged"
        )
    if variance and value.numel() and value.min() < 0:
        raise CheckpointError(f"{name} holds {value.min():.3g}, and a variance is not negative; the file is damaged")


def _aligned(
    tensors: dict[str, Tensor], own: Mapping[str, Tensor], rename: Callable[[str], str | None]
) -> dict[str, Tensor]:
    """The tensors without the prefix of all names, or with that of all of the network's, where more names then fit."""

    def fitting(names: Iterable[str]) -> int:
        return len(own.keys() & {rename(name) for name in names})

    best = tensors
    for prefix in _shared_prefixes(tensors):
        shorter = {k.removeprefix(prefix): v for k, v in tensors.items()}
        best = shorter if fitting(shorter) > fitting(best) else best
    for prefix in _shared_prefixes(own):
        longer = {prefix + k: v for k, v in tensors.items()}
        best = longer if fitting(longer) > fitting(best) else best
    return best


def _shared_prefixes(names: Iterable[str]) -> list[str]:
    """``a.``, ``a.b.`` … that all names begin with."""
    split = [name.split(".")[:-1] for name in names]
    shared = []
    for steps in zip(*split, strict=False):
        if len(set(steps)) > 1:
            break
        shared.append(steps[0])
    return [".".join(shared[: i + 1]) + "." for i in range(len(shared))]


def _renamed(tensors: dict[str, Tensor], rename: Callable[[str], str | None], path: Path) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        name = rename(key)
        if name in renamed:
            raise CheckpointError(f"checkpoint {path}: two of its tensors are {name}; one is {key}")
        if name is not None:
            renamed[name] = value
    return renamed


def _without_head(network: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with those of the last layer replaced by the network's own where their sizes differ."""
    name, _ = head(network)
    own = {f"{name}.{key}": value for key, value in network.get_submodule(name).state_dict().items()}
    differ = any(key in tensors and tensors[key].shape != value.shape for key, value in own.items())
    return {**tensors, **own} if differ else tensors


def head(network: nn.Module) -> tuple[str, nn.Linear | nn.Conv3d]:
    """Dotted name and module of the layer that gives the logits: the last linear layer or 1×1×1 convolution with as
    many outputs as the network's ``num_classes``; the last linear layer where that tells nothing.

    Raises:
        ConfigError: there is none.
    """
    classes = getattr(network, "num_classes", None)
    linear = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    fitting = [
        (name, module)
        for name, module in network.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == classes)
        or (isinstance(module, nn.Conv3d) and module.kernel_size == (1, 1, 1) and module.out_channels == classes)
    ]
    layers = fitting or linear
    if not layers:
        raise ConfigError(f"{type(network).__name__} has no linear layer that could be replaced or trained alone")
    return layers[-1]


def replace_head(network: nn.Module, classes: int) -> None:
    """Put a new layer of the same kind, with so many outputs, in the head's place; its weights are drawn.

    Raises:
        ConfigError: see `head`.
    """
    name, old = head(network)
    bias = old.bias is not None
    new: nn.Module
    if isinstance(old, nn.Linear):
        new = nn.Linear(old.in_features, classes, bias=bias)
    else:
        new = nn.Conv3d(old.in_channels, classes, 1, bias=bias)
    owner, _, attribute = name.rpartition(".")
    setattr(network.get_submodule(owner), attribute, new.to(old.weight.device))
    if hasattr(network, "num_classes"):
        network.num_classes = classes  # type: ignore[assignment]


def _mismatch(
    network: nn.Module,
    path: Path,
    extra: Mapping[str, Any],
    missing: Sequence[str],
    unknown: Sequence[str],
    wrong: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]],
) -> str:
    heads = {theirs[0] for theirs, ours in wrong.values() if theirs and ours and theirs[1:] == ours[1:]}
    built = getattr(network, "num_classes", None)
    only_head = not missing and not unknown and len(heads) == 1 and len(wrong) <= 2
    if only_head and built is not None and all(ours[0] == built for _, ours in wrong.values()):
        theirs = heads.pop()
        return (
            f"checkpoint {path}: its head has {theirs} classes ({', '.join(wrong)}), the model is built for {built}; "
            f"set model.network.num_classes={theirs} and matching model.class_names, take another checkpoint, or train "
            f"a new head (scripts/train.py train.new_head=true)"
        )
    if hint := _prefix_hint(unknown, network.state_dict()):
        return f"checkpoint {path}: {hint}"
    arch = f" (its arch is {extra['arch']!r})" if "arch" in extra else ""
    lines = [f"checkpoint {path}{arch} does not fit {type(network).__name__}:"]
    for what, keys in (("missing", missing), ("extra", unknown)):
        if keys:
            lines.append(f"  {what} ({len(keys)}): {_listed(keys)}")
    if wrong:
        pairs = [f"{k} is {sizes(t)}, should be {sizes(o)}" for k, (t, o) in wrong.items()]
        lines.append(f"  other shape ({len(wrong)}): {_listed(pairs)}")
    return "\n".join(lines)


def _prefix_hint(unknown: Sequence[str], own: Mapping[str, Tensor]) -> str:
    """A prefix of some names that is all that keeps half of the network's weights from fitting."""
    steps = {name[: i + 1] for name in unknown for i, letter in enumerate(name) if letter == "."}
    fits = {p: {n for n in unknown if n.startswith(p) and n.removeprefix(p) in own} for p in steps}
    prefix = max(fits, key=lambda p: (len(fits[p]), -len(p)), default="")
    if not prefix or len(fits[prefix]) < len(own) / 2:
        return ""
    others = [name for name in unknown if name not in fits[prefix]]
    beside = f", which also holds {len(others)} others ({_listed(others, 3)})" if others else ""
    return (
        f"{len(fits[prefix])} of its keys begin with {prefix!r} and fit without it{beside}; save those alone, without "
        f"the prefix"
    )


def _listed(items: Sequence[str], most: int = 10) -> str:
    return ", ".join(items[:most]) + (f", … and {len(items) - most} more" if len(items) > most else "")
