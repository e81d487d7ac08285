"""The one safe way from a checkpoint file to a network."""

from __future__ import annotations

import errno
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from aosa.errors import CheckpointError, ConfigError

_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model")
# What mmaction2 keeps beside the weights: best scores, the log of the training.
_LOGGED = (
    "builtins.getattr",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)
_TORCH = (b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46")  # a zip; the format before PyTorch 1.6


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint without running anything it may hold.

    Formats: safetensors; what `torch.load` reads with ``weights_only=True``, be it a state dict or one wrapped as
    in 3D-ResNets (``arch``, ``state_dict``, ``optimizer``) or mmaction2 (``state_dict``, ``meta``). A ``module.``
    prefix, as data-parallel training leaves it, is taken off.

    Returns:
        the tensors by name, and the file's other plain entries (``arch``, ``epoch``).

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, or a pickle that asks for more than tensors.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        raise CheckpointError(f"checkpoint {path}: a folder; give the file in it")
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: no such file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"checkpoint {path}: the file is empty; download it again")
    extra: dict[str, Any] = {}
    with path.open("rb") as file:
        head = file.read(9)
    if path.suffix == ".safetensors" or head[8:] == b"{":
        try:
            content: Any = safetensors.torch.load_file(path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"checkpoint {path}: damaged or not safetensors ({error})") from None
    else:
        content = torch_load(path)
        if isinstance(content, Mapping):
            extra = {k: v for k, v in content.items() if isinstance(v, (str, int, float))}
            wrapper = next((w for w in _WRAPPERS if isinstance(content.get(w), Mapping)), None)
            content = content if wrapper is None else content[wrapper]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"checkpoint {path}: holds no tensors by name, so it is not a state dict")
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if all(k.startswith("module.") for k in tensors):
        tensors = {k.removeprefix("module."): v for k, v in tensors.items()}
    return tensors, extra


class _Left:
    """Stands in for each of `_LOGGED`, so that none of them is called: it takes anything and keeps nothing."""

    def __new__(cls, *_: object) -> _Left:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def torch_load(path: Path) -> Any:
    """What `torch.save` wrote, on the CPU, without running anything the file may hold.

    Raises:
        CheckpointError: damaged, another format, or a pickle that asks for more than tensors and plain values.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if not head.startswith(_TORCH):
        kind = "a plain pickle, refused unread as it could run code" if head[:1] == b"\x80" else "another format"
        raise CheckpointError(f"checkpoint {path}: neither safetensors nor written by torch.save, but {kind}")
    try:
        _check_sums(path)
        with torch.serialization.safe_globals([(_Left, name) for name in _LOGGED]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            raise CheckpointError(f"checkpoint {path}: damaged, or it holds more than tensors") from None
        raise CheckpointError(
            f"checkpoint {path}: refused: the file asks to run {asked[1]}, which tensors do not need. If you trust "
            f"where it comes from, load it in an environment of its own and save its state_dict() alone"
        ) from None
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).split("\n")[0].split(". ")[0] or type(error).__name__
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            reason = "it ends too early"  # where it is cut short, the reader seeks what is not there
        raise CheckpointError(f"checkpoint {path}: damaged or not a PyTorch checkpoint ({reason})") from None


def _check_sums(path: Path) -> None:
    """Refuse a zip with a byte that changed, which `torch.load` does not look for; 200 MB take a tenth of a second.

    Raises:
        CheckpointError: naming the part that is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        # torch.save can leave the sums out; then all of them are 0.
        stated = any(part.CRC for part in archive.infolist())
        damaged = archive.testzip() if stated else None
    if damaged is not None:
        raise CheckpointError(f"checkpoint {path}: damaged: {damaged} in it is not what was written; get it again")


def load_weights(network: nn.Module, path: str | Path, *, new_head: bool = False) -> None:
    """Put a checkpoint's weights into a network; every tensor must have its place.

    Absent ``num_batches_tracked`` counters, which old files lack and inference does not use, are forgiven. A network
    whose published checkpoints have other names tells them by ``published_name(key) -> str | None``: its own name
    for a published key, itself for an own one, None for what only training uses (auxiliary heads).

    Args:
        new_head: leave the network's own last layer where the checkpoint's is of another size, to be trained.

    Raises:
        CheckpointError: a missing, extra or mis-shaped key, all of them listed; a head of another size, named as
            such; a tensor with NaN or infinity, or of another kind than plain floating-point numbers.
    """
    tensors, extra = read_checkpoint(path)
    own = network.state_dict()
    rename: Callable[[str], str | None] | None = getattr(network, "published_name", None)
    if rename is not None:
        tensors = _renamed(tensors, rename, Path(path))
    if new_head:
        tensors = _without_head(network, tensors)
    missing = [k for k in own if k not in tensors and not k.endswith("num_batches_tracked")]
    unknown = [k for k in tensors if k not in own]
    shapes = {k: (tuple(tensors[k].shape), tuple(v.shape)) for k, v in own.items() if k in tensors}
    wrong = {k: pair for k, pair in shapes.items() if pair[0] != pair[1]}
    if missing or unknown or wrong:
        raise CheckpointError(_mismatch(network, Path(path), extra, missing, unknown, wrong))
    for key, value in tensors.items():
        if value.layout != torch.strided or (own[key].is_floating_point() and not value.is_floating_point()):
            raise CheckpointError(f"checkpoint {path}: {key} is {value.dtype} {value.layout}, should be dense float")
        if not torch.isfinite(value).all():
            raise CheckpointError(f"checkpoint {path}: {key} holds NaN or infinity; the training that made it diverged")
    network.load_state_dict(tensors, strict=False)


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
    arch = f" (its arch is {extra['arch']!r})" if "arch" in extra else ""
    lines = [f"checkpoint {path}{arch} does not fit {type(network).__name__}:"]
    for what, keys in (("missing", missing), ("extra", unknown)):
        if keys:
            lines.append(f"  {what} ({len(keys)}): {_listed(keys)}")
    if wrong:
        pairs = [f"{k} is {_size(t)}, should be {_size(o)}" for k, (t, o) in wrong.items()]
        lines.append(f"  other shape ({len(wrong)}): {_listed(pairs)}")
    return "\n".join(lines)


def _listed(items: Sequence[str], most: int = 10) -> str:
    return ", ".join(items[:most]) + (f", … and {len(items) - most} more" if len(items) > most else "")


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a number"
