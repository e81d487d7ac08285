"""An experiment: a grid of data sets × models × explainers × metrics, and the table it fills."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, TypedDict, TypeVar

import numpy as np
import pandas as pd
from omegaconf import DictConfig, open_dict

from aosa.config import build, choices, compose, did_you_mean, plain
from aosa.data.base import Entry
from aosa.errors import ConfigError, StoreError
from aosa.hints import check_type
from aosa.metrics import Accuracy
from aosa.metrics.base import Metric
from aosa.options import as_text, check_choice, check_name, check_whole
from aosa.pipeline.accuracy import records_folder
from aosa.pipeline.clock import TIMES
from aosa.pipeline.common import Job
from aosa.pipeline.store import RecordFolder, digest
from aosa.report.claims import Claim, Verdict, claims_here, read_claims, verdicts
from aosa.report.tables import Table, TableSpec, make_table, paper_values, row_key
from aosa.titles import titles

_COMMON = (
    "data_root",
    "output_root",
    "checkpoint",
    "device",
    "precision",
    "batch_size",
    "seed",
    "threads",
    "limit",
)


_T = TypeVar("_T")
CLIPS = ("all", "correct", "correct_by_all")
_AVERAGES = ("_class", "_video")
_LONGEST = 200  # bytes of a folder's name; its files' are longer
_GROUPS = {"dataset": "dataset", "model": "models", "explainer": "explainers", "metric": "metrics"}


class Place(TypedDict, total=False):
    """What a model needs on a data set: overrides, and options of explainers and metrics that a grid may have there, as
    on the command line."""

    overrides: list[str]
    explainer_options: Mapping[str, list[str]]
    metric_options: Mapping[str, list[str]]


class _Parts(Place, total=False):
    explainers: list[str]
    metrics: list[str]
    variants: Mapping[str, Mapping[str, list[str]]]


class _Where(TypedDict):
    dataset: str
    models: list[str]


class Grid(_Where, _Parts, total=False):
    """Each model with each explainer on one data set. What it does not say, it takes from the experiment."""


class Experiment(_Parts):
    """``config.experiment``; what each key means and its default stand in ``configs/defaults/experiment.yaml``."""

    name: str
    based_on: str | None
    title: str | None
    paper: str | None
    table: str | None
    columns: list[str] | None
    statistic: str
    decimals: int
    settings: str
    gallery: int
    figures: list[dict[str, Any]]
    claims: list[dict[str, Any]]
    places: Mapping[str, Mapping[str, Place]]
    grids: list[Grid]


@dataclass
class Unit:
    """One data set × model × explainer of an experiment: its jobs, and what a user would type for them.

    `variant` tells apart the rows of one explainer with other options; without an explainer it is the model's accuracy
    that is measured. `timed` says that the times of the maps are scores, too.
    """

    dataset: str
    model: str
    explainer: str
    overrides: list[str]
    common: dict[str, Any]
    metrics: list[str]
    metric_options: dict[str, list[str]]
    variant: str = ""
    timed: bool = False
    _built: dict[str, Metric | Accuracy] = field(default_factory=dict, repr=False)
    _composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict, repr=False)

    def config(self, stage: str, *more: str) -> DictConfig:
        """The config of a stage for this unit, composed once."""
        if (stage, *more) not in self._composed:
            self._composed[stage, *more] = self._compose(stage, *more)
        return self._composed[stage, *more]

    def _compose(self, stage: str, *more: str) -> DictConfig:
        config = compose(stage, [*self._choices, *more, *self.overrides])
        for key, value in self.common.items():
            config[key] = value
        with open_dict(config):
            config.choices = dict(c.split("=", 1) for c in (*self._choices, *more) if "." not in c.split("=")[0])
        return config

    def command(self, stage: str, *more: str) -> str:
        """The command line that does the same."""
        usual = _usual(stage)
        changed = [f"{k}={'null' if v is None else v}" for k, v in self.common.items() if v != usual[k]]
        return shlex.join(["python", f"scripts/{stage}.py", *self._choices, *more, *self.overrides, *changed])

    def evaluate_command(self, metric: str) -> str:
        """The command line that makes the records of one of the metrics."""
        return self.command("evaluate", f"metric={metric}", *self.metric_options.get(metric, []))

    @property
    def row(self) -> str:
        """What tells the rows of a table apart: the explainer, with its variant where it has one."""
        return row_key(self.explainer, self.variant)

    @cached_property
    def job(self) -> Job:
        return Job(self.config("explain"))

    def metric(self, name: str) -> Metric | Accuracy:
        """The metric of that name, built once.

        Raises:
            ConfigError: accuracy, which is no metric of maps, in a grid with explainers; or another one in a grid
                without.
        """
        if name not in self._built:
            metric = build(self.evaluation(name).metric, (Metric, Accuracy))
            if isinstance(metric, Accuracy) == bool(self.explainer):
                raise ConfigError(
                    f"experiment.grids: {name} is no metric of maps; reproduce prints it of itself"
                    if self.explainer
                    else f"experiment.grids: {name} needs maps, and the grid has no explainers"
                )
            self._built[name] = metric
        return self._built[name]

    def records(self, name: str) -> RecordFolder:
        """Where the records of the metric of that name lie."""
        metric = self.metric(name)
        if isinstance(metric, Accuracy):
            return records_folder(self.job, metric, name)
        return self.job.records(metric, name)

    def evaluation(self, metric: str) -> DictConfig:
        """The config of evaluate for one of the metrics."""
        return self.config("evaluate", f"metric={metric}", *self.metric_options.get(metric, []))

    @property
    def _choices(self) -> list[str]:
        explainer = [f"explainer={self.explainer}"] if self.explainer else []
        return [f"dataset={self.dataset}", f"model={self.model}", *explainer]


@cache
def _usual(stage: str) -> DictConfig:
    return compose(stage)


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


def units(config: DictConfig) -> Iterator[Unit]:
    """The units of ``config.experiment``, cut down by ``models`` and ``explainers``.

    Raises:
        ConfigError: see `check_experiment`; or a model or explainer that is not part of it.
    """
    experiment = check_experiment(config)
    grids = whole_grids(experiment)
    for key in ("models", "explainers"):
        known = _named(grids, key)
        for name in config.get(key) or []:
            if name not in known:
                raise ConfigError(
                    f"{key}: {name} is not part of {experiment['name']}{did_you_mean(name, known)} "
                    f"(it has {', '.join(known)})"
                )
    common = {key: config[key] for key in _COMMON}
    timed = not set(TIMES).isdisjoint(experiment["columns"] or [])
    for grid in grids:
        (model,) = grid["models"]
        for explainer in grid["explainers"] or [""]:
            if model not in (config.get("models") or [model]) or explainer not in (
                config.get("explainers") or [explainer]
            ):
                continue
            options = grid["explainer_options"].get(explainer, [])
            for variant, more in grid["variants"].get(explainer, {"": []}).items():
                yield Unit(
                    grid["dataset"],
                    model,
                    explainer,
                    [*grid["overrides"], *options, *more],
                    common,
                    grid["metrics"],
                    dict(grid["metric_options"]),
                    variant,
                    timed and bool(explainer),
                )


def whole_grids(experiment: Experiment) -> list[Grid]:
    """The grids of an experiment, one for each model, with all keys: what a grid does not say itself, it takes from the
    experiment, and from the place (data set × model).

    Its explainers and metrics, and the variants of an explainer, take the place of the experiment's. Overrides and
    options come one after another, the place's, the experiment's, the grid's; of the same key the last one counts.
    """
    return [_whole(experiment, grid, model) for grid in experiment["grids"] for model in grid["models"]]


def _whole(experiment: Experiment, grid: Grid, model: str) -> Grid:
    place = experiment["places"].get(grid["dataset"], {}).get(model, Place())
    levels: tuple[Place, ...] = (place, experiment, grid)
    explainers = grid.get("explainers", experiment["explainers"])
    metrics = grid.get("metrics", experiment["metrics"])
    variants = {**experiment["variants"], **grid.get("variants", {})}
    return {
        "dataset": grid["dataset"],
        "models": [model],
        "explainers": explainers,
        "metrics": metrics,
        "overrides": [o for level in levels for o in level.get("overrides", [])],
        "explainer_options": {
            name: [o for level in levels for o in level.get("explainer_options", {}).get(name, [])]
            for name in explainers
        },
        "metric_options": {
            name: [o for level in levels for o in level.get("metric_options", {}).get(name, [])] for name in metrics
        },
        "variants": {name: variants[name] for name in explainers if name in variants},
    }


def check_experiment(config: DictConfig) -> Experiment:
    """``config.experiment`` as plain Python, checked as far as it can be without composing its parts.

    Raises:
        ConfigError: a key that is missing, unknown, of another type or out of range; a name that cannot be one of a
            folder; names given twice; options of an explainer or metric that is not part of its grid; an override that
            another key of the grid, or the whole run, decides; or a row that two grids fill with the same metric.
    """
    experiment = _read(config)
    check_name("experiment.name", experiment["name"])
    check_whole("experiment", gallery=(experiment["gallery"], 0, 1000), decimals=(experiment["decimals"], 0, 12))
    check_choice("experiment", statistic=(experiment["statistic"], ("mean", "median")))
    check_choice("", clips=(config.clips, CLIPS))
    if experiment["table"] is not None and experiment["paper"] is None:
        raise ConfigError(f"experiment.table={experiment['table']}: it is one of experiment.paper, which is null")
    _check_names("experiment.columns", experiment["columns"])
    _check_places(experiment["places"])
    if not experiment["grids"]:
        raise ConfigError("experiment.grids=[]: give at least one grid, {dataset: …, models: […], …}")
    filled: set[tuple[str, ...]] = set()
    for number, grid in enumerate(experiment["grids"]):
        where = f"experiment.grids[{number}]"
        _check_names(f"{where}.models", grid["models"])
        for key, names in (("dataset", [grid["dataset"]]), ("models", grid["models"])):
            for name in names:
                check_name(f"{where}.{key}", name)
        wholes = [_whole(experiment, grid, model) for model in grid["models"]]
        if not wholes[0]["explainers"] and not wholes[0]["metrics"]:
            raise ConfigError(f"{where}: give explainers, or metrics: [accuracy]")
        _check_parts(where, grid, wholes[0]["explainers"], wholes[0]["metrics"])
        rows = {row for whole in wholes for row in _rows(whole)}
        for row in rows & filled:
            dataset, model, explainer, variant, metric = row
            raise ConfigError(
                f"{where}: {metric} of {row_key(explainer, variant) or 'the model'}, {model} on {dataset} is in an "
                f"earlier grid, too; leave out one, or make variants of them"
            )
        filled |= rows
    known = [grid for read in (experiment, *map(_read, bases_of(config))) for grid in whole_grids(read)]
    _check_parts("experiment", experiment, _named(known, "explainers"), _named(known, "metrics"))
    return experiment


def _read(config: DictConfig) -> Experiment:
    found = plain(config.experiment)
    check_type("experiment", found, Experiment)
    return found  # type: ignore[no-any-return]


def bases_of(config: DictConfig) -> list[DictConfig]:
    """The configs of the experiment that this one is based on, of the one that that is based on, and so on.

    Raises:
        ConfigError: there is no such experiment, or one is based on itself.
    """
    found: list[DictConfig] = []
    names = [config.experiment.name]
    while (name := (found or [config])[-1].experiment.based_on) is not None:
        check_name("experiment.based_on", name)
        if name in names:
            raise ConfigError(f"experiment.based_on={name}: an experiment cannot be based on itself")
        names.append(name)
        try:
            found.append(compose("tabulate", [f"experiment={name}"]))
        except ConfigError as error:
            raise ConfigError(f"experiment.based_on={name}: {error}") from None
    return found


def _check_places(places: Mapping[str, Mapping[str, Place]]) -> None:
    """Refuse a name that no config has: a place that is never used would go unseen."""
    if not places:
        return
    known = {group: choices(group) for group in _GROUPS}
    for dataset, models in places.items():
        _check_known(f"experiment.places.{dataset}", dataset, "dataset", known["dataset"])
        for model, place in models.items():
            where = f"experiment.places.{dataset}.{model}"
            _check_known(where, model, "model", known["model"])
            _check_parts(where, place, known["explainer"], known["metric"])


def _check_known(where: str, name: str, kind: str, known: Sequence[str]) -> None:
    if name not in known:
        raise ConfigError(
            f"{where}: {name} is none of the {kind}s{did_you_mean(name, known)} (there are {', '.join(known)})"
        )


def _check_parts(where: str, parts: Place, explainers: Sequence[str], metrics: Sequence[str]) -> None:
    """What an experiment, a grid or a place says of explainers and metrics.

    Args:
        explainers, metrics: those that options and variants may be given of.
    """
    told: _Parts = parts  # type: ignore[assignment]  # a place has fewer keys
    for key in ("explainers", "metrics"):
        _check_names(f"{where}.{key}", told.get(key), empty=True)  # type: ignore[arg-type]
    for name in told.get("explainers", []):
        check_name(f"{where}.explainers", name)
    lists = [("overrides", told.get("overrides", []))]
    for key, known in (("explainer_options", explainers), ("variants", explainers), ("metric_options", metrics)):
        for name, listed in told.get(key, {}).items():  # type: ignore[attr-defined]
            _check_known(f"{where}.{key}.{name}", name, "metric" if known is metrics else "explainer", known)
            if key != "variants":
                lists.append((f"{key}.{name}", listed))
    for explainer, variants in told.get("variants", {}).items():
        if not variants:
            raise ConfigError(f"{where}.variants.{explainer} is empty: leave it out, or name its variants")
        for variant, listed in variants.items():
            if variant:
                check_name(f"{where}.variants.{explainer}", variant)
            lists.append((f"variants.{explainer}.{variant}", listed))
    for key, listed in lists:
        for override in listed:
            if not re.match(r"[+~]{0,2}[\w.@/]+=|~", override):
                raise ConfigError(f"{where}.{key}: {override!r} is no override, such as dataset.size=30")
    for override in told.get("overrides", []):
        key = override.partition("=")[0].lstrip("+~")
        if key in _GROUPS:
            raise ConfigError(f"{where}.overrides: {override}: choose it by experiment.grids, {_GROUPS[key]}")
        if key in _COMMON:
            raise ConfigError(f"{where}.overrides: {override} is for the whole run: give it on the command line")


def _check_names(key: str, names: Sequence[str] | None, empty: bool = False) -> None:
    if names is not None and (len(set(names)) < len(names) or not (names or empty)):
        raise ConfigError(f"{key}={as_text(list(names))}: name {'each once' if names else 'at least one'}")


def _rows(grid: Grid) -> set[tuple[str, ...]]:
    """What a whole grid fills: data set, model, explainer, variant, metric."""
    return {
        (grid["dataset"], model, explainer, variant, metric)
        for model in grid["models"]
        for explainer in grid["explainers"] or [""]
        for variant in grid["variants"].get(explainer, {"": []})
        for metric in grid["metrics"]
    }


def _named(grids: Sequence[Grid], key: str) -> list[str]:
    """The models, explainers or metrics of all these whole grids."""
    return list(dict.fromkeys(name for grid in grids for name in grid[key]))  # type: ignore[literal-required]


def title_of(config: DictConfig) -> str:
    """What an experiment's table and report are called."""
    return str(config.experiment.title or config.experiment.name)


