"""An experiment: a grid of data sets × models × explainers × metrics, and the table it fills."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf, open_dict

from aosa.config import build, compose, did_you_mean
from aosa.data.base import Entry
from aosa.errors import ConfigError, StoreError
from aosa.metrics import Accuracy
from aosa.metrics.base import Metric
from aosa.options import check_choice
from aosa.pipeline.accuracy import records_folder
from aosa.pipeline.clock import TIMES
from aosa.pipeline.common import Job
from aosa.pipeline.store import RecordFolder, digest
from aosa.report.claims import Claim, Verdict, read_claims, verdicts
from aosa.report.tables import Table, TableSpec, make_table, paper_values, row_key

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
_AVERAGES = ("_class", "_video")


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
            metric = build(self.evaluation(name).metric)
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
        ConfigError: no experiment, a model or explainer that is not part of it, or options for an explainer that is
            not part of its grid.
    """
    experiment = config.experiment
    grids = OmegaConf.to_container(experiment.grids, resolve=True)
    assert isinstance(grids, list)
    for key in ("models", "explainers"):
        known = list(dict.fromkeys(name for grid in grids for name in grid[key]))
        for name in config.get(key) or []:
            if name not in known:
                raise ConfigError(
                    f"{key}: {name} is not part of {experiment.name}{did_you_mean(name, known)} "
                    f"(it has {', '.join(known)})"
                )
    common = {key: config[key] for key in _COMMON}
    timed = not set(TIMES).isdisjoint(experiment.get("columns") or [])
    for grid in grids:
        for key in ("explainer_options", "variants"):
            for name in grid.get(key) or {}:
                if name not in grid["explainers"]:
                    hint = did_you_mean(name, grid["explainers"])
                    raise ConfigError(f"experiment.grids: {key}.{name} is none of the grid's explainers{hint}")
        for model in grid["models"]:
            for explainer in grid["explainers"] or [""]:
                if model not in (config.get("models") or [model]) or explainer not in (
                    config.get("explainers") or [explainer]
                ):
                    continue
                options = (grid.get("explainer_options") or {}).get(explainer, [])
                for variant, more in ((grid.get("variants") or {}).get(explainer) or {"": []}).items():
                    yield Unit(
                        grid["dataset"],
                        model,
                        explainer,
                        [*(grid.get("overrides") or []), *options, *more],
                        common,
                        grid["metrics"],
                        grid.get("metric_options") or {},
                        variant,
                        timed and bool(explainer),
                    )


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
    for key in ("models", "explainers"):
        known = list(dict.fromkeys(name for grid in config.experiment.grids for name in grid[key]))
        kept = [name for name in known if name in (config.get(key) or known)]
        if kept != known:
            named = "+".join(kept)
            cuts.append(named if len(named) <= 80 else f"{len(kept)}of{len(known)}{key}_{digest(kept)}")
    if config.limit is not None:
        cuts.append(f"limit{config.limit}")
    if config.get("clips", "all") != "all":
        cuts.append(config.clips)
    return Path(config.output_root) / "-".join([config.experiment.name, *cuts])


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
    check_choice("", clips=(clips, ("all", "correct", "correct_by_all")))
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
    wanted = config.experiment.get("columns") or [c for c in columns if not c.endswith(_AVERAGES)]
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
    settings = experiment.get("settings") or ""
    if config.clips != "all":
        who = "the model classifies" if config.clips == "correct" else "all models classify"
        settings = f"{settings} Only clips that {who} correctly.".strip()
    return TableSpec(
        name=experiment.name,
        title=experiment.title,
        columns=columns,
        explainers=explainers,
        settings=settings,
        statistic=experiment.get("statistic", "mean"),
        decimals=experiment.get("decimals", 3),
    )


def table_of(config: DictConfig, results: Results, explainers: list[str]) -> Table:
    """The experiment's table: paper | ours ± interval | n."""
    return make_table(results.scores, spec_of(config, shown(config, results.columns), explainers), printed_of(config))


def claims_of(config: DictConfig, columns: Mapping[str, str]) -> list[Claim]:
    """The claims of ``experiment.claims``, checked against the columns shown and the experiment's names.

    Raises:
        ConfigError: see `read_claims`.
    """
    experiment = OmegaConf.to_container(config.experiment, resolve=True)
    assert isinstance(experiment, dict)
    printed = printed_of(config)
    known = {
        "column": list(columns),
        "explainer": [
            *(
                row_key(explainer, variant)
                for grid in experiment["grids"]
                for explainer in grid["explainers"] or [""]
                for variant in (grid.get("variants") or {}).get(explainer) or [""]
            ),
            *([] if printed is None else map(row_key, printed["explainer"], printed["variant"])),
        ],
        "dataset": [grid["dataset"] for grid in experiment["grids"]],
        "model": [model for grid in experiment["grids"] for model in grid["models"]],
    }
    return read_claims(experiment.get("claims") or [], known)


def verdicts_of(config: DictConfig, table: Table) -> list[Verdict]:
    """What the table says on each claim of the experiment, for each of the claim's data sets and models there are."""
    return verdicts(claims_of(config, table.spec.columns), table)


def printed_of(config: DictConfig) -> pd.DataFrame | None:
    """The values that the experiment's paper prints; None without a paper."""
    experiment = config.experiment
    return paper_values(experiment.paper, experiment.table) if experiment.get("paper") else None
