"""Each explainer against the passes it makes of the network, repeated bare.

What needs no network (flow, tracking, super-voxels) is done before and told apart. Each line runs with the options it
is given, which keep long methods short; seconds for the papers' settings follow from the passes that the method says
it needs there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from functools import partial
from typing import Any

from omegaconf import DictConfig

from aosa.bench.passes import Pass, counted, replay, total
from aosa.bench.timing import in_turn, moving_texture, warm
from aosa.clip import Clip
from aosa.config import build, compose, quoted
from aosa.explainers import Explainer
from aosa.models.base import VideoModel


def rows(config: DictConfig, model: VideoModel, clip: Clip) -> Iterator[dict[str, Any]]:
    """One row per line of ``explainers``: an explainer's config name, then overrides."""
    lines = []
    # All are built before the first is timed: what is misspelt is to fail at once.
    for text in config.explainers:
        name, *overrides = text.split()
        own = [o for o in overrides if not o.startswith("explainer.")]
        short, full = (compose_with(config, f"explainer={name}", *more) for more in (overrides, own))
        lines.append((text, build(short.explainer), build(full.explainer), short if own else None))
    for text, explainer, full, other in lines:
        of = model if other is None else build(other.model)
        shown = clip if other is None else moving_texture(of)
        explainer.check(of)
        yield {"explainer": text, "model": of.name, **measure(explainer, full, of, shown, config.explainer_repeats)}


def compose_with(config: DictConfig, *overrides: str) -> DictConfig:
    """A model and an explainer as the other stages would compose them, with random weights."""
    common = {key: config[key] for key in ("device", "precision", "batch_size", "data_root", "seed")}
    values = {k: quoted(v) if isinstance(v, str) else v for k, v in common.items()}
    return compose("explain", ["checkpoint=random", *(f"{k}={v}" for k, v in values.items()), *overrides])


def measure(explainer: Explainer, full: Explainer, model: VideoModel, clip: Clip, repeats: int) -> dict[str, Any]:
    """Seconds of an explainer and of its floor, and its passes.

    Returns:
        setup and seconds (without it); passes, counted; floor, the seconds of the same passes bare; ratio, seconds over
        floor; forwards, seconds and setup as a multiple of one clip's forward pass; at the settings of `full`:
        full_passes, as it says, and full_seconds, setup and as many times the seconds as it makes more passes.
    """
    prepared = explainer.prepare(clip, model.spec)
    (setup,) = warm([partial(explainer.prepare, clip, model.spec)], model, 3)
    run = partial(explain_quietly, explainer, model, clip, prepared)
    with counted(model) as passes:
        run()  # warms up
    # A network that is walked part by part shows no pass: what the method says stands for it.
    said = explainer.passes(model, clip)
    made = list(passes) or [Pass(1, "clip")] * round(said.forward if said else 0)
    bare = partial(replay, model, made)
    one = warm([partial(replay, model, [Pass(1, None)])], model, 3)[0]
    inner, floor = in_turn([run, bare], model, repeats)
    count, whole = total(made), full.passes(model, clip)
    return {
        "seconds": inner,
        "setup": setup,
        "forwards": (setup + inner) / one,
        "passes": count._asdict(),
        "floor": floor,
        "ratio": inner / floor if made else None,
        "full_passes": None if whole is None else whole.forward,
        "full_seconds": setup + inner * whole.forward / count.forward if whole and count.forward else None,
    }


def explain_quietly(explainer: Explainer, model: VideoModel, clip: Clip, prepared: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a short run may well give a constant map
        explainer(model, clip, prepared=prepared)


HEADER = (
    f"  {'explainer':<52} {'set-up s':>9} {'s/clip':>9} {'forwards':>9} {'passes':>17} {'floor s':>9} {'× floor':>8} "
    f"{'full passes':>12} {'full s':>9}"
)


def line(row: dict[str, Any]) -> str:
    """A row as it is printed."""
    forward, backward, layer = row["passes"].values()
    passes = f"{forward:g} f" + (f" + {backward:g} b" if backward else "") + (f" + {layer:g} l" if layer else "")
    ratio, whole, last = (
        "" if row[key] is None else f"{row[key]:{form}}"
        for key, form in (("ratio", ".3f"), ("full_passes", "g"), ("full_seconds", ".1f"))
    )
    return (
        f"  {row['explainer']:<52} {row['setup']:>9.3f} {row['seconds']:>9.2f} {row['forwards']:>9.1f} {passes:>17} "
        f"{row['floor']:>9.2f} {ratio:>8} {whole:>12} {last:>9}"
    )