def by_place(all_units: Iterable[Unit]) -> dict[tuple[str, str], list[Unit]]:
    """(data set, model) → its units, in their order."""
    places: dict[tuple[str, str], list[Unit]] = {}
    for unit in all_units:
        places.setdefault((unit.job.dataset.name, unit.job.model.name), []).append(unit)
    return places


def folder(config: DictConfig) -> Path:
    """Where an experiment's tables and report lie: ``<output_root>/<name>``, and for a part of it (``models``,
    ``explainers``, ``limit``, ``clips``) a folder beside that which says so (``demo-aosa+osa-limit3``): a part never
    takes the place of the whole."""
    cuts = []
    grids = whole_grids(_read(config))
    for key in ("models", "explainers"):
        known = _named(grids, key)
        kept = [name for name in known if name in (config.get(key) or known)]
        if kept != known:
            named = "+".join(kept)
            cuts.append(named if len(named) <= 80 else f"{len(kept)}of{len(known)}{key}_{digest(kept)}")
    if config.limit is not None:
        cuts.append(f"limit{config.limit}")
    if config.get("clips", "all") != "all":
        cuts.append(config.clips)
    name = "-".join([config.experiment.name, *cuts])
    if len(name.encode()) > _LONGEST:
        name = f"{config.experiment.name}-part_{digest(cuts)}"
    return Path(config.output_root) / name


