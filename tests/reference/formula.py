"""Weights and inputs from a formula: whoever knows it can run another implementation on the very same numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor, nn


def noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [−1, 1) that depend on name and position alone: the fraction of 43758.5453·sin(12.9898·i + φ). In
    matrices of 2²⁴ numbers or more, which would take long, every row is the one before it moved by one place."""
    if len(shape) == 2 and np.prod(shape) >= 2**24:
        return np.lib.stride_tricks.sliding_window_view(noise(name, (shape[0] + shape[1] - 1,)), shape[1])
    phase = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little") / 2**32 * 2 * np.pi
    hashed = np.sin(np.arange(int(np.prod(shape))) * 12.9898 + phase) * 43758.5453
    return ((hashed - np.floor(hashed)) * 2 - 1).reshape(shape)


def weight(name: str, shape: tuple[int, ...], offset: float = 0.2, *, centred: float = 0.0) -> np.ndarray:
    """One tensor of a network, float32: none is trivial, the batch-norm statistics neither. A smaller `offset` (of
    biases and running means) lets the logits depend more on the input; so do `centred` filters, which that share of
    their mean is taken off: what all channels have in common then doesn't drown the rest in a deep network. The closer
    to 1, the more of the digits cancel."""
    values = noise(name, shape)
    if name.endswith("running_var"):
        values = 1 + 0.5 * values
    elif name.endswith(("running_mean", "bias")):
        values = offset * values
    elif name.endswith(("token", "embed", "embeddings")):
        values = 0.5 * values
    elif len(shape) == 1:
        values = 1 + 0.3 * values
    else:
        values = values * np.sqrt(6 / np.prod(shape[1:]))
        if centred:
            values = values - centred * values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
    return values.astype(np.float32)


def clip(index: int, size: tuple[int, int, int]) -> np.ndarray:
    """Input number `index` of three, float32 3×T×H×W in [−1, 1]: waves and noise, mixed so that the answers differ."""
    t, y, x = np.meshgrid(*(np.arange(n) for n in size), indexing="ij")
    waves = [np.sin(0.3 * t + (0.05 + 0.03 * index) * y + (0.11 - 0.04 * c) * x + c + index) for c in range(3)]
    share = (0.6, 0.1, 0.3)[index]
    return (share * np.stack(waves) + (1 - share) * noise(f"clip {index}", (3, *size))).astype(np.float32)


def fill(network: nn.Module, *, norm_scale: bool = True, offset: float = 0.2, centred: float = 0.0) -> nn.Module:
    """Give a network the formula's weights and set it to evaluation mode; without `norm_scale` those of the batch
    norms are 1, for implementations that have none."""
    state: dict[str, Tensor] = {
        name: value
        if name.endswith("num_batches_tracked")
        else torch.from_numpy(weight(name, tuple(value.shape), offset, centred=centred))
        for name, value in network.state_dict().items()
    }
    if not norm_scale:
        state |= {name: torch.ones_like(value) for name, value in state.items() if name.endswith("bn.weight")}
    network.load_state_dict(state)
    return network.eval()
