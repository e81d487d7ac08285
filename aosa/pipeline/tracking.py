"""What the stages tell a dashboard. None of it can stop the work."""

from __future__ import annotations

import csv
import io
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from aosa.config import build
from aosa.data.base import Entry
from aosa.evenly import evenly
from aosa.files import temporary_folder
from aosa.metrics import Accuracy, Metric
from aosa.pipeline.common import Job, commit
from aosa.pipeline.dashboards import Row, Untracked
from aosa.pipeline.shareable import as_cell, shareable
from aosa.pipeline.store import RecordFolder
from aosa.report.overlay import overlay
from aosa.report.tables import Table


class Tracker:
    """One run on a dashboard, as the stages see it: what goes wrong there is told once, and the work goes on."""

    def __init__(self, dashboard: Untracked | None = None) -> None:
        self._dashboard = dashboard or Untracked("")
        self._told: set[str] = set()

    @property
    def active(self) -> bool:
        """Whether anybody listens."""
        return type(self._dashboard) is not Untracked

    @property
    def overlays(self) -> int:
        """How many overlay videos are wanted."""
        return self._dashboard.overlays

    def start(self, job_type: str, name: str, group: str, config: DictConfig, more: Mapping[str, Any]) -> None:
        """Open the run; when that fails there is none, and nobody listens."""
        with self.guard():
            self._dashboard.start(job_type, name, group, {**shareable(config), "commit": commit(), **more})
            return
        self._dashboard = Untracked("")

    def log(self, prefix: str, **values: float) -> None:
        """The next point of the lines ``<prefix>/<key>``."""
        with self.guard():
            self._dashboard.log({f"{prefix}/{key}": value for key, value in values.items()})

    def curves(self, name: str, curves: Mapping[str, Sequence[float]]) -> None:
        """Curves of one length over the share 0 to 1; nothing when there are none."""
        with self.guard():
            if curves:
                self._dashboard.curves(name, curves)

    def table(self, name: str, rows: Sequence[Row]) -> None:
        """Rows of plain values, without paths; nothing when there are none."""
        with self.guard():
            if rows:
                self._dashboard.table(name, [{key: as_cell(value) for key, value in row.items()} for row in rows])

    def videos(self, name: str, files: Mapping[str, Path]) -> None:
        """MP4 files by caption; nothing when there are none."""
        with self.guard():
            if files:
                self._dashboard.videos(name, files)

    def summary(self, prefix: str, **values: float | None) -> None:
        """Figures that runs are compared by, as ``<prefix>/<key>``; those that are None or NaN are left out."""
        with self.guard():
            known = {k: v for k, v in values.items() if v is not None and not math.isnan(v)}
            self._dashboard.summary({f"{prefix}/{key}": value for key, value in known.items()})

    def finish(self, exit_code: int) -> None:
        """Close the run, and print where it can be seen."""
        with self.guard():
            if where := self._dashboard.finish(exit_code):
                print(f"tracking: {where}")

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turn whatever fails inside into a warning."""
        try:
            yield
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            if reason not in self._told:
                self._told.add(reason)
                print(f"warning: tracking failed, the work goes on: {reason}", file=sys.stderr)


def dashboard(config: DictConfig) -> Untracked:
    """The dashboard that ``config.tracking`` names.

    Raises:
        ConfigError: it cannot be had: a package is missing, an option is out of range.
    """
    # Handed over, so that reports, which show the config without the roots, show none here.
    return build(config.tracking, Untracked, output_root=config.output_root)


@contextmanager
def track(
    config: DictConfig, job_type: str, name: str, group: str, about: DictConfig | None = None, **more: Any
) -> Iterator[Tracker]:
    """One run on the dashboard that ``config.tracking`` names, closed on every path: with exit code 1 when the body
    raises, else 0.

    Args:
        config: of the stage.
        job_type: the stage.
        name: of the run: explainer / model / data set.
        group: what it is compared within: the experiment, or the data set.
        about: the config to keep with the run, by default the stage's own; see `shareable`. The commit is added.
        more: further entries of it.

    Raises:
        ConfigError: see `dashboard`.
    """
    tracker = Tracker(dashboard(config))
    try:
        if tracker.active:
            tracker.start(job_type, name, group, config if about is None else about, more)
        yield tracker
    except BaseException:
        tracker.finish(1)
        raise
    tracker.finish(0)


def track_maps(tracker: Tracker, job: Job, entries: Sequence[Entry]) -> None:
    """After explain: a table with the time or the failure of each clip, the sums, and overlay videos of evenly spaced
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
        shown = evenly([e for e in entries if maps.has(e.id)], tracker.overlays)
        with temporary_folder(maps.path) as folder:
            files = {}
            for number, entry in enumerate(shown):
                path = folder / f"{number}.mp4"
                saliency, meta = maps.load(entry.id)
                overlay(job.load(entry), saliency).save(path)
                files[f"{entry.id}: {meta['target_name'] or meta['target']}"] = path
            tracker.videos("explain/overlays", files)


def track_records(
    tracker: Tracker, name: str, metric: Metric | Accuracy, folder: RecordFolder, entries: Sequence[Entry]
) -> None:
    """After evaluate: a table with the scores and the time of each clip, the mean curves over all clips, and the
    means that a table of the experiment would show."""
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
        weights = metric.weights if isinstance(metric, Metric) else {}
        means = {column: _mean(records, column, weights.get(column)) for column in metric.columns}
        tracker.summary(f"evaluate/{name}", n=len(records), failed=len(entries) - len(records), **means)


def track_table(tracker: Tracker, table: Table) -> None:
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
