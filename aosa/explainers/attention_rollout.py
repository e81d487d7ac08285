"""Attention rollout for divided space-time attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from aosa.clip import Clip
from aosa.errors import ConfigError
from aosa.explainers.base import Explainer, Passes
from aosa.explainers.cam import resized
from aosa.models.base import VideoModel
from aosa.models.timesformer import TimeSformer


@dataclass
class AttentionRollout(Explainer):
    """How much of each patch reaches the class token through all blocks; the same for every class.

    Abnar and Zuidema 2020: attention averaged over the heads, plus the identity for the shortcut, rows summing to 1,
    multiplied over the blocks, W_L ⋯ W_1. For divided attention a block's matrix is the spatial step S̃ after the
    temporal one T̃, as the block computes it: W[(p,t), (q,k)] = S̃_t[p,q] · T̃_q[t,k]. The class token takes no part in
    the temporal step, and its row is the mean over the frames t of S̃_t[cls, ·]. The class row without the class token
    itself, as T×h×w patches, is resized to the clip.

    Only the class row is wanted, so it is carried from the last block to the first; no matrix over all tokens is made.
    Costs one forward pass.

    Raises:
        ConfigError: a model other than TimeSformer.
    """

    name: ClassVar[str] = "attention_rollout"
    title: ClassVar[str] = "Attention Rollout"

    def check(self, model: VideoModel) -> None:
        if not isinstance(model.network, TimeSformer):
            raise ConfigError(
                f"explainer=attention_rollout reads divided space-time attention, which {model.name} "
                f"({type(model.network).__name__}) does not have; it is defined for model=timesformer, timesformer_hf"
            )

    def explain(self, model: VideoModel, clip: Clip, target: int, prepared: None) -> Tensor:
        self.check(model)
        network = model.network
        assert isinstance(network, TimeSformer)
        projected = _projections(model, clip.tensor(model.spec)[None], network)
        token = torch.ones((), device=model.device)
        patches = torch.zeros(network.frames, network.grid[0] * network.grid[1], device=model.device)
        for temporal, spatial in reversed(projected):
            # To the spatial step's input: T×(1 + P) rows, those of the class token averaged.
            rows = torch.cat([(token / network.frames).expand(network.frames, 1), patches], dim=1)
            rows = torch.einsum("tp,tpq->tq", rows, _mixing(spatial, network.heads))
            # To the block's input: what lies on patch q at time t came from its times k.
            token = rows[:, 0].sum()
            patches = torch.einsum("tq,qtk->kq", rows[:, 1:], _mixing(temporal, network.heads))
        return resized(patches.unflatten(1, network.grid), clip.size)

    def passes(self, model: VideoModel, clip: Clip) -> Passes:
        return Passes(1)


def _projections(model: VideoModel, x: Tensor, network: TimeSformer) -> list[tuple[Tensor, Tensor]]:
    """Queries, keys and values of each block's temporal (P×T×3C) and spatial (T×(1 + P)×3C) attention."""
    kept: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: object, output: Tensor) -> None:
        kept[module] = output.float()

    pairs = [(block.temporal.qkv, block.spatial.qkv) for block in network.blocks]  # type: ignore[union-attr]
    handles = [layer.register_forward_hook(keep) for pair in pairs for layer in pair]  # type: ignore[union-attr]
    try:
        with torch.no_grad():
            model.logits(x)
    finally:
        for handle in handles:
            handle.remove()
    return [(kept[temporal], kept[spatial]) for temporal, spatial in pairs]  # type: ignore[index]


def _mixing(projected: Tensor, heads: int) -> Tensor:
    """N×L×3C queries, keys and values → N×L×L: head-mean attention and the shortcut, half each."""
    q, k, _ = projected.unflatten(-1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1).mean(dim=1)
    return (attention + torch.eye(attention.shape[-1], device=attention.device)) / 2
