"""Times that are fit to be compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from aosa.clip import Clip
from aosa.models.base import VideoModel
from aosa.rng import generator

Act = Callable[[], Any]


def moving_texture(model: VideoModel) -> Clip:
    """A clip of coloured blobs that drift right by two pixels a frame, labelled with its top class: real work for all,
    flow and super-voxels too."""
    t, (h, w) = model.spec.frames, model.spec.size
    blobs = torch.rand(1, 3, h // 8, (w + 2 * t) // 8, generator=generator("benchmark"))
    scene = torch.nn.functional.interpolate(blobs, size=(h, w + 2 * t), mode="bilinear")[0]
    frames = torch.stack([scene[:, :, 2 * (t - i) : 2 * (t - i) + w] for i in range(t)])
    clip = Clip(id="benchmark", frames=frames.mul(255).to(torch.uint8).permute(0, 2, 3, 1).contiguous())
    clip.label = model.resolve_target(clip, None)
    return clip


def noise(model: VideoModel, clips: int) -> torch.Tensor:
    """So many clips of noise, on the model's device and in its memory format."""
    x = torch.randn(clips, 3, model.spec.frames, *model.spec.size, generator=generator("bare"))
    return x.to(model.device).contiguous(memory_format=model.memory_format)


def in_turn(acts: Sequence[Act], model: VideoModel, repeats: int) -> list[float]:
    """Median seconds of several things done in turn: a drift of the machine meets all alike. Warm them up before."""
    rounds = [[seconds(act, model) for act in acts] for _ in range(repeats)]
    return [statistics.median(times) for times in zip(*rounds, strict=True)]


def warm(acts: Sequence[Act], model: VideoModel, repeats: int) -> list[float]:
    """`in_turn` after each has been done once."""
    for act in acts:
        act()
    return in_turn(acts, model, repeats)


def seconds(act: Act, model: VideoModel) -> float:
    """How long it took, until the device was done."""
    start = time.perf_counter()
    act()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - start
