"""Attention rollout against the product of the whole matrices over all tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from aosa import InputSpec, VideoModel
from aosa.errors import ConfigError
from aosa.explainers import AttentionRollout
from aosa.models.timesformer import TimeSformer
from tests.helpers import moving_clip, small_model
from tests.reference import formula

SPEC = InputSpec(frames=3, size=(32, 48))
T, ROWS, COLUMNS = 3, 2, 3
P = ROWS * COLUMNS


def small_timesformer(**options: object) -> VideoModel:
    network = TimeSformer(num_classes=4, frames=T, size=SPEC.size, width=24, heads=3, depth=2)
    return VideoModel(formula.fill(network), SPEC, name="timesformer", device="cpu", **options)  # type: ignore[arg-type]


def attention(module: torch.nn.Module, x: Tensor) -> Tensor:
    """softmax(QKᵀ/√d), head by head with nn.Linear's own weights, averaged: N×L×L."""
    x = module.norm(x)
    q, k, _ = F.linear(x, module.qkv.weight, module.qkv.bias).chunk(3, dim=-1)
    size = q.shape[-1] // module.heads
    maps = [
        torch.softmax(q[..., h * size : (h + 1) * size] @ k[..., h * size : (h + 1) * size].mT / size**0.5, dim=-1)
        for h in range(module.heads)
    ]
    return torch.stack(maps).mean(0)


def block_matrix(block: torch.nn.Module, x: Tensor) -> Tensor:
    """The block's matrix over the 1 + P·T tokens of 1×(1 + P·T)×C, entry by entry."""
    patches = x[0, 1:].unflatten(0, (P, T))
    temporal = (attention(block.temporal, patches) + torch.eye(T)) / 2
    patches = patches + block.temporal_fc(block.temporal(patches))
    frames = torch.cat([x[:, :1].expand(T, -1, -1), patches.transpose(0, 1)], dim=1)
    spatial = (attention(block.spatial, frames) + torch.eye(1 + P)) / 2
    w = torch.zeros(1 + P * T, 1 + P * T)
    w[0, 0] = spatial[:, 0, 0].mean()
    for t in range(T):
        for q in range(P):
            for k in range(T):
                w[0, 1 + q * T + k] += spatial[t, 0, 1 + q] * temporal[q, t, k] / T
                for p in range(P):
                    w[1 + p * T + t, 1 + q * T + k] = spatial[t, 1 + p, 1 + q] * temporal[q, t, k]
            w[1 + q * T + t, 0] = spatial[t, 1 + q, 0]
    return w


def resized(matrix: Tensor, size: tuple[int, int, int]) -> Tensor:
    """The class row of a matrix over all tokens, (p, t) → T×rows×columns → T×H×W."""
    row = matrix[0, 1:].unflatten(0, (ROWS, COLUMNS, T)).permute(2, 0, 1)
    return F.interpolate(row[None, None], size=size, mode="trilinear")[0, 0]


@torch.no_grad()
def test_agrees_with_the_product_of_whole_matrices() -> None:
    model, clip = small_timesformer(), moving_clip(SPEC)
    inputs: list[Tensor] = []
    handles = [b.register_forward_pre_hook(lambda module, args: inputs.append(args[0])) for b in model.network.blocks]
    model.logits(clip.tensor(SPEC)[None])
    for handle in handles:
        handle.remove()
    first, second = (block_matrix(b, x) for b, x in zip(model.network.blocks, inputs, strict=True))
    for matrix in (first, second):
        torch.testing.assert_close(matrix.sum(1), torch.ones(1 + P * T))
    expected = resized(second @ first, clip.size)
    got = AttentionRollout()(model, clip, 1).values
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-8)
    assert float(got.std() / got.mean()) > 0.02
    wrong = resized(first @ second, clip.size)
    assert float((wrong - expected).abs().max() / expected.std()) > 1e-3


def test_every_class_has_the_same_map() -> None:
    model, clip = small_timesformer(), moving_clip(SPEC)
    assert torch.equal(AttentionRollout()(model, clip, 0).values, AttentionRollout()(model, clip, 3).values)


def test_another_network_is_refused_with_what_is_possible() -> None:
    explainer, reason = AttentionRollout(), r"which small \(Small3D\) does not have.*model=timesformer, timesformer_hf"
    with pytest.raises(ConfigError, match=reason):
        explainer.check(small_model())
    with pytest.raises(ConfigError, match=reason):
        explainer(small_model(), moving_clip(), 1)
