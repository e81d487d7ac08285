"""Stage reproduce: everything an experiment needs, from videos to the report."""

from __future__ import annotations

from omegaconf import DictConfig, OmegaConf

from aosa.config import build
from aosa.errors import ConfigError
from aosa.files import check_writable
from aosa.metrics import Accuracy, DeletionInsertion, Metric
from aosa.options import check_choice, check_range
from aosa.pipeline import evaluate, explain
from aosa.pipeline.accuracy import gate
from aosa.pipeline.common import check_common, environment
from aosa.pipeline.experiment import Unit, claims_of, columns_of, shown, spec_of, units
from aosa.pipeline.experiment_report import report
from aosa.pipeline.figures import draw, figures_of
from aosa.pipeline.plan import print_plan
from aosa.pipeline.store import canonical
from aosa.pipeline.tabulate import BREAKDOWNS, tabulate
from aosa.pipeline.tracking import dashboard, track, track_table


def run(config: DictConfig) -> int:
    """Print the accuracy of each model on each data set, then explain, evaluate, tabulate, draw and report; what is
    there already is kept. ``dry_run`` prints the plan instead and makes nothing. Returns the exit status.

    Raises:
        ConfigError: an unknown key or choice, or accuracy_margin out of range.
    """
    check_common(config)
    check_choice("", engine=(config.engine, ("local",)))
    check_choice("", explain_cell=(config.explain_cell, (None,)), breakdown=(config.breakdown, BREAKDOWNS))
    check_range("", accuracy_margin=(config.accuracy_margin, 0, 1))
    dashboard(config)  # refused before any work, too
    all_units = list(units(config))
    columns = _check(config, all_units)
    if config.dry_run:
        return print_plan(config, all_units)
    _check_places(all_units)
    check_writable(config.output_root)
    status = _accuracies(all_units, config.accuracy_margin)
    explained = [unit for unit in all_units if unit.explainer]
    for number, unit in enumerate(explained, 1):
        print(f"[{number}/{len(explained)}] {unit.command('explain')}")
        mine, group = unit.config("explain"), config.experiment.name
        about = {"maps": unit.job.maps.path.name, "environment": environment(unit.job.model)}
        title = f"{unit.row} / {unit.job.model.name} / {unit.job.dataset.name}"  # variants are runs of their own
        with track(config, "reproduce", title, group, mine, **about) as tracker:
            status = max(status, explain.run(mine, tracker))
            for name in unit.metrics:
                if any(unit.job.maps.clips()):
                    status = max(status, evaluate.run(unit.evaluation(name), tracker))
    tabulated = None
    if columns:
        tabulated = tabulate(config, all_units)
        with track(config, "table", config.experiment.name, config.experiment.name) as tracker:
            track_table(tracker, tabulated.table)
        print(f"\n{tabulated.to_markdown()}")
    pictures = draw(config, all_units, tabulated.results if tabulated else None)
    for picture in pictures:
        print(f"figure: {picture}")
    print(f"report: {report(config, all_units, tabulated, pictures)}")
    return status


def _check(config: DictConfig, all_units: list[Unit]) -> dict[str, str]:
    """Refuse, before hours of work and not in the midst of them, what a later stage could not use: options, figures,
    columns, claims. Returns the columns of the metrics."""
    for unit in all_units:
        if unit.explainer:
            unit.job.explainer  # noqa: B018  built
        unit.evaluation("accuracy")  # of the accuracy gate
    figures_of(config, all_units)
    columns = columns_of(all_units)
    if columns:
        claims_of(config, spec_of(config, shown(config, columns), []).columns)
    elif config.experiment.columns or config.experiment.claims:
        raise ConfigError("experiment.columns and experiment.claims need metrics, and no grid has any")
    metrics = [unit.metric(name) for unit in all_units for name in unit.metrics]
    if config.clips != "all" and not any(isinstance(metric, DeletionInsertion) for metric in metrics):
        raise ConfigError(f"clips={config.clips} needs the metric deletion_insertion, which says what is right")
    return columns


def _check_places(all_units: list[Unit]) -> None:
    """Refuse pairs of explainer and model, or of metric and data set, that are not defined, and classes that a model
    lacks. Reads lists and weights, no clip."""
    for unit in all_units:
        if unit.explainer:
            unit.job.explainer.check(unit.job.model)
        for metric in map(unit.metric, unit.metrics):
            if isinstance(metric, Metric):
                metric.check(unit.job.model, unit.job.dataset)
        unit.job.entries()


def _accuracies(all_units: list[Unit], margin: float) -> int:
    """The accuracy gate, once for each data set and model: both are told apart by all their options."""
    status, seen = 0, set()
    for unit in all_units:
        parts = (unit.job.config[part] for part in ("dataset", "model"))
        key = canonical([OmegaConf.to_container(part, resolve=True) for part in parts])
        if key not in seen:
            seen.add(key)
            config = unit.evaluation("accuracy")
            status = max(status, gate(config, build(config.metric, Accuracy), margin))
    return status
