"""Stage explain: saliency maps to disk."""

from __future__ import annotations

from functools import partial
from typing import Any

from omegaconf import DictConfig

from aosa.engine.job import Job, describe_missing
from aosa.engine.work import MapTask, work
from aosa.environment import environment
from aosa.experiment.plan import print_stage_plan
from aosa.experiment.publish import publish_maps
from aosa.stages.keys import check_common
from aosa.tracking.tracker import track


def run(config: DictConfig) -> int:
    """Make the map of every video of ``dataset`` for ``model`` by ``explainer``.

    Maps lie under ``<output_root>/maps/<dataset>/<model>/<explainer>-<digest>/``, the digest naming all that
    changes a map; one that is there and valid is kept. ``dry_run`` prints the plan instead and makes nothing. Returns
    the exit status.
    """
    check_common(config)
    if config.dry_run:
        return print_stage_plan(config, {})
    job = Job(config)
    job.explainer.check(job.model)  # options out of range and undefined pairs fail before any work
    entries, task = job.entries(), MapTask(job)
    if missing := describe_missing(job.dataset):
        print(missing)
    about: dict[str, Any] = {"maps": job.maps.path.name, "environment": environment(job.model)}
    with track(config, "explain", job.title, job.dataset.name, **about) as tracker:
        status = work(job, entries, [task], task.title, partial(tracker.log, "explain"))
        publish_maps(tracker, job, entries)
    print(f"maps: {job.maps.path}")
    return status
