"""Peak memory, each read in a process of its own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from aosa.bench.passes import Pass, replay
from aosa.bench.timing import moving_texture, noise
from aosa.clip import Clip
from aosa.config import build
from aosa.explainers import AOSA, STEP
from aosa.models.base import VideoModel

AREAS = (0.02, 0.05, 0.1, 0.2)


def rows(config: DictConfig, model: VideoModel, clip: Clip) -> Iterator[dict[str, Any]]:
    """AOSA against bare forward passes, and STEP against a training step."""
    text = OmegaConf.to_yaml(config, resolve=True)
    peaks = {}
    for what in ("load", "bare", "aosa", "train", "step"):
        # A fresh process each: what one has freed must not serve the next.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[what] = pool.apply(_peak, (text, what))
    aosa = f"AOSA, stride {config.memory_stride}, K = {config.neighbours}"
    step = f"STEP, {len(AREAS)} areas"
    for title, name, floor_title, floor, limit in (
        (aosa, "aosa", "bare forward passes", "bare", 1.3),
        (step, "step", f"a training step, batch {len(AREAS)}", "train", 4.0),
    ):
        yield {"what": f"peak memory of {floor_title}, model included", "value": peaks[floor] / 2**20, "unit": "MiB"}
        yield {"what": f"peak memory of {title}", "value": peaks[name] / 2**20, "unit": "MiB"}
        short = title.partition(",")[0]
        ratio = peaks[name] / peaks[floor]
        yield {"what": f"peak memory, {short} / {floor_title}", "value": ratio, "unit": "×", "limit": limit}
        inner = (peaks[name] - peaks["load"]) / max(1, peaks[floor] - peaks["load"])
        yield {"what": f"peak memory above the loaded model, {short} / {floor_title}", "value": inner, "unit": "×"}


def _peak(text: str, what: str) -> int:
    """Peak memory, bytes, of a process that loads the model and does `what`: the device's on a GPU, else the
    process's own (Linux)."""
    config = OmegaConf.create(text)
    assert isinstance(config, DictConfig)
    if config.threads:
        torch.set_num_threads(config.threads)
    model: VideoModel = build(config.model)
    clip = moving_texture(model)
    match what:
        case "bare":
            replay(model, [Pass(model.batch_size, None)] * 4)
        case "aosa":
            AOSA(stride=config.memory_stride, box=config.memory_stride * 2, neighbours=config.neighbours)(model, clip)
        case "train":
            model.network.train()
            for _ in range(2):
                model.logits(noise(model, len(AREAS))).log_softmax(dim=1)[:, 0].mean().backward()
        case "step":
            STEP(areas=AREAS, iterations=2)(model, clip)
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device)
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
