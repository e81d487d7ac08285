"""Where the time of one explanation goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest import mock

import torch
from torch import nn

from aosa.explainers import AOSA, Explainer, Removal
from aosa.models.base import VideoModel

# Columns of a table: all of it, and its parts.
TIMES = ("seconds", "seconds_segmentation", "seconds_inference", "seconds_explanation")
# What cuts a clip into masks or regions: flow and tubes (AOSA), a grid or super-voxels (explaining by removing).
_SEGMENTATION: tuple[tuple[type[Explainer], str], ...] = ((AOSA, "masks"), (Removal, "regions"))


@contextmanager
def timed(explainer: Explainer, model: VideoModel) -> Iterator[dict[str, float]]:
    """Measures the explanation made inside: seconds in all, without reading the video or writing the map.

    Yields:
        what `TIMES` names, filled at the end: all of it; of this segmentation (flow, tracking, super-voxels), inference
        (forward passes), and explanation, the rest (perturbing the clip, backward passes, the map). The device has done
        its work at each reading. EB-R walks its network's parts itself, which all counts as the rest.
    """
    spent = dict.fromkeys(TIMES, 0.0)
    began: list[float] = []

    def now() -> float:
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return time.perf_counter()

    def before(module: nn.Module, args: object) -> None:
        began.append(now())

    def after(module: nn.Module, args: object, output: object) -> None:
        spent["seconds_inference"] += now() - began.pop()

    def watched(make: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: object) -> Any:
            start = now()
            made = make(*args)
            spent["seconds_segmentation"] += now() - start
            return made

        return call

    name = next((name for kind, name in _SEGMENTATION if isinstance(explainer, kind)), None)
    watch: AbstractContextManager[Any] = (
        mock.patch.object(explainer, name, watched(getattr(explainer, name))) if name else nullcontext()
    )
    handles = [
        model.network.register_forward_pre_hook(before),
        model.network.register_forward_hook(after),
    ]
    start = now()
    try:
        with watch:
            yield spent
        spent["seconds"] = now() - start
    finally:
        for handle in handles:
            handle.remove()
    spent["seconds_explanation"] = spent["seconds"] - spent["seconds_segmentation"] - spent["seconds_inference"]
