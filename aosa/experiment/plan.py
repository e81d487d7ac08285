"""What an experiment or one stage would do: videos, maps, forward passes, time on this machine, disk space."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from omegaconf import DictConfig, OmegaConf

from aosa.bench.passes import Pass, replay
from aosa.bench.timing import moving_texture, seconds
from aosa.clip import Clip
from aosa.config import plain
from aosa.engine.job import Job, Loaded, Place, choice, describe_missing
from aosa.errors import AosaError, MissingDataError, VideoError
from aosa.experiment.accuracy import known_entries
from aosa.experiment.grid import Experiment, Site, Unit
from aosa.explainers.base import Explainer, Passes
from aosa.metrics.base import Metric
from aosa.models.base import VideoModel

_ROOM = 4000  # bytes of a record with its times, about


class Rate(NamedTuple):
    """Seconds of one clip's forward pass, and of its backward pass."""

    forward: float
    backward: float

    def seconds(self, passes: Passes) -> float:
        return self.forward * passes.forward + self.backward * passes.backward


@dataclass
class Cost:
    """One clip's share: passes, and seconds."""

    passes: Passes
    seconds: float


NOTHING = Cost(Passes(0), 0)


@dataclass
class Line:
    """The plan of one unit, or of the accuracy at one site. `videos`, `missing` (maps) and `unscored` (records) are
    None where the data set is not there."""

    part: Unit | Site
    videos: int | None
    missing: int | None
    unscored: int | None
    explain: Cost | None
    evaluate: Cost | None
    bytes: int
    remarks: list[str]


def print_plan(experiment: Experiment) -> int:
    """Print the plan of an experiment; nothing is written. Returns the exit status.

    Passes are what explainers and metrics say of themselves for the first clip of the data set. The time is that of the
    passes, by the network's own rate for a single clip, and of what needs no network (flow, tubes, super-voxels), which
    is done once for that clip. A model makes three passes for the plan, and no map is made. Where a data set or weights
    are not there, a drawn clip and random weights take their place, and the totals leave these rows out.
    """
    print(f"plan of {experiment.name}: {experiment.title}")
    remarks = _print([*experiment.sites, *experiment.units], experiment.config)
    print(f"  results: {experiment.folder}")
    _print_remarks(remarks)
    return 0


def print_stage_plan(config: DictConfig, metrics: Mapping[str, Metric]) -> int:
    """The same for one data set, model and explainer: of explain without metrics, of evaluate with its own."""
    unit = Unit(
        choice(config, "dataset"),
        choice(config, "model"),
        overrides=[],
        common={},
        loaded=Loaded(),
        explainer=choice(config, "explainer"),
        metrics=list(metrics),
        metric_options={},
        _metrics=dict(metrics),
        _composed={("explain",): config},
    )
    return _print_part(unit, config)


def print_accuracy_plan(config: DictConfig) -> int:
    """The same for the accuracy of one model on one data set."""
    names = (choice(config, "dataset"), choice(config, "model"))
    site = Site(*names, overrides=[], common={}, loaded=Loaded(), _composed={("accuracy",): config})
    return _print_part(site, config)


def _print_part(part: Unit | Site, config: DictConfig) -> int:
    print("plan")
    _print_remarks(_print([part], config))
    return 0


def print_clip_plan(job: Job, clip: Clip, windows: int, lacking: str) -> int:
    """The same for `windows` windows of one video, of which `clip` is one; `lacking` as of `model_of`."""
    rate = measure_rate(job.model)
    cost = explaining(job.explainer, job.model, clip, rate)
    print(f"plan: {windows} {'window' if windows == 1 else 'windows'} of {clip.id}")
    if cost is None:
        print(f"  {job.explainer_name} does not say what it costs (`passes`)")
    else:
        back = f" and {windows * cost.passes.backward:.0f} backward" if cost.passes.backward else ""
        print(f"  forward passes: {windows * (cost.passes.forward + 1):.0f}{back}")
        print(f"  time here: about {_hours(windows * (cost.seconds + rate.forward))}")
    _print_remarks([lacking] if lacking else [])
    return 0


def _print_remarks(remarks: list[str]) -> None:
    for remark in remarks:
        print(f"  {remark}")


def _print(parts: Sequence[Unit | Site], config: DictConfig) -> list[str]:
    """Rows and totals. Returns what is to be said below."""
    print(
        f"  {'':<66}{'videos':>7} {'maps to make':>13} {'passes/clip':>18} {'s/clip':>9} {'scoring s':>10} {'hours':>8}"
    )
    lines, remarks = [], []
    for line in _lines(parts):
        lines.append(line)
        remarks += [r for r in line.remarks if r not in remarks]
        print(_row(line), flush=True)
    known = [line for line in lines if line.videos is not None]
    passes = sum(
        (n or 0) * cost.passes.forward
        for x in known
        for n, cost in ((x.missing, x.explain), (x.unscored, x.evaluate))
        if cost is not None
    )
    space = sum(x.bytes * (x.missing or 0) + _ROOM * (x.unscored or 0) for x in known)
    root = Path(config.output_root).absolute()
    there = next(p for p in (root, *root.parents) if p.exists())
    silent = [x for x in lines if x.explain is None or x.evaluate is None]
    if silent:
        remarks.append(f"{len(silent)} rows with a ?: the explainer or a metric does not say what it costs (`passes`)")
    apart = "" if len(known) == len(lines) else f" (without {len(lines) - len(known)} rows whose videos are not there)"
    maps, records = sum(x.missing or 0 for x in known), sum(x.unscored or 0 for x in known)
    print(f"in all{apart}: {maps} maps and {records} records to make")
    print(f"  forward passes: {passes:.3g} clips")
    print(f"  time here: about {_hours(sum(map(_seconds, known)))}")
    print(f"  disk space: at most {_size(space)}, {_size(shutil.disk_usage(there).free)} free")
    return remarks


