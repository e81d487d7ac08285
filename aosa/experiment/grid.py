"""The grid of an experiment: data sets × models × explainers × metrics, with what each needs where."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, TypedDict

from omegaconf import DictConfig, OmegaConf, open_dict

from aosa.config import build, choices, compose, did_you_mean, plain
from aosa.engine.accuracy import Accuracy, accuracy_records
from aosa.engine.clock import TIMES
from aosa.engine.job import Job, Loaded, Place
from aosa.errors import ConfigError
from aosa.hints import check_type
from aosa.metrics.base import Metric
from aosa.options import as_text, check_choice, check_name, check_whole
from aosa.report.tables import row_key
from aosa.store.folders import RecordFolder, canonical, digest

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

CLIPS = ("all", "correct", "correct_by_all")
AVERAGES = ("_class", "_video")
_LONGEST = 200  # bytes of a folder's name; its files' are longer
_GROUPS = {"dataset": "dataset", "model": "models", "explainer": "explainers", "metric": "metrics"}


class PlaceOptions(TypedDict, total=False):
    """What a model needs on a data set: overrides, and options of explainers, metrics and accuracy that a grid may have
    there, as on the command line."""

    overrides: list[str]
    explainer_options: Mapping[str, list[str]]
    metric_options: Mapping[str, list[str]]
    accuracy_options: list[str]


class _Parts(PlaceOptions, total=False):
    explainers: list[str]
    metrics: list[str]
    variants: Mapping[str, Mapping[str, list[str]]]


class _Where(TypedDict):
    dataset: str
    models: list[str]


class Grid(_Where, _Parts, total=False):
    """Each model with each explainer on one data set. What it does not say, it takes from the experiment."""


class ExperimentOptions(_Parts):
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
    places: Mapping[str, Mapping[str, PlaceOptions]]
    grids: list[Grid]


@dataclass
class Part:
    """A part of an experiment at one data set × model, and what a user would type for it.

    Args:
        overrides: as on the command line.
        common: keys that the whole run decides.
        loaded: what the experiment's parts share.
    """

    dataset: str
    model: str
    overrides: list[str]
    common: Mapping[str, Any]
    loaded: Loaded = field(repr=False)
    _composed: dict[tuple[str, ...], DictConfig] = field(default_factory=dict, repr=False, kw_only=True)

    def config(self, stage: str, *more: str) -> DictConfig:
        """The config of a stage for this part, composed once."""
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

    @property
    def _choices(self) -> list[str]:
        return [f"dataset={self.dataset}", f"model={self.model}"]


@dataclass
class Site(Part):
    """One data set × model of an experiment, whose accuracy is measured."""

    @cached_property
    def place(self) -> Place:
        return Place(self.config("accuracy"), self.loaded)

    @cached_property
    def accuracy(self) -> Accuracy:
        return build(self.config("accuracy").accuracy, Accuracy)

    @cached_property
    def key(self) -> str:
        """All options of the two: what tells a site apart."""
        return _place_key(self.config("accuracy"))

    @property
    def records(self) -> RecordFolder:
        """Where the records of the accuracy lie."""
        return accuracy_records(self.place, self.accuracy)


@dataclass
class Unit(Part):
    """One data set × model × explainer of an experiment.

    Args:
        variant: tells apart the rows of one explainer with other options.
        timed: the times of the maps are scores, too.
    """

    explainer: str
    metrics: list[str]
    metric_options: Mapping[str, list[str]]
    variant: str = ""
    timed: bool = False
    _metrics: dict[str, Metric] = field(default_factory=dict, repr=False)

    def evaluate_command(self, metric: str) -> str:
        """The command line that makes the records of one of the metrics."""
        return self.command("evaluate", f"metric={metric}", *self.metric_options.get(metric, []))

    @property
    def row(self) -> str:
        """What tells the rows of a table apart: the explainer, with its variant where it has one."""
        return row_key(self.explainer, self.variant)

    @cached_property
    def job(self) -> Job:
        return Job(self.config("explain"), self.loaded)

    @property
    def place(self) -> Place:
        return self.job

    @cached_property
    def key(self) -> str:
        """All options of data set and model: units of one key work on the same clips."""
        return _place_key(self.config("explain"))

    def metric(self, name: str) -> Metric:
        """The metric of that name, built once."""
        if name not in self._metrics:
            self._metrics[name] = build(self.evaluation(name).metric, Metric)
        return self._metrics[name]

    def records(self, name: str) -> RecordFolder:
        """Where the records of the metric of that name lie."""
        return self.job.records(self.metric(name), name)

    def evaluation(self, metric: str) -> DictConfig:
        """The config of evaluate for one of the metrics."""
        return self.config("evaluate", f"metric={metric}", *self.metric_options.get(metric, []))

    @property
    def _choices(self) -> list[str]:
        return [*super()._choices, f"explainer={self.explainer}"]


def _place_key(config: DictConfig) -> str:
    return canonical([OmegaConf.to_container(config[part], resolve=True) for part in ("dataset", "model")])


@cache
def _usual(stage: str) -> DictConfig:
    return compose(stage)


class Experiment:
    """An experiment as its config has it: checked, and laid out in units and sites; nothing is loaded.

    Args:
        config: of tabulate or reproduce; ``models`` and ``explainers`` cut the experiment down.

    Raises:
        ConfigError: see `check_experiment`; or a model or explainer that is not part of it.
    """

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.options = check_experiment(config)
        self._loaded = Loaded()
        self._grids = whole_grids(self.options)
        for key in ("models", "explainers"):
            known = _named(self._grids, key)
            for name in config.get(key) or []:
                if name not in known:
                    raise ConfigError(
                        f"{key}: {name} is not part of {self.name}{did_you_mean(name, known)} "
                        f"(it has {', '.join(known)})"
                    )

    @property
    def name(self) -> str:
        return self.options["name"]

    @property
    def title(self) -> str:
        """What its table and report are called."""
        return self.options["title"] or self.name

    @cached_property
    def units(self) -> list[Unit]:
        """Each data set × model × explainer × variant, in the order of the grids."""
        common = {key: self.config[key] for key in _COMMON}
        timed = not set(TIMES).isdisjoint(self.options["columns"] or [])
        chosen = self.config.get("explainers")
        return [
            Unit(
                grid["dataset"],
                grid["models"][0],
                [*grid["overrides"], *grid["explainer_options"].get(explainer, []), *more],
                common,
                self._loaded,
                explainer,
                grid["metrics"],
                grid["metric_options"],
                variant,
                timed,
            )
            for grid in self._chosen_grids()
            for explainer in grid["explainers"]
            if explainer in (chosen or [explainer])
            for variant, more in grid["variants"].get(explainer, {"": []}).items()
        ]

    @cached_property
    def sites(self) -> list[Site]:
        """Each data set × model once; two of the same names where their options differ."""
        common = {key: self.config[key] for key in _COMMON}
        found: dict[str, Site] = {}
        for grid in self._chosen_grids():
            overrides = [o for o in grid["overrides"] if o.lstrip("+~").split(".")[0] in ("dataset", "model")]
            overrides += grid["accuracy_options"]
            site = Site(grid["dataset"], grid["models"][0], overrides, common, self._loaded)
            found.setdefault(site.key, site)
        return list(found.values())

    def _chosen_grids(self) -> Iterator[Grid]:
        for grid in self._grids:
            (model,) = grid["models"]
            if model in (self.config.get("models") or [model]):
                yield grid

    @property
    def has_accuracy(self) -> bool:
        """Whether the accuracy of its models is among the columns of its table."""
        return not set(Accuracy.columns).isdisjoint(self.options["columns"] or [])

    @property
    def explainers(self) -> list[str]:
        """The rows of its table, but for variants; accuracy has no explainer's name."""
        return [*([""] if self.has_accuracy else []), *dict.fromkeys(unit.explainer for unit in self.units)]

    @cached_property
    def columns(self) -> dict[str, str]:
        """Each score that its metrics give, and which direction of it is better, see `columns_of`."""
        return columns_of(self.units) | (Accuracy.columns if self.has_accuracy else {})

    @property
    def folder(self) -> Path:
        """Where its tables and report lie: ``<output_root>/<name>``, and for a part of it (``models``, ``explainers``,
        ``limit``, ``clips``) a folder beside that which says so (``demo-aosa+osa-limit3``): a part never takes the
        place of the whole."""
        cuts, config = [], self.config
        for key in ("models", "explainers"):
            known = _named(self._grids, key)
            kept = [name for name in known if name in (config.get(key) or known)]
            if kept != known:
                named = "+".join(kept)
                cuts.append(named if len(named) <= 80 else f"{len(kept)}of{len(known)}{key}_{digest(kept)}")
        if config.limit is not None:
            cuts.append(f"limit{config.limit}")
        if config.get("clips", "all") != "all":
            cuts.append(config.clips)
        name = "-".join([self.name, *cuts])
        if len(name.encode()) > _LONGEST:
            name = f"{self.name}-part_{digest(cuts)}"
        return Path(config.output_root) / name


