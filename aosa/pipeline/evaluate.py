"""Stage evaluate: metric records of maps on disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from omegaconf import DictConfig

from aosa.config import build
from aosa.data.base import Entry
from aosa.errors import AosaError
from aosa.metrics import Accuracy, Metric
from aosa.pipeline.accuracy import evaluate_accuracy
from aosa.pipeline.common import Job, check_common, choice, environment, walk
from aosa.pipeline.plan import print_stage_plan
from aosa.pipeline.tracking import Tracker, track, track_records
from aosa.saliency import SaliencyMap


def run(config: DictConfig, within: Tracker | None = None) -> int:
    """Score the maps that explain wrote for the same ``dataset``, ``model``, ``explainer`` by ``metric``.

    Records lie under ``<output_root>/records/<dataset>/<model>/<explainer>-<digest>/<metric>-<digest>/``, one JSON
    per clip, without times, so that they are the same bytes whenever they are made. One that is there for the
    present map is kept. ``metric=accuracy`` needs neither maps nor explainer, see `aosa.pipeline.accuracy`. It is
    tracked as a run of its own, or `within` one. ``dry_run`` prints the plan instead, with the maps that are still to
    be made, and makes nothing. Returns the exit status.

    Raises:
        AosaError: there are no maps yet.
    """
    check_common(config)
    metric: Metric | Accuracy = build(config.metric, (Metric, Accuracy))
    if config.dry_run:
        return print_stage_plan(config, {choice(config, "metric"): metric})
    if isinstance(metric, Accuracy):
        return evaluate_accuracy(config, metric)
    job = Job(config)
    name = choice(config, "metric")
    metric.check(job.model, job.dataset)
    entries = job.entries()
    maps, folder = job.maps, job.records(metric, name)
    if not any(maps.clips()):
        raise AosaError(f"{maps.path}: there are no maps; run scripts/explain.py with the same options first")
    folder.describe(config)

    def load_map(entry: Entry) -> tuple[SaliencyMap, dict[str, Any]]:
        if not maps.file(entry.id).exists():
            reason = maps.failure(entry.id)
            raise AosaError(f"it has no map: {reason}" if reason else "it has no map; run explain again")
        saliency, meta = maps.load(entry.id)
        if meta["fingerprint"] != job.dataset.fingerprint(entry):
            raise AosaError(f"the video of {entry.id!r} has changed since its map was made; run explain again")
        return saliency, meta

    def done(entry: Entry) -> bool:
        return folder.find(entry.id).get("map") == load_map(entry)[1]["sha256"]

    def evaluate(entry: Entry) -> tuple[Callable[[], None], dict[str, Any]]:
        saliency, meta = load_map(entry)
        clip = job.load(entry)
        record = {
            "clip": entry.id,
            "group": clip.group,
            "class_name": clip.class_name,
            "label": clip.label,
            "map": meta["sha256"],
            **metric(job.model, clip, saliency),
        }
        return partial(folder.save, entry.id, record), {}

    about, title = environment(job.model), f"evaluate {name} of {job.title}"
    tracked = track(config, "evaluate", job.title, job.dataset.name, maps=maps.path.name, environment=about)
    with nullcontext(within) if within else tracked as tracker:
        log = partial(tracker.log, f"evaluate/{name}")
        status = walk(entries, folder, "evaluate", title, done, evaluate, about, log)
        track_records(tracker, name, metric, folder, entries)
    print(f"records: {folder.path}")
    return status
