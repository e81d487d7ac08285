"""What a dashboard shows of results: maps, records and tables, read from the store."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from aosa.data.base import Entry
from aosa.engine.job import Job
from aosa.files import temporary_folder
from aosa.report.overlay import overlay
from aosa.report.tables import Table
from aosa.store.folders import RecordFolder
from aosa.subsample import subsample
from aosa.tracking.tracker import Tracker


def publish_maps(tracker: Tracker, job: Job, entries: Sequence[Entry]) -> None:
    """A table with the time or the failure of each clip, the sums, and overlay videos of evenly spaced
    clips."""
    if not tracker.active:
        return
    with tracker.guard():
        maps = job.maps
        rows = [
            {
                "clip": e.id,
                "class_name": e.class_name,
                "seconds": maps.times(e.id).get("seconds"),
                "failure": maps.failure(e.id),
            }
            for e in entries
        ]
        tracker.table("explain/clips", rows)
        failed = [r for r in rows if r["failure"]]
        seconds = [float(r["seconds"]) for r in rows if r["seconds"] is not None and not r["failure"]]
        tracker.summary(
            "explain",
            maps=len(rows) - len(failed),
            failed=len(failed),
            seconds=sum(seconds),
            seconds_per_clip=sum(seconds) / len(seconds) if seconds else None,
        )
        shown = subsample([e for e in entries if maps.has(e.id)], tracker.overlays)
        with temporary_folder(maps.path) as folder:
            files = {}
            for number, entry in enumerate(shown):
                path = folder / f"{number}.mp4"
                saliency, meta = maps.load(entry.id)
                overlay(job.load(entry), saliency).save(path)
                files[f"{entry.id}: {meta['target_name'] or meta['target']}"] = path
            tracker.videos("explain/overlays", files)


def publish_records(
    tracker: Tracker,
    name: str,
    columns: Iterable[str],
    weights: Mapping[str, str],
    folder: RecordFolder,
    entries: Sequence[Entry],
) -> None:
    """A table with the scores and the time of each clip, the mean curves over all clips, and the means that a table of
    the experiment would show.

    Args:
        name: of the metric.
        columns, weights: see `aosa.metrics.base.Metric`.
    """
    if not tracker.active:
        return
    with tracker.guard():
        records = [r for e in entries if folder.failure(e.id) is None and (r := folder.load(e.id)) is not None]
        rows = [
            {**{k: v for k, v in r.items() if not isinstance(v, list | dict)}, **_seconds(folder, r["clip"])}
            for r in records
        ]
        tracker.table(f"evaluate/{name}/clips", rows)
        tracker.curves(f"evaluate/{name}", _mean_curves(records))
        means = {column: _mean(records, column, weights.get(column)) for column in columns}
        tracker.summary(f"evaluate/{name}", n=len(records), failed=len(entries) - len(records), **means)


def publish_table(tracker: Tracker, table: Table) -> None:
    """The table of an experiment, a row per cell: paper, ours, interval, n."""
    if tracker.active:
        with tracker.guard():
            tracker.table(table.spec.name, [{k: _number(v) for k, v in row.items()} for row in _cells(table)])


def _cells(table: Table) -> Iterator[dict[str, str]]:
    yield from csv.DictReader(io.StringIO(table.to_csv()))


def _number(text: str) -> str | float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def _seconds(folder: RecordFolder, clip: str) -> dict[str, object]:
    return {"seconds": folder.times(clip).get("seconds")}


def _mean_curves(records: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Of the keys ``<name>_curve``, those whose lists are as long in all records as the first one's."""
    keys = [key for key in (records[0] if records else {}) if key.endswith("_curve")]
    same = [key for key in keys if {len(r.get(key) or ()) for r in records} == {len(records[0][keys[0]])}]
    return {key: np.mean([r[key] for r in records], axis=0).tolist() for key in same}


def _mean(records: Sequence[dict[str, Any]], column: str, weight: str | None) -> float | None:
    """Σ w·v / Σ w over the records that have a value, as tables have it."""
    pairs = [(r[column], 1.0 if weight is None else float(r[weight])) for r in records if r.get(column) is not None]
    total = sum(w for _, w in pairs)
    return sum(v * w for v, w in pairs) / total if total else None
