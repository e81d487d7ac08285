"""Where the time of one explanation goes."""

from __future__ import annotations

import time

import torch
from torch import nn

from aosa.clip import Clip
from aosa.explainers import Explainer
from aosa.models.base import VideoModel
from aosa.saliency import SaliencyMap

# Columns of a table: all of it, and its parts.
TIMES = ("seconds", "seconds_segmentation", "seconds_inference", "seconds_explanation")


def explain_timed(
    explainer: Explainer, model: VideoModel, clip: Clip, target: int | None = None
) -> tuple[SaliencyMap, dict[str, float]]:
    """A map, and the seconds that it took, without reading the video or writing the map.

    Returns:
        the map, and what `TIMES` names: all of it; of this segmentation, which is what needs no network
        (`Explainer.prepare`: flow, tracking, super-voxels), inference (forward passes), and explanation, the rest
        (perturbing the clip, backward passes, the map). The device has done its work at each reading. EB-R walks its
        network's parts itself, which all counts as the rest.
    """
    inference, began = 0.0, 0.0

    def now() -> float:
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return time.perf_counter()

    def before(module: nn.Module, args: object) -> None:
        nonlocal began
        began = now()

    def after(module: nn.Module, args: object, output: object) -> None:
        nonlocal inference
        inference += now() - began

    start = now()
    prepared = explainer.prepare(clip, model.spec)
    segmentation = now() - start
    handles = [model.network.register_forward_pre_hook(before), model.network.register_forward_hook(after)]
    try:
        saliency = explainer(model, clip, target, prepared)
        total = now() - start
    finally:
        for handle in handles:
            handle.remove()
    return saliency, dict(zip(TIMES, (total, segmentation, inference, total - segmentation - inference), strict=True))
