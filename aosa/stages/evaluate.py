"""Stage evaluate: metric records of maps on disk."""

from __future__ import annotations

from functools import partial
from typing import Any

from omegaconf import DictConfig

from aosa.config import build
from aosa.engine.job import Job, choice
from aosa.engine.work import RecordTask, work
from aosa.environment import environment
from aosa.errors import AosaError
from aosa.experiment.plan import print_stage_plan
from aosa.experiment.publish import publish_records
from aosa.metrics.base import Metric
from aosa.stages.keys import check_common
from aosa.tracking.tracker import track


def run(config: DictConfig) -> int:
    """Score the maps that explain wrote for the same ``dataset``, ``model``, ``explainer`` by ``metric``.

    Records lie under ``<output_root>/records/<dataset>/<model>/<explainer>-<digest>/<metric>-<digest>/``, one JSON
    per clip, without times, so that they are the same bytes whenever they are made. One that is there for the
    present map is kept. ``dry_run`` prints the plan instead, with the maps that are still to be made, and makes
    nothing. Returns the exit status.

    Raises:
        AosaError: there are no maps yet.
    """
    check_common(config)
    metric: Metric = build(config.metric, Metric)
    name = choice(config, "metric")
    if config.dry_run:
        return print_stage_plan(config, {name: metric})
    job = Job(config)
    metric.check(job.model, job.dataset)
    entries, task = job.entries(), RecordTask(job, metric, name, config)
    if not any(job.maps.clips()):
        raise AosaError(f"{job.maps.path}: there are no maps; run scripts/explain.py with the same options first")
    about: dict[str, Any] = {"maps": job.maps.path.name, "environment": environment(job.model)}
    with track(config, "evaluate", job.title, job.dataset.name, **about) as tracker:
        status = work(job, entries, [task], task.title, partial(tracker.log, f"evaluate/{name}"))
        publish_records(tracker, name, metric.columns, metric.weights, task.records, entries)
    print(f"records: {task.records.path}")
    return status
