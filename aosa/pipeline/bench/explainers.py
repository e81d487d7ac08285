"""Each explainer at its papers' settings, against the passes it makes of the network, repeated bare.

Long runs are cut: of the masks only the first so many meet the network, or the optimiser takes only so many steps.
Two cuts give a straight line, which is followed to the full number: seconds, passes and floor alike. All else (the
masks' description, the regression, the map) is done in full.
"""

from __future__ import annotations

import contextlib
import statistics
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from aosa.clip import Clip
from aosa.config import build, compose, quoted
from aosa.explainers import AOSA, EP3D, OSA, AOSAApprox, Explainer, IntegratedGradients, Removal, SmoothGrad
from aosa.explainers.eb_r import EBR
from aosa.models.base import VideoModel
from aosa.pipeline.bench.passes import Pass, Total, counted, replay, total
from aosa.pipeline.bench.timing import moving_texture, seconds, warm
from aosa.removal.forward import Masks, masked_scores

_MASKED = ("aosa", "osa", "removal")  # the files of aosa.explainers in which masks meet the network
_LIMITS: tuple[tuple[type, float], ...] = ((AOSAApprox, 1.5), (AOSA, 1.15), (OSA, 1.15), (Removal, 1.15), (EP3D, 1.3))
_STEPS: tuple[tuple[type, str], ...] = (
    (EP3D, "iterations"),
    (SmoothGrad, "samples"),
    (IntegratedGradients, "steps"),
)


def rows(config: DictConfig, model: VideoModel, clip: Clip) -> Iterator[dict[str, Any]]:
    """One row per line of ``explainers``: an explainer's config name, then overrides."""
    composed = {}
    for text in config.explainers:
        name, *overrides = text.split()
        composed[text] = composed_with(config, f"explainer={name}", *overrides)
    # All are built before the first is timed: what is misspelt is to fail at once.
    built: dict[str, Explainer] = {text: build(c.explainer) for text, c in composed.items()}
    for text, explainer in built.items():
        own, own_clip = model, clip
        if " model=" in text:
            own = build(composed[text].model)
            own_clip = moving_texture(own)
        explainer.check(own)
        yield {"explainer": text, "model": own.name, **measure(explainer, own, own_clip, config)}


def composed_with(config: DictConfig, *overrides: str) -> DictConfig:
    """A model and an explainer as the other stages would compose them, with random weights."""
    common = {key: config[key] for key in ("device", "precision", "batch_size", "data_root", "seed")}
    values = {k: quoted(v) if isinstance(v, str) else v for k, v in common.items()}
    return compose("explain", ["checkpoint=random", *(f"{k}={v}" for k, v in values.items()), *overrides])


def measure(explainer: Explainer, model: VideoModel, clip: Clip, config: DictConfig) -> dict[str, Any]:
    """Seconds of an explainer and of its floor, and its passes, at its own settings.

    Returns:
        seconds (with flow, tracking or segmentation, told apart as setup), forwards (seconds as a multiple of one
        clip's forward pass), floor (seconds), ratio (without setup, over the floor), limit, passes, measured (what of
        the full count was run).
    """
    setup = without_setup(explainer, model, clip)
    cut = cut_of(explainer, model, clip, config)
    with cut.at(1):
        explain_quietly(explainer, model, clip)  # warms up
    one = warm([lambda: replay(model, [Pass(1, None)])], model, 3)[0]
    rounds = [_round(explainer, model, clip, cut) for _ in range(config.explainer_repeats if cut.full > 1 else 3)]
    times, floors = (
        [statistics.median(found) for found in zip(*(r[what] for r in rounds), strict=True)] for what in (0, 1)
    )
    inner, floor = cut.line(times), cut.line(floors)
    passes = Total(*(round(cut.line(counts)) for counts in zip(*rounds[0][2], strict=True)))
    limit = next((limit for kind, limit in _LIMITS if isinstance(explainer, kind)), None)
    return {
        "seconds": setup + inner,
        "setup": setup,
        "forwards": (setup + inner) / one,
        "passes": passes._asdict(),
        "floor": floor,
        "ratio": inner / floor,
        "limit": limit,
        "measured": "in full" if cut.full in cut.counts else f"{cut.counts[-1]} of {cut.full} {cut.unit}",
    }


@dataclass
class Cut:
    """How a long run is cut: it takes `full` of something, and inside ``at(n)`` only n. It is run at each of `counts`:
    two, or one where there is nothing to cut."""

    full: int
    counts: tuple[int, ...]
    unit: str
    at: Callable[[int], AbstractContextManager[Any]]

    def line(self, values: Sequence[float]) -> float:
        """The straight line through what was found at `counts`, at the full number."""
        if len(values) == 1:
            return values[0]
        (few, many), (low, high) = self.counts, values
        return low + (high - low) * (self.full - few) / (many - few)


