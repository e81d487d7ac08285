"""Accuracy of a model on a data set: its records, what they come to, and the published figure beside it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from aosa.config import build, compose
from aosa.data.base import Entry
from aosa.downloads import Published, Weights, published_weights
from aosa.errors import ConfigError
from aosa.metrics.accuracy import Accuracy
from aosa.pipeline.common import Job, choice, environment, walk
from aosa.pipeline.store import RecordFolder, digest
from aosa.pipeline.tracking import Tracker, track, track_records
from aosa.report.statistics import bootstrap_interval
from aosa.schema import TEXT

Interval = tuple[float, float]


@dataclass
class Measured:
    """Accuracy of `model` on `n` videos of `dataset`, with 95 % bootstrap intervals over `groups` of videos (NaN for a
    single group); `unknown` videos have no class that the model knows, and are left out; `missing` ones failed.

    Args:
        published: what is published for these weights on this data set, if anything.
        differences: what was done otherwise than there; empty = it can be compared like with like.
    """

    model: str
    dataset: str
    classes: int
    n: int
    groups: int
    unknown: int
    missing: int
    top1: float
    top1_interval: Interval
    top5: float
    top5_interval: Interval
    views: str
    published: Published | None
    differences: list[str]

    def __str__(self) -> str:
        shown = [
            f"{name} {value:.3f}" + ("" if math.isnan(low) else f" [{low:.3f}, {high:.3f}]")
            for name, value, (low, high) in (
                ("top-1", self.top1, self.top1_interval),
                ("top-5", self.top5, self.top5_interval),
            )
        ]
        left_out = f" ({self.unknown} videos of classes that it does not know left out)" if self.unknown else ""
        failed = f" ({self.missing} videos failed)" if self.missing else ""
        counted = f"n = {self.n}{left_out}{failed}, {self.views}"
        return f"accuracy of {self.model} on {self.dataset}: {', '.join(shown)}; {counted}; {self._published()}"

    def _published(self) -> str:
        if self.published is None:
            return "no published figure is known for these weights on this data set"
        top5 = "" if self.published.top5 is None else f" / {self.published.top5 / 100:.3f}"
        figure = f"published {self.published.top1 / 100:.3f}{top5} ({self.published.views or 'other'} views)"
        if self.differences:
            return f"{figure}, not like with like: {', '.join(self.differences)}"
        low, high = self.top1_interval
        inside = low <= self.published.top1 / 100 <= high
        return f"{figure}, like with like: {'inside' if inside else 'outside'} the interval"

    def warning(self, margin: float) -> str | None:
        """One line when the published figure is further than `margin` outside the interval, or, where nothing is
        published, when the interval holds a guesser's accuracy; None when all is well or nothing can be said.

        Where all videos are classified rightly, or none, the bootstrap's interval has no width: it then reaches as far
        as the rule of three says, 3 / groups.
        """
        low, high = self.top1_interval
        if low == high:
            low, high = low - 3 / self.groups, high + 3 / self.groups
        if self.published is not None:
            figure = self.published.top1 / 100
            if not (figure < low - margin or figure > high + margin):
                return None
            reason = f"{figure:.3f} is published, more than {margin:g} outside the interval"
        elif low <= 1 / self.classes:
            reason = f"no better than a guess among {self.classes} classes"
        else:
            return None
        return (
            f"warning: top-1 of {self.model} on {self.dataset} is {self.top1:.3f}: {reason}. Check the order of "
            f"model.class_names, the checkpoint, dataset.class_map, and model.spec (frames, size, mean, std)"
        )


def evaluate_accuracy(config: DictConfig, metric: Accuracy) -> int:
    """``metric=accuracy`` of the stage evaluate: measure it and print it. Returns the exit status.

    Raises:
        ConfigError: no video of a class that the model knows, or views that the data set has not.
    """
    job = Job(config)
    job.dataset.check_views(metric.views)
    title, about = f"{job.model.name} / {job.dataset.name}", environment(job.model)
    with track(config, "evaluate", title, job.dataset.name, environment=about) as tracker:
        status, measured = measure(job, metric, tracker)
    if measured is not None:
        print(measured)
    print(f"records: {records_folder(job, metric, choice(config, 'metric')).path}")
    return status


def gate(config: DictConfig, metric: Accuracy, margin: float) -> int:
    """Print the accuracy before the hours that maps take, and warn when it is far from the published figure, see
    `Measured.warning`. Returns the exit status of the videos."""
    job = Job(config)
    try:
        status, measured = measure(job, metric, Tracker())
    except ConfigError as error:
        print(f"accuracy of {job.model.name} on {job.dataset.name} is not measured: {error}")
        return 0
    if measured is not None:
        print(measured)
        if warning := measured.warning(margin):
            print(warning, file=sys.stderr)
    return status


def measure(job: Job, metric: Accuracy, tracker: Tracker) -> tuple[int, Measured | None]:
    """Classify every video that has no record of its present content yet, and sum up. Records lie under
    ``<output_root>/records/<dataset>/<model>/<metric>-<digest>/``.

    Returns:
        the exit status, and the accuracy; None when every video failed.

    Raises:
        ConfigError: no video of a class that the model knows.
    """
    metric.check(job.model)
    name = choice(job.config, "metric")
    folder, entries = records_folder(job, metric, name), job.entries()
    known = [e for e in entries if job.label(e.class_name) is not None]
    if not known:
        raise ConfigError(
            f"none of the {len(entries)} videos of {job.dataset.name} has a class that {job.model.name} knows; see "
            f"model.class_names and dataset.class_map"
        )
    folder.describe(job.config)

    def done(entry: Entry) -> bool:
        return folder.find(entry.id).get("fingerprint") == job.dataset.fingerprint(entry)

    def classify(entry: Entry) -> tuple[Callable[[], None], dict[str, Any]]:
        label = job.label(entry.class_name)
        assert label is not None
        clips = job.dataset.load_views(entry, job.model.spec, metric.views)
        record = {
            "clip": entry.id,
            "group": entry.group,
            "class_name": entry.class_name,
            "label": label,
            "fingerprint": job.dataset.fingerprint(entry),
            **metric(job.model, clips, label),
        }
        return partial(folder.save, entry.id, record), {}

    title = f"{name} of {job.model.name} on {job.dataset.name}"
    log = partial(tracker.log, f"evaluate/{name}")
    status = walk(known, folder, "evaluate", title, done, classify, environment(job.model), log)
    track_records(tracker, name, metric, folder, known)
    records = [r for e in known if folder.failure(e.id) is None and (r := folder.load(e.id)) is not None]
    return status, _sum_up(job, metric, records, len(entries), len(known)) if records else None


def records_folder(job: Job, metric: Accuracy, name: str) -> RecordFolder:
    """Keyed without an explainer: accuracy is the model's."""
    identity: dict[str, object] = {
        "dataset": job.dataset.identity(),
        "model": job.model_identity,
        "metric": metric.identity(),
    }
    path = Path(job.config.output_root) / "records" / job.dataset.name / job.model.name
    schema = {**job.record_schema, "fingerprint": TEXT, **metric.schema()}
    return RecordFolder(path / f"{name}-{digest(identity)}", identity, schema)


