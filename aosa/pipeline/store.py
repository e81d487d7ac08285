"""Maps and records on disk: named by what made them, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import torch
import yaml
from torch import Tensor

from aosa.errors import AosaError
from aosa.files import is_temporary, remove_leftovers, write_atomic

_META = "aosa"
# Not .json: the record of a video called "a.time" must not be the times of "a".
_FAILURE, _TIME = ".failure", ".time"
_IDENTITY = "identity.yaml"


def canonical(value: object) -> str:
    """JSON with sorted keys and no spare blanks: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """First 16 hex digits of the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None when the file is missing or not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


class Folder:
    """The results of one run identity: a folder named by it, one file per clip.

    Args:
        path: the folder.
        identity: all that makes these results what they are; kept beside them as ``identity.yaml`` (a name
            that no record of a clip can have).
    """

    suffix = ""

    def __init__(self, path: Path, identity: dict[str, object]) -> None:
        self.path = path
        self.identity = identity

    def file(self, clip: str, suffix: str | None = None) -> Path:
        """The file of a clip.

        Raises:
            AosaError: an id that would leave the folder.
        """
        if clip.startswith("/") or "\\" in clip or ".." in clip.split("/") or not clip:
            raise AosaError(f"clip id {clip!r} is not a safe relative path")
        return self.path / (clip + (self.suffix if suffix is None else suffix))

    def describe(self, config_yaml: str) -> None:
        """Write the identity and the resolved config beside the results; what a killed run left there is removed."""
        remove_leftovers(self.path)
        write_atomic(self.path / _IDENTITY, yaml.safe_dump(self.identity, allow_unicode=True))
        write_atomic(self.path / "config.yaml", config_yaml)

    def check(self) -> None:
        """
        Raises:
            AosaError: the folder that `describe` made was removed.
        """
        if not (self.path / _IDENTITY).exists():
            raise AosaError(f"{self.path} was removed or moved while its results were made; run the same command again")

    def fail(self, clip: str, stage: str, reason: str) -> None:
        """Note that a clip could not be done, and why."""
        write_atomic(self.file(clip, _FAILURE), canonical({"clip": clip, "stage": stage, "reason": reason}))

    def failure(self, clip: str) -> str | None:
        """Why a clip could not be done; None when it has not failed."""
        note = read_json(self.file(clip, _FAILURE))
        return None if note is None else str(note["reason"])

    def forgive(self, clip: str) -> None:
        """The clip is done: forget an earlier failure."""
        self.file(clip, _FAILURE).unlink(missing_ok=True)

    def failures(self) -> list[dict[str, Any]]:
        """All failures noted, in the order of their clips."""
        notes = (read_json(p) for p in sorted(self.path.rglob("*" + _FAILURE)) if not is_temporary(p))
        return [n for n in notes if n]

    def time(self, clip: str, **values: object) -> None:
        """Keep times, and what ran, apart from results, which must not depend on them."""
        write_atomic(self.file(clip, _TIME), canonical(values))

    def times(self, clip: str) -> dict[str, Any]:
        """What `time` kept; empty when nothing was."""
        return read_json(self.file(clip, _TIME)) or {}


class MapFolder(Folder):
    """Saliency maps: float32, byte-shuffled and zstd-compressed by Blosc2, with their meta data inside."""

    suffix = ".b2nd"

    def save(self, clip: str, saliency: Tensor, meta: dict[str, object]) -> None:
        """Store a map; its sha256 is added to the meta data."""
        save_map(self.file(clip), saliency, meta)

    def load(self, clip: str) -> tuple[Tensor, dict[str, Any]]:
        """See `load_map`."""
        return load_map(self.file(clip))

    def has(self, clip: str) -> bool:
        """Whether a map is there, and no failure since."""
        return self.file(clip).exists() and not self.failure(clip)

    def digest(self, clip: str) -> str | None:
        """sha256 of a clip's map as its meta data says, without unpacking the map; None when there is none."""
        try:
            return _open(self.file(clip))[1].get("sha256")
        except AosaError:
            return None

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


class RecordFolder(Folder):
    """Metric records: one JSON object per clip."""

    suffix = ".json"

    def save(self, clip: str, record: dict[str, object]) -> None:
        """Store a record."""
        write_atomic(self.file(clip), canonical(record) + "\n")

    def load(self, clip: str) -> dict[str, Any] | None:
        """The record of a clip, None when there is none."""
        return read_json(self.file(clip))


def save_map(path: Path, saliency: Tensor, meta: dict[str, object]) -> None:
    """Write one T×H×W float32 map with its meta data to a ``.b2nd`` file."""
    values = np.ascontiguousarray(saliency.numpy(), dtype=np.float32)
    array = blosc2.asarray(values, cparams={"codec": blosc2.Codec.ZSTD, "clevel": 5, "nthreads": 1})
    checked = {**meta, "sha256": hashlib.sha256(values.tobytes()).hexdigest()}
    array.schunk.vlmeta[_META] = canonical(checked)
    write_atomic(path, array.to_cframe())


def load_map(path: str | Path) -> tuple[Tensor, dict[str, Any]]:
    """Read a map back.

    Returns:
        float32 T×H×W, with the class it explains as its attribute ``target``; and its meta data.

    Raises:
        AosaError: missing, damaged, or not a map of aosa.
    """
    array, meta = _open(path)
    try:
        values = np.ascontiguousarray(array[...])
    except (ValueError, RuntimeError) as error:
        raise AosaError(f"{path}: not a readable map ({error}); delete it and run explain again") from None
    if hashlib.sha256(values.tobytes()).hexdigest() != meta.get("sha256"):
        raise AosaError(f"{path}: the map is damaged (its checksum differs); delete it and run explain again")
    saliency = torch.from_numpy(values)
    saliency.target = meta.get("target")  # type: ignore[attr-defined]
    return saliency, meta


def _open(path: str | Path) -> tuple[Any, dict[str, Any]]:
    try:
        array = blosc2.ndarray_from_cframe(Path(path).read_bytes())
        return array, json.loads(array.schunk.vlmeta[_META])
    except FileNotFoundError:
        raise AosaError(f"{path}: there is no such map") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise AosaError(f"{path}: not a readable map ({error}); delete it and run explain again") from None
