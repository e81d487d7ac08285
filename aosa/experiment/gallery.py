"""The clips that a report shows: the original and each explainer's overlay as videos, and where explainers disagree."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool3d

from aosa.clip import Clip
from aosa.data.base import Entry
from aosa.errors import VideoError
from aosa.experiment.collect import Results
from aosa.experiment.grid import Experiment, Unit, by_place
from aosa.experiment.titles import titles
from aosa.metrics.sanity import spearman
from aosa.report.overlay import Overlay, Pixels, comparison_sheet, overlay
from aosa.report.tables import row_key
from aosa.saliency import SaliencyMap
from aosa.subsample import subsample

FPS = 8
_CELLS = (8, 28, 28)  # T, H, W


def gallery(
    experiment: Experiment, results: Results | None, columns: Container[str], out: Path
) -> Iterator[dict[str, Any]]:
    """``experiment.gallery`` clips, shared evenly by the data sets × models, as `write_report` wants them; their
    pictures and videos are written below ``out/media``. Clips without a map of some explainer come only where there are
    too few others; what cannot be read by now is left out."""
    scores = _scores(results, columns)
    probability = {(c["dataset"], c["model"], c["clip"]): c["probability"] for c in (results.curves if results else ())}
    grids = by_place(experiment.units)
    wanted = experiment.options["gallery"]
    for number, ((dataset, model), mine) in enumerate(grids.items()):
        share = wanted // len(grids) + (number < wanted % len(grids))
        for entry in _chosen(mine, share):
            try:
                clip = mine[0].job.load(entry)
            except VideoError:
                continue  # it is among the report's failures
            about = {"dataset": dataset, "model": model, "probability": probability.get((dataset, model, entry.id))}
            own = {unit.row: scores.get((dataset, model, unit.row, entry.id), {}) for unit in mine}
            yield about | _item(_with_map(mine, entry), entry, clip, own, f"media/{dataset}/{model}/{entry.id}", out)


def disagreement(maps: Sequence[SaliencyMap]) -> float | None:
    """How far explainers differ on a clip: 1 − the mean of Spearman's rank correlation over all pairs of their maps,
    from 0 (all rank alike) to at most 2; None for fewer than two maps that are not constant.

    The maps are first averaged over the cells of a grid of at most 8×28×28: ranks of all voxels would cost seconds
    per clip.

    Args:
        maps: of one size.
    """
    pairs = [spearman(a, b) for a, b in combinations([m for m in map(_coarse, maps) if m.max() > m.min()], 2)]
    return 1 - float(np.mean(pairs)) if pairs else None


def _coarse(saliency: SaliencyMap) -> Tensor:
    frames, height, width = (min(side, cells) for side, cells in zip(saliency.shape, _CELLS, strict=True))
    return adaptive_avg_pool3d(saliency.values[None], (frames, height, width))[0]


def _scores(results: Results | None, columns: Container[str]) -> dict[tuple[str, str, str, str], dict[str, float]]:
    """(data set, model, row, clip) → column → value."""
    scores: dict[tuple[str, str, str, str], dict[str, float]] = {}
    for row in results.scores.to_dict("records") if results else ():
        if row["column"] in columns:
            key = (row["dataset"], row["model"], row_key(row["explainer"], row["variant"]), row["clip"])
            scores.setdefault(key, {})[str(row["column"])] = row["value"]
    return scores


def _with_map(units: Sequence[Unit], entry: Entry) -> list[Unit]:
    return [u for u in units if u.job.maps.has(entry.id)]


def _chosen(units: Sequence[Unit], count: int) -> list[Entry]:
    """So many evenly spaced clips that all have a map of, topped up by those that only some have."""
    by_class = sorted(units[0].job.entries(), key=lambda e: e.class_name or "")  # so that many classes are among them
    there = {entry.id: len(_with_map(units, entry)) for entry in by_class}
    whole = subsample([e for e in by_class if there[e.id] == len(units)], count)
    return whole + subsample([e for e in by_class if 0 < there[e.id] < len(units)], count - len(whole))


def _item(
    units: Sequence[Unit], entry: Entry, clip: Clip, scores: Mapping[str, dict[str, float]], stem: str, out: Path
) -> dict[str, Any]:
    maps, items = {}, []
    meta: dict[str, Any] = {}
    for unit in units:
        maps[unit.row], meta = unit.job.maps.load(entry.id)
        files = _media(overlay(clip, maps[unit.row]), f"{stem}.{unit.row}", out)
        items.append({"explainer": unit.row, **files, "scores": scores[unit.row]})
    target = meta["target_name"] or str(meta["target"])
    named = {titles().row(row): saliency for row, saliency in maps.items()}
    sheet = comparison_sheet(clip, named, title=f"{entry.id}: {target}")
    return {
        "clip": entry.id,
        "class_name": clip.class_name,
        "target_name": target,
        "size": clip.size,
        "fps": FPS,
        "disagreement": disagreement([maps[unit.row] for unit in units if unit.explainer != "random"]),
        "original": _original(clip, stem, out),
        "items": items,
        "sheet": _picture(sheet, f"{stem}.jpg", out),
    }


def _original(clip: Clip, stem: str, out: Path) -> dict[str, str]:
    """Written once however many models see just these frames."""
    name = f"media/originals/{clip.digest()[:16]}"
    if (out / f"{name}.mp4").exists():
        return {"image": f"{name}.jpg", "video": f"{name}.mp4"}
    return _media(Overlay(clip.frames.numpy()), name, out)


def _media(video: Overlay, stem: str, out: Path) -> dict[str, str]:
    """The video, and its middle frame, which stands for it until it is played."""
    video.save(out / f"{stem}.mp4", fps=FPS)
    return {"image": _picture(video.frames[len(video.frames) // 2], f"{stem}.jpg", out), "video": f"{stem}.mp4"}


def _picture(image: Pixels, name: str, out: Path) -> str:
    """JPEG, a tenth of a PNG's bytes."""
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(out / name, quality=88)
    return name
