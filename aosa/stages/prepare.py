"""Check a data set: decode every video once and write down what was found."""

from __future__ import annotations

import csv
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from omegaconf import DictConfig
from tqdm import tqdm

from aosa.config import build
from aosa.data.base import Entry, VideoDataset
from aosa.data.choose import limited
from aosa.engine.job import describe_missing
from aosa.errors import VideoError
from aosa.files import write_csv
from aosa.options import check_whole
from aosa.stages.keys import check_common
from aosa.video.decode import describe_damage, probe

COLUMNS = (
    "id", "class", "group", "path", "frames", "lost", "damaged", "width", "height", "status", "reason", "bytes",
    "mtime_ns",
)  # fmt: skip
_SAVE_EVERY = 5.0
_NAMED = 5
Row = dict[str, str]


def run(cfg: DictConfig) -> int:
    """Write ``<output_root>/prepare/<dataset>/manifest.csv`` and print a summary.

    A row per listed video, in the data set's order, then the problems. ``status`` is found, missing, unreadable, or
    rejected; ``frames``, ``lost`` and ``damaged`` count the frames of the whole video and those of them that do not
    decode, or not soundly (see `aosa.video.decode.VideoInfo`); ``reason`` of a found video says which these are, and
    whether the file is cut off before the frames that its container lists. A video whose size and time of change are
    those of the manifest already there is not decoded again. Paths are relative to the data set's root. ``dry_run``
    decodes and writes nothing, and says what would be decoded.

    Returns:
        3 when a video is unreadable, else 0.

    Raises:
        ConfigError: no such folder, or none of the data set's videos is there.
    """
    check_common(cfg)
    check_whole("", workers=(cfg.workers, 1, 256))
    dataset: VideoDataset = build(cfg.dataset, VideoDataset)
    root = getattr(dataset, "root", None)
    manifest = Path(cfg.output_root) / "prepare" / dataset.name / "manifest.csv"
    old = _read(manifest)
    rows: dict[str, Row] = {}
    todo = []
    for entry in limited(dataset.entries, cfg.limit):
        row = _listed(entry, root)
        known = old.get(entry.id, {})
        if known and all(known[k] == row[k] for k in ("path", "bytes", "mtime_ns")):
            row = {**known, "class": row["class"], "group": row["group"]}
        elif row["path"]:
            todo.append(entry)
        rows[entry.id] = row
    if cfg.dry_run:
        print(f"plan: {dataset.name} has {len(rows)} videos, {len(todo)} of them to decode")
        print("\n".join(filter(None, [describe_missing(dataset), f"manifest: {manifest}"])))
        return 0
    problems: list[Row] = [
        {**dict.fromkeys(COLUMNS, ""), "id": p.id, "status": p.kind, "reason": p.reason} for p in dataset.problems
    ]
    done = len(rows) - len(todo)
    try:
        last = time.monotonic()
        for entry, result in _probed(todo, cfg.workers or os.cpu_count() or 1, done):
            rows[entry.id].update(result)
            if time.monotonic() - last > _SAVE_EVERY:
                write_csv(manifest, COLUMNS, [*_decoded(rows), *problems])
                last = time.monotonic()
    finally:
        # Interrupted or not: what was decoded is not decoded again.
        write_csv(manifest, COLUMNS, [*_decoded(rows), *problems])
    everything = [*rows.values(), *problems]
    print(summary(dataset.name, everything, getattr(dataset, "ignored", 0)))
    print(f"manifest: {manifest}")
    return 3 if any(row["status"] == "unreadable" for row in everything) else 0


