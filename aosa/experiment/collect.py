"""Records on disk → the scores of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from aosa.data.base import Entry
from aosa.engine.accuracy import Accuracy
from aosa.engine.clock import TIMES
from aosa.errors import ConfigError, StoreError
from aosa.experiment.grid import CLIPS, Site, Unit, columns_of
from aosa.options import check_choice
from aosa.store.folders import RecordFolder

_T = TypeVar("_T")
_COLUMNS = [
    "dataset",
    "model",
    "explainer",
    "variant",
    "column",
    "clip",
    "group",
    "class_name",
    "value",
    "weight",
    "stratum",
    "correct",
]


@dataclass
class Results:
    """Records of an experiment.

    Attributes:
        scores: long format, as `make_table` wants them.
        curves: per clip and explainer the deletion and insertion curves.
        columns: score → which direction is better. A ratio of sums (S-PT) comes in two further averages:
            ``<column>_class`` over classes and ``<column>_video`` over videos.
    """

    scores: pd.DataFrame
    curves: list[dict[str, Any]]
    columns: dict[str, str]


def collect(units: Sequence[Unit], sites: Sequence[Site] = (), clips: str = "all") -> Results:
    """Read the records of maps, and of the accuracy of sites. Clips without a record of their present map, and those
    that failed since, are left out: the table's n tells.

    Args:
        clips: ``all``, or only those that the model classifies ``correct`` (AOSA's papers do not say which), or all
            the experiment's models do: ``correct_by_all`` (REVEX).

    Raises:
        ConfigError: another choice.
        StoreError: maps, records or times that are there and not what was written; each is named, with what makes it
            again.
    """
    check_choice("", clips=(clips, CLIPS))
    results = _collect(units, sites)
    if clips == "all":
        return results
    if len(results.scores) and results.scores["correct"].isna().all():
        raise ConfigError(
            f"clips={clips} needs labelled videos and the metric deletion_insertion, which says what is right"
        )
    return _only_correct(results, by_all=clips == "correct_by_all")


class _Damages:
    """What cannot be read, and the commands that make it again."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}  # file with what is wrong → command

    def __call__(self, command: str, read: Callable[[], _T]) -> _T | None:
        """What `read` gives; None where it is damaged."""
        try:
            return read()
        except StoreError as error:
            self.found[str(error)] = command
            return None

    def check(self) -> None:
        """
        Raises:
            StoreError: naming all.
        """
        if self.found:
            commands = "\n  ".join(dict.fromkeys(self.found.values()))
            raise StoreError(
                f"{len(self.found)} stored results cannot be used:\n  " + "\n  ".join(self.found) + "\n"
                f"these commands make them again:\n  {commands}"
            )


def _collect(units: Sequence[Unit], sites: Sequence[Site]) -> Results:
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    correct: dict[tuple[str, str, str], bool] = {}
    sound = _Damages()
    for site in sites:
        rows += _accuracy_rows(site, sound)
    for unit in units:
        entries = unit.job.entries()
        present = {e.id: sound(unit.command("explain"), partial(_map_of, unit, e)) for e in entries}
        if unit.timed:
            rows += _time_rows(unit, [e for e in entries if present[e.id]], sound)
        for name in unit.metrics:
            metric, records = unit.metric(name), unit.records(name)
            for entry in entries:
                record = sound(unit.evaluate_command(name), partial(_record_of, records, entry))
                if record is None or record["map"] != present[entry.id]:
                    continue
                if "predicted" in record and record["label"] is not None:
                    key = (unit.job.dataset.name, unit.job.model.name, entry.id)
                    correct[key] = record["predicted"] == record["label"]
                rows += [_row(unit, entry, record, column, metric.weights) for column in metric.columns]
                if "deletion_curve" in record:
                    curves.append(
                        {
                            "explainer": unit.row,
                            "dataset": unit.job.dataset.name,
                            "model": unit.job.model.name,
                            "clip": entry.id,
                            "group": record["group"],
                            "deletion": record["deletion_curve"],
                            "insertion": record["insertion_curve"],
                            "probability": record["probability"],
                        }
                    )
    sound.check()
    for row in rows:
        row["correct"] = correct.get((row["dataset"], row["model"], row["clip"]))
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    for column in dict.fromkeys(c for u in units for name in u.metrics for c in u.metric(name).weights):
        frame = pd.concat([frame, *_averages(frame, column)], ignore_index=True)
    columns = columns_of(units) | (Accuracy.columns if sites else {})
    return Results(frame, curves, columns)


def _averages(frame: pd.DataFrame, column: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A ratio of sums, averaged over classes (each class's ratio counts the same) and over videos."""
    rows = frame[(frame["column"] == column) & (frame["weight"] > 0)]
    return (
        rows.assign(column=f"{column}_class", stratum=rows["class_name"]),
        rows.assign(column=f"{column}_video", weight=1.0),
    )


def _only_correct(results: Results, by_all: bool) -> Results:
    """Without the clips that their model, or one of the data set's models, classifies wrongly or does not know the true
    class of."""
    right = results.scores["correct"].eq(True)
    if by_all:
        models = results.scores.groupby("dataset")["model"].nunique()
        by = results.scores[right].groupby(["dataset", "clip"])["model"].nunique()
        places = pd.MultiIndex.from_frame(results.scores[["dataset", "clip"]])
        right &= by.reindex(places, fill_value=0).to_numpy() == results.scores["dataset"].map(models)
    scores = results.scores[right]
    kept = set(zip(scores["dataset"], scores["model"], scores["clip"], strict=True))
    curves = [c for c in results.curves if (c["dataset"], c["model"], c["clip"]) in kept]
    return Results(scores, curves, results.columns)


def _map_of(unit: Unit, entry: Entry) -> str | None:
    """The sha256 of a clip's map; None where there is none, or it failed since."""
    return None if unit.job.maps.failure(entry.id) else unit.job.maps.digest(entry.id)


def _record_of(records: RecordFolder, entry: Entry) -> dict[str, Any] | None:
    """A clip's record; None where there is none, or it failed since."""
    return None if records.failure(entry.id) else records.load(entry.id)


def _accuracy_rows(site: Site, sound: _Damages) -> Iterator[dict[str, Any]]:
    for entry in site.place.videos():
        record = sound(site.command("accuracy"), partial(_record_of, site.records, entry))
        if record is not None:
            about = {"dataset": site.place.dataset.name, "model": site.place.model.name}
            yield from (_cells(about, entry, record, column, 1.0) for column in Accuracy.columns)


def _time_rows(unit: Unit, entries: Sequence[Entry], sound: _Damages) -> Iterator[dict[str, Any]]:
    for entry in entries:
        times = sound(unit.command("explain"), partial(unit.job.maps.times, entry.id)) or {}
        parts = times.get("parts") or {}
        about = {"group": entry.group, "class_name": entry.class_name}
        yield from (_row(unit, entry, {**about, c: parts.get(c)}, c, {}) for c in TIMES)


def _row(
    unit: Unit, entry: Entry, record: Mapping[str, Any], column: str, weights: Mapping[str, str]
) -> dict[str, Any]:
    job, weight = unit.job, float(record[weights[column]]) if column in weights else 1.0
    about = {"dataset": job.dataset.name, "model": job.model.name, "explainer": unit.explainer, "variant": unit.variant}
    return _cells(about, entry, record, column, weight)


def _cells(
    about: Mapping[str, str], entry: Entry, record: Mapping[str, Any], column: str, weight: float
) -> dict[str, Any]:
    """A row of the scores; an accuracy is of no explainer."""
    value = record[column]
    return {
        "explainer": "",
        "variant": "",
        **about,
        "column": column,
        "clip": entry.id,
        "group": record["group"],
        "class_name": record["class_name"],
        "value": np.nan if value is None else float(value),
        "weight": weight,
    }