def collect(all_units: list[Unit], clips: str = "all") -> Results:
    """Read the records of all units. Clips without a record of their present map, and those that failed since, are
    left out: the table's n tells.

    Args:
        clips: ``all``, or only those that the model classifies ``correct`` (AOSA's papers do not say which), or all
            the experiment's models do: ``correct_by_all`` (REVEX).

    Raises:
        ConfigError: another choice.
        StoreError: maps, records or times that are there and not what was written; each is named, with what makes it
            again.
    """
    check_choice("", clips=(clips, CLIPS))
    results = _collect(all_units)
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


def _collect(all_units: list[Unit]) -> Results:
    rows: list[dict[str, Any]] = []
    curves: list[dict[str, Any]] = []
    columns = columns_of(all_units)
    correct: dict[tuple[str, str, str], bool] = {}
    sound = _Damages()
    for unit in all_units:
        entries = unit.job.entries()
        if not unit.explainer:
            rows += _accuracy_rows(unit, entries, sound)
            continue
        present = {e.id: sound(unit.command("explain"), partial(_map_of, unit, e)) for e in entries}
        if unit.timed:
            rows += _time_rows(unit, [e for e in entries if present[e.id]], sound)
        for name in unit.metrics:
            metric = unit.metric(name)
            assert isinstance(metric, Metric)
            for entry in entries:
                record = sound(unit.evaluate_command(name), partial(_record_of, unit, name, entry))
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
    frame = pd.DataFrame(
        rows,
        columns=[
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
        ],
    )
    for column in dict.fromkeys(c for m in _metrics(all_units) if isinstance(m, Metric) for c in m.weights):
        frame = pd.concat([frame, *_averages(frame, column)], ignore_index=True)
    return Results(frame, curves, columns)


