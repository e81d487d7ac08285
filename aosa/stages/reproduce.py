"""Stage reproduce: everything an experiment needs, from videos to the report."""

from __future__ import annotations

from functools import partial
from typing import Any

from omegaconf import DictConfig

from aosa.engine.job import describe_missing
from aosa.engine.work import MapTask, RecordTask, Task, work
from aosa.environment import environment
from aosa.errors import ConfigError
from aosa.experiment.accuracy import gate
from aosa.experiment.figures import draw, read_figures
from aosa.experiment.grid import Experiment, Unit
from aosa.experiment.plan import print_plan
from aosa.experiment.publish import publish_maps, publish_records, publish_table
from aosa.experiment.report import report
from aosa.experiment.table import claims, table_columns
from aosa.files import check_writable
from aosa.metrics import DeletionInsertion
from aosa.options import check_choice, check_range
from aosa.stages.keys import check_common
from aosa.stages.tabulate import BREAKDOWNS, tabulate
from aosa.tracking.tracker import dashboard, track


def run(config: DictConfig) -> int:
    """Print the accuracy of each model on each data set, then explain, evaluate, tabulate, draw and report; what is
    there already is kept. ``dry_run`` prints the plan instead and makes nothing. Returns the exit status.

    The work goes clip by clip: all maps and records of a clip are made before the next one is read, so a table that is
    made meanwhile (``scripts/tabulate.py``) has as many clips of each row.

    Raises:
        ConfigError: an unknown key or choice, or accuracy_margin out of range.
    """
    check_common(config)
    check_choice("", engine=(config.engine, ("local",)))
    check_choice("", explain_cell=(config.explain_cell, (None,)), breakdown=(config.breakdown, BREAKDOWNS))
    check_range("", accuracy_margin=(config.accuracy_margin, 0, 1))
    dashboard(config)  # refused before any work, too
    experiment = Experiment(config)
    _check(experiment)
    if config.dry_run:
        return print_plan(experiment)
    _check_places(experiment)
    check_writable(config.output_root)
    status = max((gate(site.place, site.accuracy, config.accuracy_margin) for site in experiment.sites), default=0)
    for units in _by_clips(experiment.units):
        status = max(status, _work(config, units))
    for unit in experiment.units:
        _publish(config, unit)
    tabulated = None
    if experiment.columns:
        tabulated = tabulate(experiment)
        with track(config, "table", experiment.name, experiment.name) as tracker:
            publish_table(tracker, tabulated.table)
        print(f"\n{tabulated.to_markdown()}")
    pictures = draw(experiment, tabulated.results if tabulated else None)
    for picture in pictures:
        print(f"figure: {picture}")
    print(f"report: {report(experiment, tabulated, pictures)}")
    return status


def _check(experiment: Experiment) -> None:
    """Refuse, before hours of work and not in the midst of them, what a later stage could not use: options, figures,
    columns, claims."""
    for unit in experiment.units:
        unit.job.explainer  # noqa: B018  built
    for site in experiment.sites:
        site.accuracy  # noqa: B018
    read_figures(experiment)
    options, clips = experiment.options, experiment.config.clips
    if experiment.columns:
        claims(experiment, list(table_columns(experiment)))
    elif options["columns"] or options["claims"]:
        raise ConfigError("experiment.columns and experiment.claims need metrics, and no grid has any")
    metrics = [unit.metric(name) for unit in experiment.units for name in unit.metrics]
    if clips != "all" and not any(isinstance(metric, DeletionInsertion) for metric in metrics):
        raise ConfigError(f"clips={clips} needs the metric deletion_insertion, which says what is right")


def _check_places(experiment: Experiment) -> None:
    """Refuse pairs of explainer and model, or of metric and data set, that are not defined, and classes that a model
    lacks. Reads lists and weights, no clip."""
    for unit in experiment.units:
        unit.job.explainer.check(unit.job.model)
        for metric in map(unit.metric, unit.metrics):
            metric.check(unit.job.model, unit.job.dataset)
        unit.job.entries()


def _by_clips(units: list[Unit]) -> list[list[Unit]]:
    """The units that work on the same clips, together."""
    found: dict[str, list[Unit]] = {}
    for unit in units:
        found.setdefault(unit.key, []).append(unit)
    return list(found.values())


def _work(config: DictConfig, units: list[Unit]) -> int:
    """All maps and records of one place."""
    place, tasks = units[0].place, list[Task]()
    for unit in units:
        print(unit.command("explain"))
        tasks.append(MapTask(unit.job))
        tasks += [RecordTask(unit.job, unit.metric(n), n, unit.evaluation(n)) for n in unit.metrics]
    if missing := describe_missing(place.dataset):
        print(missing)
    title = f"{place.model.name} / {place.dataset.name}"
    about = environment(place.model)
    with track(config, "progress", title, config.experiment.name, environment=about) as tracker:
        return work(place, place.videos(), tasks, title, partial(tracker.log, "progress"))


def _publish(config: DictConfig, unit: Unit) -> None:
    """A run of its own for each unit, variants too; it is read from the store."""
    job, entries = unit.job, unit.job.entries()
    title = f"{unit.row} / {job.model.name} / {job.dataset.name}"
    about: dict[str, Any] = {"maps": job.maps.path.name, "environment": environment(job.model)}
    with track(config, "reproduce", title, config.experiment.name, unit.config("explain"), **about) as tracker:
        publish_maps(tracker, job, entries)
        for name in unit.metrics:
            metric = unit.metric(name)
            publish_records(tracker, name, metric.columns, metric.weights, unit.records(name), entries)