def summary(name: str, rows: list[Row], ignored: int = 0) -> str:
    """What the manifest says, in a few lines; of each kind of trouble the first few by name."""
    count = Counter(row["status"] for row in rows)
    found = [row for row in rows if row["status"] == "found"]
    frames = [int(row["frames"]) for row in found if row["frames"]]
    lines = [f"{name}: {len(rows)} videos listed, " + ", ".join(f"{n} {kind}" for kind, n in count.items())]
    if frames:
        lines.append(f"  frames decoded: {sum(frames)} (fewest {min(frames)}, most {max(frames)})")
    if ignored:
        lines.append(f"  {ignored} other files ignored: their extension is not a video's")
    for kind in ("missing", "unreadable", "rejected"):
        lines += _named(kind, [row for row in rows if row["status"] == kind])
    return "\n".join(lines + _named("found, but damaged or cut off", [row for row in found if row["reason"]]))


def _named(title: str, rows: list[Row]) -> list[str]:
    lines = [f"  {title} ({len(rows)}):"] if rows else []
    lines += [f"    {row['id']}: {row['reason']}" for row in rows[:_NAMED]]
    return lines + ([f"    … and {len(rows) - _NAMED} more, in the manifest"] if len(rows) > _NAMED else [])


def _listed(entry: Entry, root: Path | None) -> Row:
    """The row of an entry before its video is decoded."""
    row = dict.fromkeys(COLUMNS, "") | {"id": entry.id, "class": entry.class_name or "", "group": entry.group or ""}
    if entry.path is None or root is None:  # made on the fly: nothing to decode
        return row | {"status": "found"}
    files = [p for p in entry.path.iterdir() if p.is_file()] if entry.path.is_dir() else [entry.path]
    # One that is gone, or a link to nowhere, is told when it is decoded.
    stats = [p.stat() for p in files if p.exists()]
    return row | {
        "path": entry.path.relative_to(root).as_posix(),
        "bytes": str(sum(s.st_size for s in stats)),
        "mtime_ns": str(max((s.st_mtime_ns for s in stats), default=0)),
    }


def _probed(entries: list[Entry], workers: int, done: int) -> Iterator[tuple[Entry, Row]]:
    # Threads: decoding releases the interpreter's lock.
    bar = tqdm(total=done + len(entries), initial=done, desc="decode", unit="video")
    with bar, ThreadPoolExecutor(workers) as pool:
        futures = {pool.submit(_probe, entry): entry for entry in entries}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
                bar.update()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _probe(entry: Entry) -> Row:
    assert entry.path is not None
    try:
        info = probe(entry.path)
    except (VideoError, OSError) as error:
        # The message begins with the path, which the row has already, and relative.
        return {"status": "unreadable", "reason": str(error).replace(str(entry.path), entry.path.name)}
    cut = f"only {info.frames} of the {info.listed} frames that its container lists decode" if info.listed else ""
    return {
        "frames": str(info.frames),
        "lost": str(len(info.lost)),
        "damaged": str(len(info.damaged)),
        "width": str(info.width),
        "height": str(info.height),
        "status": "found",
        "reason": "; ".join(filter(None, [cut, describe_damage(info.lost, info.damaged)])),
    }


def _decoded(rows: dict[str, Row]) -> list[Row]:
    return [row for row in rows.values() if row["status"]]


def _read(manifest: Path) -> dict[str, Row]:
    """The manifest that is already there; nothing of it when it is not one of ours."""
    if not manifest.is_file():
        return {}
    try:
        with manifest.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file, strict=True)
            rows = list(reader) if tuple(reader.fieldnames or ()) == COLUMNS else []
    except (OSError, UnicodeError, csv.Error):
        return {}
    return {row["id"]: row for row in rows if _sound(row)}


def _sound(row: Mapping[str | None, str | None]) -> bool:
    """Whether a row is as `run` writes them of a video that it decoded."""
    if set(row) != set(COLUMNS) or None in row.values():
        return False
    whole = [re.fullmatch(r"[0-9]{1,9}", str(row[key])) is not None for key in ("frames", "width", "height")]
    return all(whole) if row["status"] == "found" else row["status"] == "unreadable" and bool(row["reason"])
