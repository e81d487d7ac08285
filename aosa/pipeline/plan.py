"""What an experiment or one stage would do: videos, maps, forward passes, time on this machine, disk space."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from omegaconf import DictConfig, OmegaConf

from aosa.clip import Clip
from aosa.data.choose import limited
from aosa.errors import AosaError, MissingDataError, VideoError
from aosa.explainers.eb_r import EBR
from aosa.explainers.ep3d import EP3D
from aosa.metrics import Accuracy, DeletionInsertion, Metric, MinimalMask, PreservationRatio, Sanity
from aosa.metrics.sanity import stages_of
from aosa.models.base import VideoModel
from aosa.pipeline.bench.explainers import cut_of, explain_quietly
from aosa.pipeline.bench.passes import Pass, counted, replay, total
from aosa.pipeline.bench.timing import moving_texture, seconds
from aosa.pipeline.common import Job, absent, choice
from aosa.pipeline.experiment import Unit, folder, title_of
from aosa.pipeline.store import canonical

_ROOM = 4000  # bytes of a record with its times, about
_SLOW = 0.1  # a forward pass longer than this, seconds: the probe then takes one clip at a time


@dataclass
class Cost:
    """One clip's share: forward and backward passes, and seconds."""

    forward: float
    backward: float
    seconds: float


@dataclass
class Line:
    """The plan of one unit. `videos`, `missing` (maps) and `unscored` (records) are None where the data set is not
    there."""

    unit: Unit
    videos: int | None
    missing: int | None
    unscored: int | None
    explain: Cost
    evaluate: Cost
    bytes: int
    remarks: list[str]


def print_plan(config: DictConfig, all_units: list[Unit]) -> int:
    """Print the plan of an experiment; nothing is written. Returns the exit status.

    The time is that of one clip of each explainer and model, the first of the data set, cut short: of many masks, steps
    or samples only a few are taken, and the rest extrapolated. Where a data set or weights are not there, a drawn clip
    and random weights take their place, and the totals leave these rows out.
    """
    print(f"plan of {config.experiment.name}: {title_of(config)}")
    remarks = _print(all_units, config)
    print(f"  results: {folder(config)}")
    _say(remarks)
    return 0


def print_stage_plan(config: DictConfig, metrics: Mapping[str, Metric | Accuracy]) -> int:
    """The same for one data set, model and explainer: of explain without metrics, of evaluate with its own."""
    alone = any(isinstance(metric, Accuracy) for metric in metrics.values())
    unit = Unit(
        choice(config, "dataset"),
        choice(config, "model"),
        "" if alone else choice(config, "explainer"),
        overrides=[],
        common={},
        metrics=list(metrics),
        metric_options={},
        _built=dict(metrics),
        _composed={("explain",): config},
    )
    print("plan")
    _say(_print([unit], config))
    return 0


def print_clip_plan(job: Job, clip: Clip, windows: int, lacking: str) -> int:
    """The same for `windows` windows of one video, of which `clip` is one; `lacking` as of `model_of`."""
    unit = Unit("", "", job.explainer_name, [], {}, [], {}, _composed={("explain",): job.config})
    one = seconds(partial(replay, job.model, [Pass(1, None)]), job.model)
    cost = _probe(unit, job.model, clip, one)
    back = f" and {windows * cost.backward:.0f} backward" if cost.backward else ""
    print(f"plan: {windows} {'window' if windows == 1 else 'windows'} of {clip.id}")
    print(f"  forward passes: {windows * (cost.forward + 1):.0f}{back}")
    print(f"  time here: about {_hours(windows * (cost.seconds + one))}")
    _say([lacking] if lacking else [])
    return 0


def _say(remarks: list[str]) -> None:
    for remark in remarks:
        print(f"  {remark}")


def _print(all_units: list[Unit], config: DictConfig) -> list[str]:
    """Rows and totals. Returns what is to be said below."""
    print(
        f"  {'':<66}{'videos':>7} {'maps to make':>13} {'passes/clip':>18} {'s/clip':>9} {'scoring s':>10} {'hours':>8}"
    )
    lines, remarks = [], []
    for line in _lines(all_units):
        lines.append(line)
        remarks += [r for r in line.remarks if r not in remarks]
        print(_row(line), flush=True)
    known = [line for line in lines if line.videos is not None]
    passes = sum((x.missing or 0) * x.explain.forward + (x.unscored or 0) * x.evaluate.forward for x in known)
    space = sum(x.bytes * (x.missing or 0) + _ROOM * (x.unscored or 0) for x in known)
    root = Path(config.output_root).absolute()
    there = next(p for p in (root, *root.parents) if p.exists())
    apart = "" if len(known) == len(lines) else f" (without {len(lines) - len(known)} rows whose videos are not there)"
    maps, records = sum(x.missing or 0 for x in known), sum(x.unscored or 0 for x in known)
    print(f"in all{apart}: {maps} maps and {records} records to make")
    print(f"  forward passes: {passes:.3g} clips")
    print(f"  time here: about {_hours(sum(map(_seconds, known)))}")
    print(f"  disk space: at most {_size(space)}, {_size(shutil.disk_usage(there).free)} free")
    return remarks