def columns_of(all_units: Sequence[Unit]) -> dict[str, str]:
    """Each score of the units' metrics and which direction of it is better, see `Results`."""
    metrics = list(_metrics(all_units))
    columns = {column: direction for metric in metrics for column, direction in metric.columns.items()}
    derived = {
        f"{column}{average}": columns[column]
        for metric in metrics
        if isinstance(metric, Metric)
        for column in metric.weights
        for average in _AVERAGES
    }
    times = dict.fromkeys(TIMES, "lower") if any(unit.timed for unit in all_units) else {}
    return {**columns, **derived, **times}


def _metrics(all_units: Iterable[Unit]) -> Iterator[Metric | Accuracy]:
    return (unit.metric(name) for unit in all_units for name in unit.metrics)


def shown(config: DictConfig, columns: Mapping[str, str]) -> dict[str, str]:
    """Those of the columns that the experiment's table shows.

    Raises:
        ConfigError: one that the experiment names and no metric gives.
    """
    wanted = config.experiment.columns or [c for c in columns if not c.endswith(_AVERAGES)]
    for column in wanted:
        if column not in columns:
            raise ConfigError(
                f"experiment.columns: the metrics of {config.experiment.name} give no {column}"
                f"{did_you_mean(column, list(columns))} (they give {', '.join(columns)})"
            )
    return {column: columns[column] for column in wanted}


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


