"""Saliency maps on disk: one Blosc2 array per clip, with its meta data and checksums inside."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import blosc2
import numpy as np
import torch

from aosa.errors import AosaError, StoreError
from aosa.files import is_temporary, write_atomic
from aosa.saliency import SaliencyMap
from aosa.schema import FLAG, NUMBER, SHA256, TEXT, WHOLE, Schema, listing, optional, parse
from aosa.store.folders import Folder, canonical

_META, _META_SUM = "aosa", "aosa_sha256"
_OF_EACH_MAP: Schema = {"sha256": SHA256, "target": WHOLE}
_OF_A_MAP: Schema = {  # where it has them
    "clip": TEXT,
    "fingerprint": TEXT,
    "signed": FLAG,
    "target_name": optional(TEXT),
    "label": optional(WHOLE),
    "class_name": optional(TEXT),
    "group": optional(TEXT),
    "range": listing(NUMBER, 2),
    "size": listing(WHOLE, 2),
}
_LARGEST = 1 << 28  # voxels of a map, 1 GiB: what claims more is not read


class MapFolder(Folder):
    """Saliency maps: float32, byte-shuffled and zstd-compressed by Blosc2, with their meta data inside.

    Args:
        path, identity: see `Folder`.
        size: T, H, W that a map must have; None is not checked.
        names: the classes that a map can explain; None is not checked.
    """

    suffix = ".b2nd"
    remedy = "run explain again"

    def __init__(
        self,
        path: Path,
        identity: dict[str, object],
        size: tuple[int, int, int] | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(path, identity)
        self.size, self.names = size, names

    def save(self, clip: str, saliency: SaliencyMap, meta: Mapping[str, object]) -> None:
        """Store a map, see `save_map`."""
        save_map(self.file(clip), saliency, meta)

    def load(self, clip: str) -> tuple[SaliencyMap, dict[str, Any]]:
        """See `load_map`; it must also be the clip's, of the folder's size, and explain one of its classes."""
        path = self.file(clip)
        array, meta = _open(path)
        self._check(path, clip, array, meta)
        return _unpack(path, array, meta)

    def has(self, clip: str) -> bool:
        """Whether a map is there, and no failure since."""
        return self.file(clip).exists() and not self.failure(clip)

    def digest(self, clip: str) -> str | None:
        """sha256 of a clip's map as its meta data says, without unpacking the map; None when there is none.

        Raises:
            StoreError: what is there is no map of the clip.
        """
        path = self.file(clip)
        if not path.exists():
            return None
        array, meta = _open(path)
        self._check(path, clip, array, meta)
        return str(meta["sha256"])

    def valid(self, clip: str, fingerprint: str) -> bool:
        """Whether a readable map of just this content is there."""
        try:
            return self.load(clip)[1].get("fingerprint") == fingerprint
        except AosaError:
            return False

    def clips(self) -> Iterator[str]:
        """Ids of all maps there."""
        for path in sorted(self.path.rglob("*" + self.suffix)):
            if not is_temporary(path):
                yield path.relative_to(self.path).as_posix().removesuffix(self.suffix)

    def _check(self, path: Path, clip: str, array: Any, meta: dict[str, Any]) -> None:
        target, problem = meta["target"], ""
        lacking = [k for k in ("fingerprint", *(("clip",) if self.size else ())) if meta.get(k) is None]
        if lacking:
            problem = f"{lacking[0]!r} is missing"
        elif meta.get("clip", clip) != clip:
            problem = f"the map of clip {meta['clip']!r}"
        elif self.size is not None and tuple(array.shape) != tuple(self.size):
            problem = f"a map of {tuple(array.shape)} (T, H, W), not {tuple(self.size)}"
        elif self.names is not None:
            if target >= len(self.names):
                problem = f"it explains class {target}, the last is {len(self.names) - 1}"
            elif meta.get("target_name") not in (None, self.names[target]):
                problem = f"class {target} is {self.names[target]!r}, not {meta['target_name']!r}"
        if problem:
            raise StoreError(f"{path}: damaged ({problem}); {self.remedy}")


def save_map(path: str | Path, saliency: SaliencyMap, meta: Mapping[str, object] = MappingProxyType({})) -> None:
    """Write a map to a ``.b2nd`` file.

    Args:
        meta: what else to keep with it. Its target, whether it is signed, and the sha256 of its values are added.

    Raises:
        AosaError: `saliency` is no `SaliencyMap`, or `meta` says another target or sign.
    """
    if not isinstance(saliency, SaliencyMap):
        raise AosaError(
            f"{path}: a bare {type(saliency).__name__} does not say which class it explains: give "
            f"aosa.SaliencyMap(values, target)"
        )
    own = {"target": saliency.target, "signed": saliency.signed}
    if wrong := [key for key, value in own.items() if meta.get(key, value) != value]:
        raise AosaError(f"{path}: {wrong[0]} is {meta[wrong[0]]} in the meta data, but {own[wrong[0]]} in the map")
    values = saliency.values.numpy()
    array = blosc2.asarray(values, cparams={"codec": blosc2.Codec.ZSTD, "clevel": 5, "nthreads": 1})
    checked = {**meta, **own, "sha256": hashlib.sha256(values.tobytes()).hexdigest()}
    array.schunk.vlmeta[_META] = canonical(checked)
    array.schunk.vlmeta[_META_SUM] = hashlib.sha256(canonical(checked).encode()).hexdigest()
    write_atomic(Path(path), array.to_cframe())


def load_map(path: str | Path) -> tuple[SaliencyMap, dict[str, Any]]:
    """Read a map back.

    Returns:
        the map, its values finite, not signed where its file does not say so; and its meta data.

    Raises:
        AosaError: missing, damaged, or not a map of aosa.
    """
    return _unpack(path, *_open(path))


def _unpack(path: str | Path, array: Any, meta: dict[str, Any]) -> tuple[SaliencyMap, dict[str, Any]]:
    try:
        values = np.ascontiguousarray(array[...])
    except Exception as error:  # the library's own, of many kinds
        raise _damaged(path, error) from None
    if hashlib.sha256(values.tobytes()).hexdigest() != meta["sha256"]:
        raise _damaged(path, "its checksum differs")
    if not np.isfinite(values).all():
        raise _damaged(path, "it holds NaN or infinity")
    return SaliencyMap(torch.from_numpy(values), meta["target"], meta.get("signed", False)), meta


def _open(path: str | Path) -> tuple[Any, dict[str, Any]]:
    """The packed map, of a shape and type that a map can have, and its meta data."""
    try:
        array = blosc2.ndarray_from_cframe(Path(path).read_bytes())
        kept = array.schunk.vlmeta
        text = kept[_META]
        if _META_SUM in kept and hashlib.sha256(text.encode()).hexdigest() != kept[_META_SUM]:  # not in older maps
            raise ValueError("the checksum of its meta data differs")
        meta = parse(text, _OF_EACH_MAP)
        shape, kind = tuple(array.shape), array.dtype
    except FileNotFoundError:
        raise AosaError(f"{path}: there is no such map") from None
    except Exception as error:  # the library's own, of many kinds
        raise _damaged(path, error) from None
    if len(shape) != 3 or 0 in shape or kind != np.float32:
        raise _damaged(path, f"{kind} {shape} instead of float32 T×H×W")
    if math.prod(shape) > _LARGEST:
        raise _damaged(path, f"it claims to be {shape} (T, H, W)")
    for key, wanted in _OF_A_MAP.items():
        if key in meta and not wanted.fits(meta[key]):
            raise _damaged(path, f"{key!r} is {meta[key]!r}, not {wanted.what}")
    return array, meta


def _damaged(path: str | Path, problem: object) -> StoreError:
    return StoreError(f"{path}: the map is damaged ({problem}); {MapFolder.remedy}")