def _lines(all_units: list[Unit]) -> Iterator[Line]:
    for unit in all_units:
        model, lacking = model_of(unit.job)
        remarks = [lacking] if lacking else []
        one = seconds(partial(replay, model, [Pass(1, None)]), model)
        videos = missing = unscored = None
        clip = None
        try:
            dataset = unit.job.dataset
            videos = len(limited(dataset.entries, unit.job.config.limit))
            remarks += [gone] if (gone := absent(dataset)) else []
            clip = dataset.load(dataset.entries[0], model.spec)
        except (MissingDataError, VideoError) as error:
            remarks.append(f"{unit.dataset}: {str(error).splitlines()[0]}")
        if videos is not None:
            missing, unscored = videos, videos * len(unit.metrics)
        if videos is not None and not lacking:
            missing, unscored = _to_do(unit)
        if not unit.explainer:
            yield Line(unit, videos, 0 if videos else missing, unscored, Cost(0, 0, 0), _views(unit, one), 0, remarks)
            continue
        explain = _probe(unit, model, clip or moving_texture(model), one)
        evaluate = [_scoring(unit.metric(name), model, explain, one) for name in unit.metrics]
        mean = Cost(*(sum(getattr(c, k) for c in evaluate) / max(1, len(evaluate)) for k in Cost.__annotations__))
        size = 4 * model.spec.frames * math.prod(model.spec.size)
        yield Line(unit, videos, missing, unscored, explain, mean, size, remarks)


def model_of(job: Job) -> tuple[VideoModel, str]:
    """The model, and what is missing where it has random weights instead."""
    try:
        return job.model, ""
    except AosaError as error:
        bare = OmegaConf.merge(job.config, {"checkpoint": "random"})
        assert isinstance(bare, DictConfig)
        names = bare.model.get("class_names")
        if isinstance(names, str) and "/" in names:  # a list beside the weights
            bare.model.class_names = None
        return Job(bare).model, str(error).splitlines()[0]


def _to_do(unit: Unit) -> tuple[int, int]:
    """How many maps and records are not there yet."""
    entries = unit.job.entries()
    records = [unit.records(name) for name in unit.metrics]
    unscored = sum(not r.file(e.id).exists() for r in records for e in entries)
    missing = sum(not unit.job.maps.file(e.id).exists() for e in entries) if unit.explainer else 0
    return missing, unscored


_probed: dict[str, Cost] = {}


def _probe(unit: Unit, model: VideoModel, clip: Clip, one: float) -> Cost:
    """One clip explained, cut short; the same explainer and network are probed once."""
    explainer = unit.job.explainer
    key = canonical([explainer.identity(), model.name, list(model.spec.size), model.spec.frames])
    if key in _probed:
        return _probed[key]
    clip.label = model.resolve_target(Clip(id=clip.id, frames=clip.frames), None)
    single = mock.patch.object(model, "batch_size", 1) if one > _SLOW else nullcontext()
    with single:
        caps: Any = OmegaConf.create({"masks": max(3, model.batch_size), "iterations": 3})
        cut = cut_of(explainer, model, clip, caps)
        with cut.at(cut.counts[0]):
            explain_quietly(explainer, model, clip)  # warms up
        times, counts = [], []
        for n in cut.counts:
            with cut.at(n), counted(model) as passes:
                times.append(seconds(lambda: explain_quietly(explainer, model, clip), model))
            counts.append(total([Pass(1, "layer")] if isinstance(explainer, EBR) else passes))
        forward, backward = (cut.line([getattr(c, k) for c in counts]) for k in ("forward", "backward"))
        _probed[key] = Cost(forward, backward, max(cut.line(times), times[-1]))
    return _probed[key]


def _scoring(metric: Metric | Accuracy, model: VideoModel, explain: Cost, one: float) -> Cost:
    """What one record costs: curves cost forward passes, the sanity check explanations, minimum ratios masks learnt."""
    if isinstance(metric, DeletionInsertion | MinimalMask):
        passes = 2 * (metric.steps + 1)
        return Cost(passes, 0, passes * one)
    if isinstance(metric, Sanity):
        stages = len(
            metric.stages or stages_of(model.network, model.arranged(moving_texture(model).tensor(model.spec)[None]))
        )
        return Cost(*(stages * getattr(explain, k) for k in Cost.__annotations__))
    if isinstance(metric, PreservationRatio):
        assert isinstance(metric.explainer, EP3D)
        more = len(metric.areas) / len(metric.explainer.areas)
        return Cost(*(more * getattr(explain, k) for k in Cost.__annotations__))
    return Cost(0, 0, 0)


def _views(unit: Unit, one: float) -> Cost:
    metric = unit.metric(unit.metrics[0])
    assert isinstance(metric, Accuracy)
    views = (metric.clips if isinstance(metric.clips, int) else 1) * metric.crops
    return Cost(views, 0, views * one)


def _seconds(line: Line) -> float:
    return (line.missing or 0) * line.explain.seconds + (line.unscored or 0) * line.evaluate.seconds


def _row(line: Line) -> str:
    unit = line.unit
    name = " / ".join([unit.dataset, unit.model, *([unit.row] if unit.row else ["accuracy"])])
    passes = f"{line.explain.forward:.0f} f" + (f" + {line.explain.backward:.0f} b" if line.explain.backward else "")
    known = line.videos is not None
    return (
        f"  {name:<66}{line.videos if known else '?':>7} {line.missing if known else '?':>13} {passes:>18} "
        f"{line.explain.seconds:>9.2f} {line.evaluate.seconds * len(unit.metrics):>10.2f} "
        f"{f'{_seconds(line) / 3600:.2f}' if known else '?':>8}"
    )


def _hours(time: float) -> str:
    return f"{time / 3600:.1f} hours" if time >= 3600 else f"{time / 60:.1f} minutes"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