def cut_of(explainer: Explainer, model: VideoModel, clip: Clip, config: DictConfig) -> Cut:
    """How this explainer is cut; those of one pass or so are not."""
    if isinstance(explainer, AOSA | OSA | Removal) and not isinstance(explainer, AOSAApprox):
        with first_masks(0) as found:
            explain_quietly(explainer, model, clip)
        return Cut(found[0], (0, min(config.masks, found[0])), "masks", first_masks)
    for kind, key in _STEPS:
        if isinstance(explainer, kind):
            full = getattr(explainer, key)
            # Gradient samples go in batches: whole ones, so that the line is straight.
            few, more = (1, config.iterations) if key == "iterations" else (model.batch_size, model.batch_size)
            counts = (few, min(full, few + more)) if few < full else (full,)
            return Cut(full, counts, key, partial(mock.patch.object, explainer, key))
    return Cut(1, (1,), "", contextlib.nullcontext)


@contextlib.contextmanager
def first_masks(count: int) -> Iterator[list[int]]:
    """Inside, only the first `count` masks of an explanation meet the network; the others' scores are drawn.

    Yields a list of the explanations' numbers of masks.
    """
    found: list[int] = []

    def some(model: VideoModel, x: Tensor, masks: Masks, fill: Any, target: int) -> np.ndarray:
        found.append(len(masks))
        scores = np.random.default_rng(0).random(len(masks))
        if count:
            first = _First(masks, min(count, len(masks)))
            scores[: len(first)] = masked_scores(model, x, first, fill, target)
        return scores

    with contextlib.ExitStack() as stack:
        for module in _MASKED:
            stack.enter_context(mock.patch(f"aosa.explainers.{module}.masked_scores", some))
        yield found


class _First:
    """The first `count` of some masks."""

    def __init__(self, masks: Masks, count: int) -> None:
        self.masks = masks
        self.count = count

    def __len__(self) -> int:
        return self.count

    def occluded(self, start: int, stop: int, device: torch.device | str) -> Tensor:
        return self.masks.occluded(start, stop, device)


def without_setup(explainer: Explainer, model: VideoModel, clip: Clip) -> float:
    """Give an explainer its masks (flow, tracking) or regions (SLIC) once and for all, so that they are not timed with
    it; returns the seconds they take."""
    if isinstance(explainer, AOSA):
        masks = explainer.masks(clip, model.spec)
        taken = warm([partial(explainer.masks, clip, model.spec)], model, 3)
        explainer.masks = lambda clip, spec: masks  # type: ignore[assignment, method-assign]
        return taken[0]
    if isinstance(explainer, Removal):
        regions = explainer.regions(clip)
        taken = warm([partial(explainer.regions, clip)], model, 3)
        explainer.regions = lambda clip: regions  # type: ignore[method-assign]
        return taken[0]
    return 0.0


def _round(
    explainer: Explainer, model: VideoModel, clip: Clip, cut: Cut
) -> tuple[list[float], list[float], list[Total]]:
    """At each count: seconds, those of the same passes bare, and how many these are."""
    times, made = [], []
    for n in cut.counts:
        with cut.at(n), counted(model) as passes:
            times.append(seconds(lambda: explain_quietly(explainer, model, clip), model))
        # EB-R walks the parts of its network by itself: once forward, and back to conv5.
        made.append([Pass(1, "layer")] if isinstance(explainer, EBR) else passes)
    floors = [seconds(partial(replay, model, passes), model) for passes in made]
    return times, floors, [total(passes) for passes in made]


def explain_quietly(explainer: Explainer, model: VideoModel, clip: Clip) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a cut run may well give a constant map
        explainer(model, clip)


HEADER = (
    f"  {'explainer':<34} {'s/clip':>9} {'forwards':>9} {'passes':>17} {'floor s':>9} {'× floor':>8} "
    f"{'at most':>8} {'set-up s':>9}  measured"
)


def line(row: dict[str, Any]) -> str:
    """A row as it is printed."""
    forward, backward, layer = row["passes"].values()
    passes = f"{forward:g} f" + (f" + {backward:g} b" if backward else "") + (f" + {layer:g} l" if layer else "")
    limit = "" if row["limit"] is None else f"{row['limit']:g}"
    return (
        f"  {row['explainer']:<34} {row['seconds']:>9.2f} {row['forwards']:>9.1f} {passes:>17} {row['floor']:>9.2f} "
        f"{row['ratio']:>8.3f} {limit:>8} {row['setup']:>9.3f}  {row['measured']}"
    )
