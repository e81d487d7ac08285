"""Stage benchmark: speed and memory as ratios to what cannot be avoided."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from aosa.clip import Clip
from aosa.config import build
from aosa.explainers import AOSA, AOSAApprox
from aosa.files import write_atomic
from aosa.models.base import VideoModel
from aosa.pipeline.common import check_common, environment
from aosa.removal.boxes import BoxUnions
from aosa.rng import generator


def run(config: DictConfig) -> int:
    """Print, in one run, AOSA against its N bare forward passes, AOSA-approx against one forward and backward pass,
    and the peak memory of AOSA against that of the bare passes.

    Each ratio is between medians of interleaved repetitions in one process, flow and tracking apart; peak memory is
    read in processes of its own. Written to ``<output_root>/bench/<model>.json`` too.
    """
    check_common(config)
    model: VideoModel = build(config.model)
    clip = moving_texture(model)
    rows = [*_aosa(model, clip, config), *_approx(model, clip, config), *_memory(config)]
    where = environment(model)
    print(f"{model.name}, batch {model.batch_size}, {model.precision}, {where['device']}, {where['threads']} threads")
    for row in rows:
        limit = f"  (at most {row['limit']:g})" if "limit" in row else ""
        print(f"  {row['what']:<62} {row['value']:>9.3f} {row['unit']}{limit}")
    path = Path(config.output_root) / "bench" / f"{model.name}.json"
    write_atomic(path, json.dumps({"environment": where, "rows": rows}, indent=1) + "\n")
    print(f"written: {path}")
    return 0


def moving_texture(model: VideoModel) -> Clip:
    """A textured clip that drifts right by two pixels a frame, labelled with its top class: real work for all."""
    t, (h, w) = model.spec.frames, model.spec.size
    scene = torch.rand(3, h, w + 2 * t, generator=generator("benchmark"))
    frames = torch.stack([scene[:, :, 2 * (t - i) : 2 * (t - i) + w] for i in range(t)])
    clip = Clip(id="benchmark", frames=frames.mul(255).to(torch.uint8).permute(0, 2, 3, 1).contiguous())
    clip.label = model.resolve_target(clip, None)
    return clip


def bare_passes(model: VideoModel, count: int) -> None:
    """`count` forward passes of the network alone, in its batch size and memory format."""
    x = torch.randn(model.batch_size, 3, model.spec.frames, *model.spec.size, generator=generator("bare"))
    x = x.to(model.device).contiguous(memory_format=model.memory_format)
    with torch.no_grad():
        for start in range(0, count, model.batch_size):
            model.logits(x[: min(model.batch_size, count - start)])


def _aosa(model: VideoModel, clip: Clip, config: DictConfig) -> list[dict]:
    explainer = AOSA(stride=config.stride, box=config.box, neighbours=config.neighbours)
    masks = explainer.masks(clip, model.spec)
    tracking = _median(lambda: explainer.masks(clip, model.spec), model, 5)
    _fix(explainer, masks)
    bare, whole = _paired(lambda: bare_passes(model, len(masks)), lambda: explainer(model, clip), model, config.repeats)
    n = len(masks)
    return [
        {"what": f"{n} bare forward passes", "value": bare, "unit": "s"},
        {"what": f"AOSA, N = {n}, K = {config.neighbours}, without flow and tracking", "value": whole, "unit": "s"},
        {"what": "flow and tracking", "value": tracking, "unit": "s"},
        {"what": f"AOSA / {n} bare forward passes", "value": whole / bare, "unit": "×", "limit": 1.10},
    ]


def _approx(model: VideoModel, clip: Clip, config: DictConfig) -> list[dict]:
    explainer = AOSAApprox(stride=config.stride, box=config.box, neighbours=config.neighbours)
    masks = explainer.masks(clip, model.spec)
    _fix(explainer, masks)
    x = clip.tensor(model.spec)[None].to(model.device)

    def once() -> None:
        with model.frozen():
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(model.probabilities(leaf)[0, clip.label], leaf)

    bare, whole = _paired(once, lambda: explainer(model, clip), model, 3 * config.repeats)
    return [
        {"what": "one forward and backward pass", "value": bare, "unit": "s"},
        {"what": f"AOSA-approx, N = {len(masks)}, without flow and tracking", "value": whole, "unit": "s"},
        {"what": "AOSA-approx / one forward and backward pass", "value": whole / bare, "unit": "×", "limit": 1.5},
    ]


def _memory(config: DictConfig) -> list[dict]:
    text = OmegaConf.to_yaml(config, resolve=True)
    peaks = {}
    for what in ("load", "bare", "aosa"):
        # A fresh process each: what one has freed must not serve the next.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[what] = pool.apply(_peak, (text, what))
    mebi = 2**20
    inner = (peaks["aosa"] - peaks["load"]) / (peaks["bare"] - peaks["load"])
    label = f"AOSA, stride {config.memory_stride}, K = {config.neighbours}"
    return [
        {"what": "peak memory of bare forward passes, model included", "value": peaks["bare"] / mebi, "unit": "MiB"},
        {"what": f"peak memory of {label}", "value": peaks["aosa"] / mebi, "unit": "MiB"},
        {"what": "peak memory, AOSA / bare", "value": peaks["aosa"] / peaks["bare"], "unit": "×", "limit": 1.3},
        {"what": "peak memory above the loaded model, AOSA / bare", "value": inner, "unit": "×"},
    ]


def _peak(text: str, what: str) -> int:
    """Peak memory, bytes, of a process that loads the model and does `what`: the device's on a GPU, else the
    process's own (Linux)."""
    config = OmegaConf.create(text)
    check_common(config)  # type: ignore[arg-type]
    model: VideoModel = build(config.model)  # type: ignore[union-attr]
    clip = moving_texture(model)
    if what == "bare":
        bare_passes(model, 4 * model.batch_size)
    elif what == "aosa":
        AOSA(stride=config.memory_stride, box=config.memory_stride * 2, neighbours=config.neighbours)(model, clip)
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device)
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


def _fix(explainer: AOSA | AOSAApprox, masks: BoxUnions) -> None:
    """Give an explainer its masks, so that flow and tracking are not timed with it."""
    explainer.masks = lambda clip, spec: masks  # type: ignore[assignment, method-assign]


def _paired(first: Callable, second: Callable, model: VideoModel, repeats: int) -> tuple[float, float]:
    """Medians of two things timed in turn after a warm-up of both: a drift of the machine meets both alike."""
    first(), second()
    pairs = [(_seconds(first, model), _seconds(second, model)) for _ in range(repeats)]
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)


def _median(what: Callable, model: VideoModel, repeats: int) -> float:
    what()
    return statistics.median(_seconds(what, model) for _ in range(repeats))


def _seconds(what: Callable, model: VideoModel) -> float:
    start = time.perf_counter()
    what()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - start
