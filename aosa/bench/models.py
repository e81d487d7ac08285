"""Each model's forward pass at its paper's input, against the published implementation's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from omegaconf import DictConfig
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop

from aosa.bench.explainers import compose_with
from aosa.bench.passes import Pass, replay
from aosa.bench.references import NoReference, reference
from aosa.bench.timing import warm
from aosa.clip import Clip
from aosa.config import build
from aosa.models.base import VideoModel

# The attention of CPUs, which torch's own table leaves out.
_FLOPS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *a, **b: sdpa_flop(q, k, v)}


def rows(config: DictConfig, model: VideoModel, clip: Clip) -> Iterator[dict[str, Any]]:
    """Seconds and GFLOPs of one clip, and where ``reference`` names the clones, the published implementation's in the
    same run."""
    for name in config.models:
        composed = compose_with(config, f"model={name}")
        own: VideoModel = build(composed.model)
        shape = (3, own.spec.frames, *own.spec.size)
        row = {"model": name, "input": "×".join(map(str, shape[1:])), "gflops": gflops(own.network, shape)}
        acts = [partial(replay, own, [Pass(1, None)])]
        if config.reference is not None:
            try:
                network = reference(name, config.reference, composed.model.network.num_classes)
                published = VideoModel(network, own.spec, device=str(own.device), precision=own.precision)
                acts.append(partial(replay, published, [Pass(1, None)]))
                row["reference_gflops"] = gflops(network, shape)
            except NoReference as missing:
                row["note"] = f"no reference: {missing}"
        row["seconds"], *others = warm(acts, own, config.model_repeats)
        if others:
            row |= {"reference_seconds": others[0], "ratio": row["seconds"] / others[0], "limit": 1.15}
        yield row


@torch.no_grad()
def gflops(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Multiply-adds (10⁹) of one clip's forward pass, which is what papers call FLOPs: those of convolutions, linear
    layers and attention. Normalisation, activations and pooling don't count.

    Args:
        shape: 3, T, H, W.
    """
    x = torch.zeros(1, *shape, device=next(network.parameters()).device)
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one operation that the counter does not see into
    try:
        with FlopCounterMode(display=False, custom_mapping=_FLOPS) as counter:
            network(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() / 2e9


HEADER = (
    f"  {'model':<14} {'input':<12} {'GFLOPs':>8} {'s':>8} {'reference s':>12} {'× reference':>12} {'at most':>8}  "
    f"(GFLOPs: multiply-adds of one clip)"
)


def line(row: dict[str, Any]) -> str:
    """A row as it is printed."""
    text = f"  {row['model']:<14} {row['input']:<12} {row['gflops']:>8.1f} {row['seconds']:>8.3f}"
    if "ratio" in row:
        text += f" {row['reference_seconds']:>12.3f} {row['ratio']:>12.3f} {row['limit']:>8g}"
        if abs(row["reference_gflops"] / row["gflops"] - 1) > 0.01:
            text += f"  the reference takes {row['reference_gflops']:.1f} GFLOPs"
    return text + (f"  {row['note']}" if "note" in row else "")