def _record_of(unit: Unit, metric: str, entry: Entry) -> dict[str, Any] | None:
    """A clip's record; None where there is none, or it failed since."""
    records = unit.records(metric)
    return None if records.failure(entry.id) else records.load(entry.id)


def _accuracy_rows(unit: Unit, entries: Sequence[Entry], sound: _Damages) -> Iterator[dict[str, Any]]:
    for name in unit.metrics:
        for entry in entries:
            record = sound(unit.evaluate_command(name), partial(_record_of, unit, name, entry))
            if record is not None:
                yield from (_row(unit, entry, record, column, {}) for column in unit.metric(name).columns)


def _time_rows(unit: Unit, entries: Sequence[Entry], sound: _Damages) -> Iterator[dict[str, Any]]:
    for entry in entries:
        times = sound(unit.command("explain"), partial(unit.job.maps.times, entry.id)) or {}
        parts = times.get("parts") or {}
        about = {"group": entry.group, "class_name": entry.class_name}
        yield from (_row(unit, entry, {**about, c: parts.get(c)}, c, {}) for c in TIMES)


def _row(
    unit: Unit, entry: Entry, record: Mapping[str, Any], column: str, weights: Mapping[str, str]
) -> dict[str, Any]:
    value = record[column]
    return {
        "dataset": unit.job.dataset.name,
        "model": unit.job.model.name,
        "explainer": unit.explainer,
        "variant": unit.variant,
        "column": column,
        "clip": entry.id,
        "group": record["group"],
        "class_name": record["class_name"],
        "value": np.nan if value is None else float(value),
        "weight": float(record[weights[column]]) if column in weights else 1.0,
    }