def _sum_up(job: Job, metric: Accuracy, records: Sequence[dict[str, Any]], entries: int, known: int) -> Measured:
    groups = [r["group"] or r["clip"] for r in records]
    hits = {key: [r[key] for r in records] for key in ("top1", "top5")}
    weights = published_weights(str(job.config.model.checkpoint or job.config.model.get("weights") or ""))
    published = weights.published if weights else None
    if published is not None and published.dataset != job.dataset.name:
        published = None
    differences = []
    if weights is not None and published is not None:
        differences = _differences(job, metric, weights, published, len(records) == entries)
    return Measured(
        model=job.model.name,
        dataset=job.dataset.name,
        classes=len(job.model.class_names or []),
        n=len(records),
        groups=len(set(groups)),
        unknown=entries - known,
        missing=known - len(records),
        top1=sum(hits["top1"]) / len(records),
        top1_interval=bootstrap_interval(hits["top1"], groups),
        top5=sum(hits["top5"]) / len(records),
        top5_interval=bootstrap_interval(hits["top5"], groups),
        views=str(metric.views),
        published=published,
        differences=differences,
    )


def _differences(job: Job, metric: Accuracy, weights: Weights, published: Published, whole: bool) -> list[str]:
    """What a published figure rests on and this one does not: views, the model's input and precision as in the config
    of the weights, other steps, and the whole of the test videos; `whole`: every video that there is was classified."""
    options, found = job.config.dataset, []
    plain = compose("evaluate", [f"model={weights.model}", f"dataset={published.dataset}", *weights.options])
    ours = f"{metric.clips}x{metric.crops}"
    if published.views != ours:
        found.append(f"{ours} views here")
    for key in ("sampling", "average"):
        if getattr(published, key) not in (None, getattr(metric, key)):
            found.append(f"metric.{key}={getattr(metric, key)} here")
    if published.protocol:
        found.append(f"there: {published.protocol}")
    theirs = asdict(build(plain.model.spec))
    found += [f"model.spec.{k}={v} here" for k, v in asdict(job.model.spec).items() if v != theirs[k]]
    if job.model.precision != plain.model.precision:
        found.append(f"precision={job.model.precision} here")
    interval = options.get("interval")
    if (options.get("window") or "centre") != "centre" or interval not in (None, theirs["interval"]):
        found.append("another window of frames here")
    for key in ("subset", "split"):
        if options.get(key) != plain.dataset.get(key):
            found.append(f"dataset.{key}={options.get(key)} here")
    part = any(options.get(key) for key in ("classes", "per_class", "limit_per_class", "manifest"))
    cut = job.config.limit is not None and job.config.limit < len(job.dataset.entries)
    if part or cut or job.dataset.problems or not whole:
        found.append("a part of the videos here")
    return found
