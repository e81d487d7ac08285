"""Reads what Weights & Biases kept of a run that was not sent.

The file ``run-<id>.wandb`` begins with 7 bytes of its own; then come records in LevelDB's log format: blocks of 32 KiB,
fragments with a header of checksum, length and kind (1 whole, 2 first, 3 middle, 4 last). Each is a protobuf message.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32 * 1024, struct.Struct("<IHB")


@dataclass
class OfflineRun:
    """One run: what it is, each history row, the last summary, how it ended."""

    folder: Path
    about: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    kinds: set[str] = field(default_factory=set)
    exit_code: int | None = None

    def line(self, key: str) -> list[float]:
        """The points of one line, in their order."""
        return [row[key] for row in self.history if key in row]

    def table(self, key: str) -> list[dict[str, Any]]:
        """The rows of the one table of that name."""
        (found,) = self.line(key)
        content = json.loads((self.folder / "files" / found["path"]).read_text())
        return [dict(zip(content["columns"], row, strict=True)) for row in content["data"]]

    def videos(self, key: str) -> dict[str, Path]:
        """Caption → file, of one gallery."""
        (found,) = self.line(key)
        return {video["caption"]: self.folder / "files" / video["path"] for video in found["videos"]}


def read_runs(root: Path) -> list[OfflineRun]:
    """All runs below ``<root>/wandb``, the earliest first; each must have been closed."""
    runs = [_closed(path) for path in (root / "wandb").glob("offline-run-*/*.wandb")]
    return sorted(runs, key=lambda run: (run.about.start_time.seconds, run.about.start_time.nanos))


def _closed(path: Path) -> OfflineRun:
    """The writer is a process of its own, which may still be at it for a moment after the run was closed."""
    for _ in range(200):
        run = _read(path)
        if run.exit_code is not None:
            return run
        time.sleep(0.05)
    raise AssertionError(f"{path}: the run was not closed")


def _read(path: Path) -> OfflineRun:
    from wandb.proto.wandb_internal_pb2 import Record

    run = OfflineRun(path.parent)
    for message in _messages(path.read_bytes()):
        record = Record.FromString(message)
        kind = record.WhichOneof("record_type")
        run.kinds.add(kind)
        if kind == "run":
            run.about, run.config = record.run, _items(record.run.config.update)
        elif kind == "history":
            run.history.append(_items(record.history.item))
        elif kind == "summary":
            run.summary.update(_items(record.summary.update))
        elif kind == "exit":
            run.exit_code = record.exit.exit_code
    return run


def _messages(data: bytes) -> Iterator[bytes]:
    message, at = b"", 7
    while at + HEADER.size <= len(data):
        left = BLOCK - at % BLOCK
        if left < HEADER.size:  # a block's end holds no header
            at += left
            continue
        _, length, kind = HEADER.unpack_from(data, at)
        at += HEADER.size
        if at + length > len(data):
            return  # its rest is still to be written
        message += data[at : at + length]
        at += length
        if kind in (1, 4):
            yield message
            message = b""


def _items(items: Any) -> dict[str, Any]:
    """Keys and values; of nested keys, a dictionary each."""
    found: dict[str, Any] = {}
    for item in items:
        *parents, key = list(item.nested_key) or [item.key]
        node = found
        for parent in parents:
            node = node.setdefault(parent, {})
        node[key] = json.loads(item.value_json)
    return found
