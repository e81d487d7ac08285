"""From a checkpoint file to tensors by name, without running or unpacking what it has no need of."""

from __future__ import annotations

import errno
import io
import json
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor

from aosa.errors import CheckpointError

# Where weights lie in what training writes, nested in any depth. Plain ones go before averaged ones.
_PLAIN = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "network")
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema_model", "ema")
_SETS = (_PLAIN, _AVERAGED)
_DEPTH = 8
# What mmaction2 keeps beside the weights: best scores, the log of the training.
_LOGGED = (
    "builtins.getattr",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
)
# Harmless to PyTorch, but they make as much memory as the file says; weights need none of them.
_GREEDY = tuple(
    f"{module} {name}"
    for module, name in (
        ("builtins", "bytearray"),
        ("__builtin__", "bytearray"),
        ("torch._utils", "_rebuild_device_tensor_from_cpu_tensor"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
    )
)
_ZIP, _BEFORE_ZIP = b"PK\x03\x04", b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46"  # now; before PyTorch 1.6
_GROWTH = 4  # a zip of weights, which hardly compress, unpacks to no more than so many times its size
_PARTS = 2_000_000  # of a pickle, at most; a network of 1000 tensors has about 20 000
_INDEX = 64 * 2**20  # bytes of the index of a checkpoint in several files, at most


def read_checkpoint(path: str | Path, key: str | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint without running anything it may hold.

    Formats: safetensors; what `torch.load` reads with ``weights_only=True``; either in several files, given by the
    index beside them (``model.safetensors.index.json``, ``pytorch_model.bin.index.json``). The weights may lie in a
    dict of what training keeps, nested in any depth, as ``state_dict`` (3D-ResNets, mmaction2), ``model``, ``module``,
    ``net`` …; the counter ``n_averaged`` of averaged weights (SWA) is left out.

    Args:
        key: of the weights to take, dotted where nested. None takes the plain ones; where there are averaged ones
            (``ema``, ``model_ema``, ``state_dict_ema`` …) beside them, with a warning that says so.

    Returns:
        the tensors by name, and the file's other plain entries (``arch``, ``epoch``).

    Raises:
        CheckpointError: missing, damaged, not a checkpoint, a pickle that asks for more than tensors, a file that
            unpacks to far more than its size, or a `key` that it has not.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        inside = [p.name for end in (".index.json", ".safetensors", ".bin") for p in sorted(path.glob(f"*{end}"))]
        raise CheckpointError(
            f"checkpoint {path}: a folder; give the file in it" + (f", such as {inside[0]}" if inside else "")
        )
    if not path.is_file():
        raise CheckpointError(f"checkpoint {path}: no such file")
    if path.stat().st_size == 0:
        raise CheckpointError(f"checkpoint {path}: the file is empty; download it again")
    if (found := re.search(r"-\d{5}-of-(\d{5})\.", path.name)) and int(found[1]) > 1:
        raise CheckpointError(f"checkpoint {path}: one file of several; give the index beside it, a .index.json")
    content = _read_shards(path) if path.name.endswith(".index.json") else _read_file(path)
    extra = {k: v for k, v in content.items() if isinstance(v, (str, int, float))} if _is_dict(content) else {}
    weights = _select(content, key, path)
    tensors = {str(k): v for k, v in weights.items() if isinstance(v, Tensor)}
    if "n_averaged" in tensors and all(k.startswith("module.") for k in tensors if k != "n_averaged"):
        del tensors["n_averaged"]
    return tensors, extra


def _read_file(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
    if path.suffix == ".safetensors" or start[8:] == b"{":
        try:
            return safetensors.torch.load_file(path)
        except Exception as error:  # a damaged header can raise anything
            raise CheckpointError(f"checkpoint {path}: damaged or not safetensors ({_reason(error)})") from None
    return torch_load(path)


def _read_shards(index: Path) -> dict[str, Tensor]:
    """The tensors of all files that an index names, which lie beside it."""
    try:
        if index.stat().st_size > _INDEX:
            raise ValueError("it is too large")
        names = json.loads(index.read_bytes())["weight_map"]
        shards = sorted(set(names.values()))
        if not shards or not all(isinstance(shard, str) for shard in shards):
            raise ValueError("it names no files")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"checkpoint {index}: not the index of a checkpoint in several files ({_reason(error)}); it must map each "
            f"tensor to its file in weight_map"
        ) from None
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        if shard in ("", ".", "..") or "/" in shard or "\\" in shard:
            raise CheckpointError(f"checkpoint {index}: refused: it names {shard!r}, which is not a file beside it")
        file = index.parent / shard
        if not file.is_file():
            raise CheckpointError(f"checkpoint {index}: {shard} is missing; it must lie beside the index")
        held = _read_file(file)
        listed = [name for name, of in names.items() if of == shard]
        lacking = [n for n in listed if not isinstance(held.get(n) if _is_dict(held) else None, Tensor)]
        if lacking:
            raise CheckpointError(
                f"checkpoint {index}: {shard} does not hold {lacking[0]}, which the index says it does"
            )
        tensors.update({name: held[name] for name in listed})
    return tensors


def _is_dict(content: Any) -> bool:
    return isinstance(content, Mapping)


def _select(content: Any, key: str | None, path: Path) -> Mapping[Any, Any]:
    """The weights in what a file holds."""
    found, trail = content, ""
    for step in () if key is None else _steps(content, str(key)):
        found, trail = found.get(step) if _is_dict(found) else None, f"{trail}{step}."
        if not _is_dict(found):
            raise CheckpointError(
                f"checkpoint {path}: model.weights_key={key}: it holds no weights of that name; {_holds(content)}"
            )
    for _ in range(_DEPTH):
        plain, averaged = ([k for k in keys if _is_dict(found) and _has_tensors(found.get(k))] for keys in _SETS)
        if len(plain) > 1:
            raise CheckpointError(
                f"checkpoint {path}: it holds several sets of weights: {_listed(trail, plain)}; set "
                f"model.weights_key to the one to take"
            )
        bare = not plain and _is_dict(found) and any(isinstance(v, Tensor) and v.dim() for v in found.values())
        if averaged and (plain or bare):
            warnings.warn(
                f"checkpoint {path}: beside plain weights{' ' * bool(plain)}{_listed(trail, plain)} it holds averaged "
                f"ones: {_listed(trail, averaged)}; the plain ones are taken, model.weights_key takes the others",
                stacklevel=4,
            )
        if bare or not (plain or averaged):
            break
        step = (plain or averaged)[0]
        found, trail = found[step], f"{trail}{step}."
    if _is_dict(found) and any(isinstance(value, Tensor) for value in found.values()):
        return found
    raise CheckpointError(
        f"checkpoint {path}: holds no tensors by name, so it is not a state dict"
        + (f"; {_holds(found)}, one of which model.weights_key may name" if _is_dict(found) and found else "")
    )


def _steps(content: Any, key: str) -> list[str]:
    return [key] if _is_dict(content) and key in content else key.split(".")


def _has_tensors(content: Any) -> bool:
    """Whether a dict holds tensors, itself or down the ways on which weights are looked for."""
    for _ in range(_DEPTH):
        if not _is_dict(content):
            return False
        if any(isinstance(value, Tensor) for value in content.values()):
            return True
        content = next((content[k] for k in _PLAIN + _AVERAGED if _is_dict(content.get(k))), None)
    return False


def _holds(content: Any) -> str:
    keys = [str(k) for k, v in content.items() if _is_dict(v)] if _is_dict(content) else []
    return f"it holds {', '.join(keys[:10])}" if keys else "it holds no dict"


def _listed(trail: str, keys: list[str]) -> str:
    return ", ".join(f"{trail}{key}" for key in keys)


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
        CheckpointError: damaged, another format, a pickle that asks for more than tensors and plain values, or a file
            that unpacks to far more than its size.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if not head.startswith((_ZIP, _BEFORE_ZIP)):
        kind = "a plain pickle, refused unread as it could run code" if head[:1] == b"\x80" else "another format"
        raise CheckpointError(f"checkpoint {path}: neither safetensors nor written by torch.save, but {kind}")
    try:
        if head.startswith(_ZIP):
            _check_zip(path)
        else:
            with path.open("rb") as file:
                for _ in range(5):  # a mark, a version, the system, the content, the order of its storages
                    _check_pickle(file, path)
        with torch.serialization.safe_globals([(_Left, name) for name in _LOGGED]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL (\S+)", str(error))
        if asked is None:
            raise CheckpointError(f"checkpoint {path}: damaged, or it holds more than tensors") from None
        raise CheckpointError(_asks(path, asked[1])) from None
    except Exception as error:  # a damaged file can raise anything
        reason = _reason(error)
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            reason = "it ends too early"  # where it is cut short, the reader seeks what is not there
        raise CheckpointError(f"checkpoint {path}: damaged or not a PyTorch checkpoint ({reason})") from None


def _asks(path: Path, name: str) -> str:
    return (
        f"checkpoint {path}: refused: the file asks to run {name}, which tensors do not need. If you trust "
        f"where it comes from, load it in an environment of its own and save its state_dict() alone"
    )


def _reason(error: Exception) -> str:
    return str(error).split("\n")[0].split(". ")[0] or type(error).__name__


def _check_zip(path: Path) -> None:
    """Refuse a zip that unpacks to far more than its size, before any of it is unpacked, and one with a byte that
    changed, which `torch.load` does not look for; the sums of 200 MB take a tenth of a second.

    Raises:
        CheckpointError: naming the part that is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        parts, size = archive.infolist(), path.stat().st_size
        unpacked = sum(part.file_size for part in parts)
        if unpacked > _GROWTH * size + 2**20 or sum(part.compress_size for part in parts) > size:
            raise CheckpointError(
                f"checkpoint {path}: refused: a file of {size} bytes that would unpack to {unpacked}; weights do not "
                f"compress like that"
            )
        if len({part.filename for part in parts}) < len(parts):
            raise CheckpointError(f"checkpoint {path}: damaged: two parts of it have the same name")
        if not any(part.CRC for part in parts):  # torch.save can leave the sums out; then all of them are 0
            for part in parts:
                part.CRC = None  # type: ignore[assignment]
        if (damaged := archive.testzip()) is not None:
            raise CheckpointError(f"checkpoint {path}: damaged: {damaged} in it is not what was written; get it again")
        for part in parts:
            if part.filename.endswith(".pkl"):
                _check_pickle(io.BytesIO(archive.read(part)), path)


def _check_pickle(file: IO[bytes], path: Path) -> None:
    """Read a pickle's instructions, up to its end, without following them.

    Raises:
        CheckpointError: there are too many, or one would make memory at will.
    """
    reader = SimpleNamespace(read=file.read, readline=file.readline)  # without tell, which would be half of the time
    for count, (operation, argument, _) in enumerate(pickletools.genops(reader)):  # type: ignore[arg-type]
        if operation.name == "GLOBAL" and argument in _GREEDY:
            raise CheckpointError(_asks(path, str(argument).replace(" ", ".").replace("__builtin__", "builtins")))
        if count > _PARTS:
            raise CheckpointError(f"checkpoint {path}: refused: it holds more than {_PARTS} objects")
