"""Stage sweep: one score per setting of an explainer's options, gathered in one table and one plot."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, flag_override

from aosa.config import build, did_you_mean
from aosa.engine.job import Job, choice
from aosa.engine.work import MapTask, RecordTask, work
from aosa.environment import commit
from aosa.errors import AosaError, ConfigError, StoreError
from aosa.experiment.plan import print_stage_plan
from aosa.experiment.publish import publish_maps, publish_records
from aosa.experiment.titles import titles
from aosa.files import is_temporary, remove_leftovers, write_atomic
from aosa.metrics.base import Metric
from aosa.options import check_name
from aosa.report.statistics import bootstrap_interval
from aosa.report.sweeps import Setting, draw, to_csv, to_markdown
from aosa.schema import NUMBER, POSITIVE, TEXT, WHOLE, Kind, Schema, mapping, optional
from aosa.stages.keys import check_common
from aosa.store.folders import RecordFolder, canonical, digest
from aosa.store.shareable import as_cell, hidden
from aosa.tracking.tracker import track

# Where and how fast a setting runs is none of its options.
_NOT_OPTIONS = ("name", "column", "data_root", "output_root", "device", "batch_size", "threads", "tracking", "dry_run")

_OF_CLIP = (NUMBER, POSITIVE, TEXT)
# Of a setting's file: a `Setting`, and the exit status of its stages.
_SCHEMA: Schema = {
    "options": Kind("overrides", lambda v: isinstance(v, dict)),
    "column": TEXT,
    "direction": Kind("higher or lower", lambda v: v in ("higher", "lower")),
    "score": NUMBER,
    "low": optional(NUMBER),
    "high": optional(NUMBER),
    "clips": mapping(
        Kind(
            "value, weight and group",
            lambda v: isinstance(v, list) and [k.fits(x) for k, x in zip(_OF_CLIP, v, strict=False)] == [True] * 3,
        )
    ),
    "about": mapping(TEXT),
    "status": WHOLE,
}

statuses: list[int] = []  # of the settings, where a launcher ran them in processes of their own


def run(config: DictConfig) -> float:
    """One setting: make its maps and records (what is there is kept), and keep its score.

    The score is the mean of the metric's ``column`` over the videos; it lies with its videos in
    ``<output_root>/sweeps/<name>/settings/<digest>.json``. ``dry_run`` prints the setting's plan and makes nothing.

    Returns:
        the score, turned so that more is better (a column of which less is better is negated): what Optuna maximises.

    Raises:
        ConfigError: a column that the metric lacks.
        AosaError: no video has a score.
    """
    check_common(config)
    options = _options()
    if config.dry_run:
        print(canonical(options))
        print_stage_plan(config, {choice(config, "metric"): _metric(config)})
        return 0.0
    folder = RecordFolder(sweep_folder(config) / "settings", {}, _SCHEMA)
    clip = digest(options)
    try:
        setting, status = _setting(config, options)
    except (Exception, KeyboardInterrupt) as error:
        folder.fail(clip, "sweep", str(as_cell(str(error))) or type(error).__name__)
        raise
    folder.save(clip, {**vars(setting), "status": status})
    folder.clear_failure(clip)
    return setting.score if setting.direction == "higher" else -setting.score


def sweep_folder(config: DictConfig) -> Path:
    """Where a sweep's settings, table and plot lie.

    Raises:
        ConfigError: a name that is none of a folder.
    """
    check_name("name", config.name)
    return Path(config.output_root) / "sweeps" / config.name


def _options() -> dict[str, Any]:
    """The overrides of this setting, but for those that change no result."""
    parser = OverridesParser.create()
    parsed = parser.parse_overrides(list(HydraConfig.get().overrides.task))
    return {o.key_or_group: o.value() for o in parsed if o.key_or_group.split(".")[0] not in _NOT_OPTIONS}


def _setting(config: DictConfig, options: dict[str, Any]) -> tuple[Setting, int]:
    metric, name = _metric(config), choice(config, "metric")
    job = Job(config)
    job.explainer.check(job.model)
    metric.check(job.model, job.dataset)
    entries, tasks = job.entries(), [MapTask(job), RecordTask(job, metric, name, config)]
    with track(config, "sweep", job.title, str(config.name)) as tracker:
        status = work(job, entries, tasks, job.title, partial(tracker.log, "sweep"))
        publish_maps(tracker, job, entries)
        publish_records(tracker, name, metric.columns, metric.weights, job.records(metric, name), entries)
    folder = job.records(metric, name)
    weight = metric.weights.get(config.column)
    clips: dict[str, Sequence[Any]] = {}
    for entry in entries:
        record = folder.load(entry.id)
        stale = record is None or folder.failure(entry.id) or record["map"] != job.maps.digest(entry.id)
        if record is not None and not stale and record[config.column] is not None:
            share = float(record[weight]) if weight else 1.0
            clips[entry.id] = (float(record[config.column]), share, str(record["group"] or entry.id))
    if not sum(share for _, share, _ in clips.values()):
        raise AosaError(f"no video has a score in {config.column}; reasons in {folder.path / 'failures.csv'}")
    values, weights, groups = zip(*clips.values(), strict=True)
    low, high = bootstrap_interval(values, groups, weights)
    setting = Setting(
        options=hidden(options, config),
        column=str(config.column),
        direction=metric.columns[config.column],
        score=float(np.average(values, weights=weights)),
        low=None if math.isnan(low) else low,
        high=None if math.isnan(high) else high,
        clips=clips,
        about={"explainer": job.explainer_name, "model": job.model.name, "dataset": job.dataset.name, "metric": name,
               "commit": commit(), "records": folder.path.relative_to(config.output_root).as_posix()},
    )  # fmt: skip
    print(f"{canonical(options)}: {config.column} {setting.score:.4f}, n = {len(clips)}")
    return setting, status


def _metric(config: DictConfig) -> Metric:
    metric, name = build(config.metric, Metric), choice(config, "metric")
    if config.column not in metric.columns:
        known = list(metric.columns)
        raise ConfigError(
            f"column={config.column}: {name} has {', '.join(known)}{did_you_mean(str(config.column), known)}"
        )
    return metric


class Gather(Callback):
    """Hydra calls it in the process that started the sweep: before the first setting and after the last."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Forget failures of an earlier run: its settings are tried again; and tell Optuna what it cannot know."""
        sweeper = config.hydra.sweeper
        if str(sweeper._target_).endswith(".OptunaSweeper"):
            with flag_override(config.hydra, ["struct", "readonly"], [False, False]):
                sweeper.direction = "maximize"  # see `run`
                sweeper.max_failure_rate = 1.0  # a setting that fails is told at the end; the others go on
                if "seed" in sweeper.sampler and sweeper.sampler.seed is None:
                    sweeper.sampler.seed = config.seed  # the same settings again after a kill: those done are read
        statuses.clear()
        with suppress(ConfigError):  # a bad name is told by the settings
            for note in (sweep_folder(config) / "settings").glob("*.failure"):
                note.unlink(missing_ok=True)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Write the table and the plot."""
        if config.dry_run is True:
            return
        try:
            out = sweep_folder(config)
        except ConfigError:  # told by the settings
            return
        try:
            statuses.extend(gather(out))
        except (AosaError, OSError) as error:  # of which Hydra would make a warning
            print(f"error: {error}", file=sys.stderr)
            statuses.append(1)


def gather(out: Path) -> list[int]:
    """Write ``sweep.md``, ``sweep.csv``, ``sweep.png`` and ``sweep.pdf`` of all settings in a sweep's folder.

    Returns:
        the exit status of each setting.
    """
    folder = RecordFolder(out / "settings", {}, _SCHEMA)
    remove_leftovers(folder.path)
    there = (p.stem for p in sorted(folder.path.glob("*.json")) if not is_temporary(p))
    settings, found = [], []
    for name in there:
        try:
            record = folder.load(name)
        except StoreError as error:  # the others are told of all the same
            print(f"error: {error}", file=sys.stderr)
            found.append(1)
            continue
        if record is not None:
            found.append(record["status"])
            settings.append(Setting(**{key: record[key] for key in Setting.__annotations__}))
    failures = folder.failures()
    for note in failures:
        print(f"failed setting: {note['reason']}", file=sys.stderr)
    if settings:
        text = to_markdown(settings, titles())
        write_atomic(out / "sweep.md", text)
        write_atomic(out / "sweep.csv", to_csv(settings))
        draw(settings, out / "sweep", titles())
        print(f"\n{text}\nsweep: {out}/ sweep.md, .csv, .png, .pdf")
    return [*found, *(1 for _ in failures)]
