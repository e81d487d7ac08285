"""The pictures that an experiment draws beside its table: ``experiment.figures``, a list of ``{kind, …}``.

``maps``: the frames of each clip, and a row of overlays per explainer. ``masks``: each clip occluded by some of AOSA's
integrated masks. ``stages``: the maps as the weights are drawn anew (metric sanity), with Spearman's ρ and SSIM
beneath. ``times`` and ``minimal_masks``: see `aosa.report.costs`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch
from matplotlib.figure import Figure

from aosa.clip import Clip
from aosa.config import did_you_mean
from aosa.data.base import Entry
from aosa.engine.clock import TIMES
from aosa.errors import ConfigError, VideoError
from aosa.experiment.collect import Results
from aosa.experiment.grid import Experiment, Unit, by_place
from aosa.experiment.titles import titles
from aosa.explainers.base import Explainer
from aosa.metrics import MinimalMask, Sanity
from aosa.options import check_whole
from aosa.removal.boxes import BoxUnions
from aosa.report.costs import minimal_masks_figure, times_figure
from aosa.report.figures import save
from aosa.report.grids import picture_grid
from aosa.report.overlay import Pixels, overlay
from aosa.saliency import SaliencyMap
from aosa.store.maps import MapFolder
from aosa.subsample import subsample

Drawn = Iterator[tuple[str, Figure]]
_DEFAULTS = {"columns": 4, "rows": 4}


def read_figures(experiment: Experiment) -> list[dict[str, Any]]:
    """The entries of ``experiment.figures``, checked, with their defaults.

    Raises:
        ConfigError: another kind or key, a count below 1, or a kind that these explainers or metrics do not serve.
    """
    entries: list[dict[str, Any]] = []
    units = experiment.units
    for number, entry in enumerate(experiment.options["figures"]):
        where, kind = f"experiment.figures[{number}]", entry.get("kind")
        if kind not in KINDS:
            hint = did_you_mean(str(kind), list(KINDS))
            raise ConfigError(f"{where}.kind={kind}: choose one of {', '.join(KINDS)}{hint}")
        for key in entry:
            if key not in ("kind", *_DEFAULTS):
                raise ConfigError(f"{where}: there is no key {key}; its keys are kind, {', '.join(_DEFAULTS)}")
        entries.append({**_DEFAULTS, **entry})
        check_whole(where, **{key: (entries[-1][key], 1, 100) for key in _DEFAULTS})
        if kind == "masks" and not all(_has_boxes(u.job.explainer) for u in units):
            raise ConfigError(f"{where}: masks are those of AOSA, AOSA-approx and OSA; leave out the other explainers")
        if kind == "stages" and not all("sanity" in u.metrics for u in units):
            raise ConfigError(f"{where}: stages needs the metric sanity")
        if kind == "times" and not any(u.timed for u in units):
            raise ConfigError(f"{where}: times needs one of them in experiment.columns: {', '.join(TIMES)}")
        if kind == "minimal_masks" and not any(isinstance(u.metric(n), MinimalMask) for u in units for n in u.metrics):
            raise ConfigError(f"{where}: minimal_masks needs the metric minimal_mask")
    return entries


def _has_boxes(explainer: Explainer) -> bool:
    """Whether it occludes unions of boxes, which can be drawn."""
    return get_type_hints(type(explainer).prepare).get("return") is BoxUnions


def draw(experiment: Experiment, results: Results | None) -> list[Path]:
    """Draw each figure as PNG and PDF into ``<output_root>/<experiment>/figures/``; clips without a map are left out.
    Returns the PNG files."""
    written = []
    for entry in read_figures(experiment):
        for stem, figure in KINDS[entry["kind"]](entry, experiment.units, results):
            path = experiment.folder / "figures" / f"{entry['kind']}{stem}"
            # No suffix: a clip's name may hold dots.
            written.append(save(figure, f"{path}.png")[0])
    return written


def _maps(entry: Mapping[str, Any], units: list[Unit], results: Results | None) -> Drawn:
    for group, video, clip in _clips(units):
        at = _frames(clip, entry["columns"])
        rows, target = {"Frames": [clip.frames[t].numpy() for t in at]}, ""
        for unit in group:
            saliency, meta = unit.job.maps.load(video.id)
            frames = overlay(clip, saliency).frames
            rows[titles().row(unit.row)] = [frames[t] for t in at]
            target = meta["target_name"] or str(meta["target"])
        heads = [f"frame {t}" for t in at]
        title = f"{_place(group[0])}, {video.id}: {target}"
        yield _stem(group[0], video), picture_grid(rows, heads=heads, title=title)


def _masks(entry: Mapping[str, Any], units: list[Unit], results: Results | None) -> Drawn:
    for group, video, clip in _clips(units):
        spec, at = group[0].job.model.spec, _frames(clip, entry["columns"])
        colour = (torch.tensor(spec.mean) * 255).round().to(torch.uint8)
        for unit in group:
            masks = unit.job.explainer.prepare(clip, spec)
            rows = {"Frames": [clip.frames[t].numpy() for t in at]}
            for number in _moving(masks, entry["rows"]):
                hidden = masks.occluded(number, number + 1)[0]
                frames = torch.where(hidden[..., None], colour, clip.frames).numpy()
                rows[f"Mask {number}"] = [frames[t] for t in at]
            joined = unit.job.explainer.options().get("neighbours")
            title = f"{titles().row(unit.row)}{'' if joined is None else f', K = {joined}'}: {video.id}"
            figure = picture_grid(rows, heads=[f"frame {t}" for t in at], title=title)
            yield f"{_stem(unit, video)}-{unit.row}", figure


def _stages(entry: Mapping[str, Any], units: list[Unit], results: Results | None) -> Drawn:
    for group, video, clip in _clips(units):
        middle = clip.size[0] // 2
        rows: dict[str, list[Pixels]] = {}
        notes: dict[str, list[str]] = {}
        heads: list[str] = []
        for unit in group:
            metric = unit.metric("sanity")
            assert isinstance(metric, Sanity)
            record = unit.records("sanity").load(video.id)
            if record is None:
                continue
            saliency, _ = unit.job.maps.load(video.id)
            maps = [saliency, *_stage_maps(unit, metric, video, clip, record)]
            heads = ["Trained", *(str(stage) for stage in record["stages"])]
            rows[titles().row(unit.row)] = [overlay(clip, m).frames[middle] for m in maps]
            likeness = zip(record["spearman_curve"], record["ssim_curve"], strict=True)
            notes[titles().row(unit.row)] = [
                "",
                *("constant" if rho is None else f"ρ {rho:.2f}, SSIM {ssim:.2f}" for rho, ssim in likeness),
            ]
        if rows:
            title = f"{_place(group[0])}, {video.id}, frame {middle}: weights drawn anew down to"
            yield _stem(group[0], video), picture_grid(rows, heads=heads, notes=notes, title=title)


def _stage_maps(
    unit: Unit, metric: Sanity, video: Entry, clip: Clip, record: Mapping[str, Any]
) -> Iterator[SaliencyMap]:
    """The map after each stage; kept beside the records, as they cost an explanation each."""
    records = unit.records("sanity")
    kept = MapFolder(records.path / "stages", records.identity)
    names = [f"{video.id}/{number}" for number in range(len(record["stages"]))]
    if not all(kept.valid(name, record["map"]) for name in names):
        with unit.job.model.frozen():
            for name, (_, saliency) in zip(names, metric.maps(unit.job.model, clip, record["target"]), strict=True):
                kept.save(name, saliency, {"fingerprint": record["map"]})
    return (kept.load(name)[0] for name in names)


def _times(entry: Mapping[str, Any], units: list[Unit], results: Results | None) -> Drawn:
    if results is not None:
        yield "", times_figure(results.scores, titles())


def _minimal_masks(entry: Mapping[str, Any], units: list[Unit], results: Results | None) -> Drawn:
    if results is not None:
        yield "", minimal_masks_figure(results.scores, titles())


KINDS: dict[str, Callable[[Mapping[str, Any], list[Unit], Results | None], Drawn]] = {
    "maps": _maps,
    "masks": _masks,
    "stages": _stages,
    "times": _times,
    "minimal_masks": _minimal_masks,
}


def _clips(units: list[Unit]) -> Iterator[tuple[list[Unit], Entry, Clip]]:
    """The units of each data set and model, with each clip that all of them have a map of and that can be read."""
    for group in by_place(units).values():
        for video in group[0].job.entries():
            if all(u.job.maps.has(video.id) for u in group):
                try:
                    clip = group[0].job.load(video)
                except VideoError:
                    continue  # its maps are from before it broke
                yield group, video, clip


def _frames(clip: Clip, count: int) -> list[int]:
    return subsample(range(clip.size[0]), count)


def _moving(masks: BoxUnions, count: int) -> list[int]:
    """So many masks, evenly spaced over the half of them whose own tubes move farther."""
    corners = masks.boxes[masks.groups[:, 0]][..., [0, 2]]
    moved = np.abs(np.diff(corners, axis=1)).sum(axis=(1, 2))
    return subsample(np.argsort(-moved, kind="stable")[: -(-len(moved) // 2)].tolist(), count)


def _place(unit: Unit) -> str:
    return titles().place(unit.job.dataset.name, unit.job.model.name)


def _stem(unit: Unit, video: Entry) -> str:
    return f"-{unit.job.dataset.name}-{unit.job.model.name}/{video.id}"