def spec_of(config: DictConfig, columns: Mapping[str, str], explainers: Sequence[str]) -> TableSpec:
    """A table of these columns and rows, as the experiment has it."""
    experiment = config.experiment
    settings = experiment.settings
    if config.clips != "all":
        who = "the model classifies" if config.clips == "correct" else "all models classify"
        settings = f"{settings} Only clips that {who} correctly.".strip()
    return TableSpec(
        name=experiment.name,
        title=title_of(config),
        columns=columns,
        explainers=explainers,
        settings=settings,
        statistic=experiment.statistic,
        decimals=experiment.decimals,
        titles=titles(),
    )


def table_of(config: DictConfig, results: Results, explainers: list[str]) -> Table:
    """The experiment's table: paper | ours ± interval | n."""
    return make_table(results.scores, spec_of(config, shown(config, results.columns), explainers), printed_of(config))


def claims_of(config: DictConfig, columns: Mapping[str, str]) -> list[Claim]:
    """The claims of ``experiment.claims``, checked against the columns shown and the experiment's names. Of one that is
    based on another, claims may name what the other has, too: see `claims_here`.

    Raises:
        ConfigError: see `read_claims`.
    """
    claims, known = plain(config.experiment.claims), _known(config, list(columns))
    bases = bases_of(config) if claims else []
    if not bases:
        return read_claims(claims, known)
    everywhere = {kind: list(names) for kind, names in known.items()}
    for base in bases:
        for kind, names in _known(base, base.experiment.columns or list(columns_of(list(units(base))))).items():
            everywhere[kind] += names
    own, first = ({(g["dataset"], *g["models"]) for g in whole_grids(_read(c))} for c in (config, bases[-1]))
    return claims_here(read_claims(claims, everywhere), known, stand_in=own.isdisjoint(first))


def _known(config: DictConfig, columns: list[str]) -> dict[str, list[str]]:
    """What claims may name."""
    grids, printed = whole_grids(_read(config)), printed_of(config)
    rows = [
        row_key(explainer, variant)
        for grid in grids
        for explainer in grid["explainers"] or [""]
        for variant in grid["variants"].get(explainer, [""])
    ]
    return {
        "column": columns,
        "explainer": [*rows, *([] if printed is None else map(row_key, printed["explainer"], printed["variant"]))],
        "dataset": [grid["dataset"] for grid in grids],
        "model": _named(grids, "models"),
    }


def verdicts_of(config: DictConfig, table: Table) -> list[Verdict]:
    """What the table says on each claim of the experiment, for each of the claim's data sets and models there are."""
    return verdicts(claims_of(config, table.spec.columns), table)


def printed_of(config: DictConfig) -> pd.DataFrame | None:
    """The values that the experiment's paper prints; None without a paper."""
    experiment = config.experiment
    return paper_values(experiment.paper, experiment.table) if experiment.paper else None
