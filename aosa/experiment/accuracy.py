"""Accuracy of a model on a data set: what its records come to, and the published figure beside it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aosa.config import build, compose
from aosa.data.base import Entry
from aosa.downloads.table import Published, Weights, published_weights
from aosa.engine.accuracy import Accuracy, AccuracyTask
from aosa.engine.job import Place
from aosa.engine.work import work
from aosa.errors import ConfigError
from aosa.report.statistics import bootstrap_interval

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


def measure(place: Place, accuracy: Accuracy, log: Callable[..., None]) -> tuple[int, Measured | None]:
    """Classify every video that has no record of its present content yet, and sum up.

    Returns:
        the exit status, and the accuracy; None when every video failed.

    Raises:
        ConfigError: no video of a class that the model knows, or views that the data set has not.
    """
    place.dataset.check_views(accuracy)
    accuracy.check(place.model)
    task, entries = AccuracyTask(place, accuracy), place.videos()
    known = known_entries(place)
    if not known:
        raise ConfigError(
            f"none of the {len(entries)} videos of {place.dataset.name} has a class that {place.model.name} knows; see "
            f"model.class_names and dataset.class_map"
        )
    status = work(place, known, [task], task.title, log)
    folder = task.records
    records = [r for e in known if folder.failure(e.id) is None and (r := folder.load(e.id)) is not None]
    return status, _sum_up(place, accuracy, records, len(entries), len(known)) if records else None


def known_entries(place: Place) -> list[Entry]:
    """The videos of classes that the model knows."""
    return [entry for entry in place.videos() if place.label(entry.class_name) is not None]


def gate(place: Place, accuracy: Accuracy, margin: float) -> int:
    """Print the accuracy before the hours that maps take, and warn when it is far from the published figure, see
    `Measured.warning`. Returns the exit status of the videos."""
    try:
        status, measured = measure(place, accuracy, lambda **_: None)
    except ConfigError as error:
        print(f"accuracy of {place.model.name} on {place.dataset.name} is not measured: {error}")
        return 0
    if measured is not None:
        print(measured)
        if warning := measured.warning(margin):
            print(warning, file=sys.stderr)
    return status


def _sum_up(place: Place, accuracy: Accuracy, records: Sequence[dict[str, Any]], entries: int, known: int) -> Measured:
    groups = [r["group"] or r["clip"] for r in records]
    hits = {key: [r[key] for r in records] for key in ("top1", "top5")}
    weights = published_weights(str(place.config.model.checkpoint or place.config.model.get("weights") or ""))
    published = weights.published if weights else None
    if published is not None and published.dataset != place.dataset.name:
        published = None
    differences = []
    if weights is not None and published is not None:
        differences = _differences(place, accuracy, weights, published, len(records) == entries)
    return Measured(
        model=place.model.name,
        dataset=place.dataset.name,
        classes=len(place.model.class_names or []),
        n=len(records),
        groups=len(set(groups)),
        unknown=entries - known,
        missing=known - len(records),
        top1=sum(hits["top1"]) / len(records),
        top1_interval=bootstrap_interval(hits["top1"], groups),
        top5=sum(hits["top5"]) / len(records),
        top5_interval=bootstrap_interval(hits["top5"], groups),
        views=str(accuracy),
        published=published,
        differences=differences,
    )


def _differences(place: Place, accuracy: Accuracy, weights: Weights, published: Published, whole: bool) -> list[str]:
    """What a published figure rests on and this one does not: views, the model's input and precision as in the config
    of the weights, other steps, and the whole of the test videos; `whole`: every video that there is was classified."""
    options, found = place.config.dataset, []
    plain = compose("accuracy", [f"model={weights.model}", f"dataset={published.dataset}", *weights.options])
    ours = f"{accuracy.clips}x{accuracy.crops}"
    if published.views != ours:
        found.append(f"{ours} views here")
    for key in ("sampling", "average"):
        if getattr(published, key) not in (None, getattr(accuracy, key)):
            found.append(f"accuracy.{key}={getattr(accuracy, key)} here")
    if published.protocol:
        found.append(f"there: {published.protocol}")
    theirs = asdict(build(plain.model.spec))
    found += [f"model.spec.{k}={v} here" for k, v in asdict(place.model.spec).items() if v != theirs[k]]
    if place.model.precision != plain.model.precision:
        found.append(f"precision={place.model.precision} here")
    interval = options.get("interval")
    if (options.get("window") or "centre") != "centre" or interval not in (None, theirs["interval"]):
        found.append("another window of frames here")
    for key in ("subset", "split"):
        if options.get(key) != plain.dataset.get(key):
            found.append(f"dataset.{key}={options.get(key)} here")
    part = any(options.get(key) for key in ("classes", "per_class", "limit_per_class", "manifest"))
    cut = place.config.limit is not None and place.config.limit < len(place.dataset.entries)
    if part or cut or place.dataset.problems or not whole:
        found.append("a part of the videos here")
    return found