def columns_of(units: Sequence[Unit]) -> dict[str, str]:
    """Each score of the units' metrics and which direction of it is better. A ratio of sums (S-PT) comes in two further
    averages: ``<column>_class`` over classes and ``<column>_video`` over videos."""
    metrics = [unit.metric(name) for unit in units for name in unit.metrics]
    columns = {column: direction for metric in metrics for column, direction in metric.columns.items()}
    derived = {
        f"{column}{average}": columns[column] for metric in metrics for column in metric.weights for average in AVERAGES
    }
    times = dict.fromkeys(TIMES, "lower") if any(unit.timed for unit in units) else {}
    return {**columns, **derived, **times}


def by_place(units: Iterable[Unit]) -> dict[tuple[str, str], list[Unit]]:
    """(data set, model) → its units, in their order."""
    places: dict[tuple[str, str], list[Unit]] = {}
    for unit in units:
        places.setdefault((unit.job.dataset.name, unit.job.model.name), []).append(unit)
    return places


def whole_grids(experiment: ExperimentOptions) -> list[Grid]:
    """The grids of an experiment, one for each model, with all keys: what a grid does not say itself, it takes from the
    experiment, and from the place (data set × model).

    Its explainers and metrics, and the variants of an explainer, take the place of the experiment's. Overrides and
    options come one after another, the place's, the experiment's, the grid's; of the same key the last one counts.
    """
    return [_whole(experiment, grid, model) for grid in experiment["grids"] for model in grid["models"]]


