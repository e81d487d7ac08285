"""Results on disk: in folders named by what made them, one file per clip, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig

from aosa.errors import AosaError, StoreError
from aosa.files import is_temporary, remove_leftovers, write_atomic
from aosa.schema import NUMBER, TEXT, Kind, Schema, exactly, mapping, read_object
from aosa.store.shareable import hidden, shareable_yaml

# Not .json: the record of a video called "a.time" must not be the times of "a".
_FAILURE, _TIME = ".failure", ".time"
_IDENTITY = "identity.yaml"
_NOTE: Schema = {"clip": TEXT, "stage": TEXT, "reason": TEXT}
_TIMES: Schema = {"seconds": NUMBER}
_ABOUT = Kind("a text or a number", lambda v: TEXT.fits(v) or NUMBER.fits(v))
_PARTS = mapping(NUMBER)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spare blanks: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: object) -> str:
    """First 16 hex digits of the sha256 of the canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


class Folder:
    """The results of one run identity: a folder named by it, one file per clip.

    Args:
        path: the folder.
        identity: all that makes these results what they are; kept beside them as ``identity.yaml`` (a name
            that no record of a clip can have).
    """

    suffix = ""
    remedy = "delete it and run the same command again"

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

    def describe(self, config: DictConfig) -> None:
        """Write the identity and the config beside the results, as others may see them; what a killed run left there
        is removed."""
        remove_leftovers(self.path)
        write_atomic(self.path / _IDENTITY, yaml.safe_dump(hidden(self.identity, config), allow_unicode=True))
        write_atomic(self.path / "config.yaml", shareable_yaml(config))

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
        """Why a clip could not be done; None when it has not failed.

        Raises:
            StoreError: the note is damaged.
        """
        note = read_object(self.file(clip, _FAILURE), _NOTE, self.remedy)
        return None if note is None else note["reason"]

    def clear_failure(self, clip: str) -> None:
        """The clip is done: forget an earlier failure."""
        self.file(clip, _FAILURE).unlink(missing_ok=True)

    def failures(self) -> list[dict[str, Any]]:
        """All failures noted, in the order of their clips.

        Raises:
            StoreError: a note is damaged.
        """
        found = (p for p in sorted(self.path.rglob("*" + _FAILURE)) if not is_temporary(p))
        notes = (read_object(p, _NOTE, self.remedy) for p in found)
        return [n for n in notes if n]

    def time(self, clip: str, **values: object) -> None:
        """Keep times, and what ran, apart from results, which must not depend on them."""
        write_atomic(self.file(clip, _TIME), canonical(values))

    def times(self, clip: str) -> dict[str, Any]:
        """What `time` kept: seconds, their parts and what ran; empty when nothing was.

        Raises:
            StoreError: the file is damaged.
        """
        times = read_object(self.file(clip, _TIME), _TIMES, self.remedy) or {}
        if wrong := [k for k, v in times.items() if not (_PARTS if k == "parts" else _ABOUT).fits(v)]:
            raise StoreError(f"{self.file(clip, _TIME)}: damaged ({wrong[0]!r}); {self.remedy}")
        return times

    def has_times(self, clip: str) -> bool:
        """Whether the times of a clip can be read, if there are any."""
        try:
            self.times(clip)
        except StoreError:
            return False
        return True


class RecordFolder(Folder):
    """Metric records: one JSON object per clip.

    Args:
        path, identity: see `Folder`.
        schema: what a record must hold; a ``clip`` must be the one that it is asked for.
    """

    suffix = ".json"
    remedy = "run evaluate again"

    def __init__(self, path: Path, identity: dict[str, object], schema: Schema) -> None:
        super().__init__(path, identity)
        self.schema = schema

    def save(self, clip: str, record: dict[str, object]) -> None:
        """Store a record."""
        write_atomic(self.file(clip), canonical(record) + "\n")

    def load(self, clip: str) -> dict[str, Any] | None:
        """The record of a clip, None when there is none.

        Raises:
            StoreError: what is there is none.
        """
        schema = {**self.schema, "clip": exactly(clip)} if "clip" in self.schema else self.schema
        return read_object(self.file(clip), schema, self.remedy)

    def find(self, clip: str) -> dict[str, Any]:
        """The record of a clip; empty when there is none, or one that is to be made again."""
        try:
            return self.load(clip) or {}
        except StoreError:
            return {}
