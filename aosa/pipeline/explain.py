"""Stage explain: saliency maps to disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

from omegaconf import DictConfig

from aosa.data.base import Entry
from aosa.pipeline.clock import explain_timed
from aosa.pipeline.common import Job, absent, check_common, environment, walk
from aosa.pipeline.plan import print_stage_plan
from aosa.pipeline.tracking import Tracker, track, track_maps


def run(config: DictConfig, within: Tracker | None = None) -> int:
    """Make the map of every video of ``dataset`` for ``model`` by ``explainer``.

    Maps lie under ``<output_root>/maps/<dataset>/<model>/<explainer>-<digest>/``, the digest naming all that
    changes a map; one that is there and valid is kept. It is tracked as a run of its own, or
    `within` one. ``dry_run`` prints the plan instead and makes nothing. Returns the exit status.
    """
    check_common(config)
    if config.dry_run:
        return print_stage_plan(config, {})
    job = Job(config)
    job.explainer.check(job.model)  # options out of range and undefined pairs fail before any work
    entries = job.entries()
    folder = job.maps
    folder.describe(config)
    if missing := absent(job.dataset):
        print(missing)

    def done(entry: Entry) -> bool:
        return folder.file(entry.id).exists() and folder.valid(entry.id, job.dataset.fingerprint(entry))

    def explain(entry: Entry) -> tuple[Callable[[], None], dict[str, Any]]:
        fingerprint = job.dataset.fingerprint(entry)
        clip = job.load(entry)
        target = job.target(clip)
        saliency, parts = explain_timed(job.explainer, job.model, clip, target)
        names = job.model.class_names
        meta = {
            "clip": entry.id,
            "fingerprint": fingerprint,
            "target_name": names[target] if names else None,
            "label": clip.label,
            "class_name": clip.class_name,
            "group": clip.group,
            "source": clip.source,
        }
        more = {"parts": {name: round(seconds, 6) for name, seconds in parts.items()}}
        return partial(folder.save, entry.id, saliency, meta), more

    about = environment(job.model)
    tracked = track(config, "explain", job.title, job.dataset.name, maps=folder.path.name, environment=about)
    with nullcontext(within) if within else tracked as tracker:
        log = partial(tracker.log, "explain")
        status = walk(entries, folder, "explain", f"explain {job.title}", done, explain, about, log)
        track_maps(tracker, job, entries)
    print(f"maps: {folder.path}")
    return status