def _lines(parts: Sequence[Unit | Site]) -> Iterator[Line]:
    rated: dict[str, tuple[VideoModel, str, Rate]] = {}
    for part in parts:
        place = part.place
        key = repr(plain(place.config.model))
        if key not in rated:
            model, lacking = model_of(place)
            rated[key] = model, lacking, measure_rate(model)
        model, lacking, rate = rated[key]
        remarks = [lacking] if lacking else []
        videos, clip = None, None
        try:
            dataset = place.dataset
            videos = len(place.videos())
            remarks += [gone] if (gone := describe_missing(dataset)) else []
            clip = dataset.load(dataset.entries[0], model.spec)
        except (MissingDataError, VideoError) as error:
            remarks.append(f"{part.dataset}: {str(error).splitlines()[0]}")
        there = videos is not None and not lacking
        if isinstance(part, Site):
            unscored = _to_classify(part) if there else videos
            yield Line(part, videos, 0 if videos else videos, unscored, NOTHING, _views(part, rate), 0, remarks)
            continue
        missing, unscored = _to_do(part) if there else (videos, None if videos is None else videos * len(part.metrics))
        clip = clip or moving_texture(model)
        explain = explaining(part.job.explainer, model, clip, rate)
        evaluate = _scoring(part, model, clip, rate)
        size = 4 * model.spec.frames * math.prod(model.spec.size)
        yield Line(part, videos, missing, unscored, explain, evaluate, size, remarks)


def measure_rate(model: VideoModel) -> Rate:
    """From two forward passes of one clip, the first of which warms up, and one there and back."""
    replay(model, [Pass(1, None)])
    forward = seconds(partial(replay, model, [Pass(1, None)]), model)
    return Rate(forward, max(0.0, seconds(partial(replay, model, [Pass(1, "clip")]), model) - forward))


def explaining(explainer: Explainer, model: VideoModel, clip: Clip, rate: Rate) -> Cost | None:
    """What a map costs by what its explainer says; what needs no network is timed. None where it says nothing.

    Raises:
        ConfigError: the explainer is not defined for the model.
    """
    explainer.check(model)
    passes = explainer.passes(model, clip)
    if passes is None:
        return None
    return Cost(passes, rate.seconds(passes) + seconds(partial(explainer.prepare, clip, model.spec), model))


def model_of(place: Place) -> tuple[VideoModel, str]:
    """The model, and what is missing where it has random weights instead."""
    try:
        return place.model, ""
    except AosaError as error:
        bare = OmegaConf.merge(place.config, {"checkpoint": "random"})
        assert isinstance(bare, DictConfig)
        names = bare.model.get("class_names")
        if isinstance(names, str) and "/" in names:  # a list beside the weights
            bare.model.class_names = None
        return Place(bare).model, str(error).splitlines()[0]


def _to_classify(site: Site) -> int:
    """How many records of the accuracy are not there yet."""
    return sum(not site.records.file(entry.id).exists() for entry in known_entries(site.place))


def _to_do(unit: Unit) -> tuple[int, int]:
    """How many maps and records are not there yet."""
    entries = unit.job.entries()
    records = [unit.records(name) for name in unit.metrics]
    unscored = sum(not r.file(e.id).exists() for r in records for e in entries)
    missing = sum(not unit.job.maps.file(e.id).exists() for e in entries)
    return missing, unscored


def _scoring(unit: Unit, model: VideoModel, clip: Clip, rate: Rate) -> Cost | None:
    """The mean cost of a record of the unit's metrics; None where one of them says nothing."""
    found = []
    for name in unit.metrics:
        passes = unit.metric(name).passes(model, clip)
        if passes is None:
            return None
        found.append(passes)
    mean = Passes(*(sum(p[i] for p in found) / max(1, len(found)) for i in (0, 1)))
    return Cost(mean, rate.seconds(mean))


def _views(site: Site, rate: Rate) -> Cost:
    clips = site.accuracy.clips
    passes = Passes((clips if isinstance(clips, int) else 1) * site.accuracy.crops)
    return Cost(passes, rate.seconds(passes))


def _seconds(line: Line) -> float:
    """Of all that is to be made; what nobody says counts as nothing."""
    return sum((n or 0) * c.seconds for n, c in ((line.missing, line.explain), (line.unscored, line.evaluate)) if c)


def _row(line: Line) -> str:
    part, explain, evaluate = line.part, line.explain, line.evaluate
    records, row = (1, "accuracy") if isinstance(part, Site) else (len(part.metrics), part.row)
    name = " / ".join([part.dataset, part.model, row])
    passes = "?" if explain is None else f"{explain.passes.forward:.0f} f"
    if explain and explain.passes.backward:
        passes += f" + {explain.passes.backward:.0f} b"
    known = line.videos is not None
    said = explain is not None and evaluate is not None
    return (
        f"  {name:<66}{line.videos if known else '?':>7} {line.missing if known else '?':>13} {passes:>18} "
        f"{f'{explain.seconds:.2f}' if explain else '?':>9} "
        f"{f'{evaluate.seconds * records:.2f}' if evaluate else '?':>10} "
        f"{f'{_seconds(line) / 3600:.2f}' if known and said else '?':>8}"
    )


def _hours(time: float) -> str:
    return f"{time / 3600:.1f} hours" if time >= 3600 else f"{time / 60:.1f} minutes"


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