def _whole(experiment: ExperimentOptions, grid: Grid, model: str) -> Grid:
    place = experiment["places"].get(grid["dataset"], {}).get(model, PlaceOptions())
    levels: tuple[PlaceOptions, ...] = (place, experiment, grid)
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
        "accuracy_options": [o for level in levels for o in level.get("accuracy_options", [])],
        "variants": {name: variants[name] for name in explainers if name in variants},
    }


def check_experiment(config: DictConfig) -> ExperimentOptions:
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
        if not wholes[0]["explainers"] and set(Accuracy.columns).isdisjoint(experiment["columns"] or []):
            raise ConfigError(f"{where}: give explainers, or experiment.columns=[top1, top5] for the accuracy alone")
        if not wholes[0]["explainers"] and wholes[0]["metrics"]:
            raise ConfigError(f"{where}: metrics need maps, and the grid has no explainers")
        _check_parts(where, grid, wholes[0]["explainers"], wholes[0]["metrics"])
        rows = {row for whole in wholes for row in _rows(whole)}
        for row in rows & filled:
            dataset, model, explainer, variant, metric = row
            raise ConfigError(
                f"{where}: {metric} of {row_key(explainer, variant)}, {model} on {dataset} is in an "
                f"earlier grid, too; leave out one, or make variants of them"
            )
        filled |= rows
    known = [grid for read in (experiment, *map(_read, bases_of(config))) for grid in whole_grids(read)]
    _check_parts("experiment", experiment, _named(known, "explainers"), _named(known, "metrics"))
    return experiment


def _read(config: DictConfig) -> ExperimentOptions:
    found = plain(config.experiment)
    check_type("experiment", found, ExperimentOptions)
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


def _check_places(places: Mapping[str, Mapping[str, PlaceOptions]]) -> None:
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


def _check_parts(where: str, parts: PlaceOptions, explainers: Sequence[str], metrics: Sequence[str]) -> None:
    """Refuse what an experiment, a grid or a place cannot say of explainers and metrics.

    Args:
        explainers, metrics: those that options and variants may be given of.
    """
    given: _Parts = parts  # type: ignore[assignment]  # a place has fewer keys
    for key in ("explainers", "metrics"):
        _check_names(f"{where}.{key}", given.get(key), empty=True)  # type: ignore[arg-type]
    for name in given.get("explainers", []):
        check_name(f"{where}.explainers", name)
    lists = [("overrides", given.get("overrides", [])), ("accuracy_options", given.get("accuracy_options", []))]
    for key, known in (("explainer_options", explainers), ("variants", explainers), ("metric_options", metrics)):
        for name, listed in given.get(key, {}).items():  # type: ignore[attr-defined]
            _check_known(f"{where}.{key}.{name}", name, "metric" if known is metrics else "explainer", known)
            if key != "variants":
                lists.append((f"{key}.{name}", listed))
    for explainer, variants in given.get("variants", {}).items():
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
    for override in given.get("overrides", []):
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
        for explainer in grid["explainers"]
        for variant in grid["variants"].get(explainer, {"": []})
        for metric in grid["metrics"]
    }


def _named(grids: Sequence[Grid], key: str) -> list[str]:
    """The models, explainers or metrics of all these whole grids."""
    return list(dict.fromkeys(name for grid in grids for name in grid[key]))  # type: ignore[literal-required]
