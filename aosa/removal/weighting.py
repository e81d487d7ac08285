"""From the scores of masks to a map (AOSA eq. 2)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aosa.removal.boxes import BoxUnions

WEIGHTINGS = ("authors", "paper")


def weighted_map(masks: BoxUnions, scores: np.ndarray, base: float, weighting: str) -> Tensor:
    """S = 1/N Σ w_m Ω_m with Ω_m = 1 where mask m keeps the clip.

    Args:
        scores: f(Ω_m ⊙ x), float64 N.
        base: f(x).
        weighting: ``paper``, w_m = f(Ω_m ⊙ x) (eq. 2 as printed); ``authors``,
            w_m = (f(Ω_m ⊙ x) − f(x)) / mean(Ω_m) (the authors' code). Rankings differ.

    Returns:
        float32 T×H×W; not signed: a voxel that no mask hides has the mean weight, not 0.
    """
    # A mask that covers the whole clip keeps nothing, so its weight has nothing to act on.
    kept = np.maximum(1 - masks.share(), 1 / np.prod(masks.size))
    weights = scores if weighting == "paper" else (scores - base) / kept
    return torch.from_numpy(((weights.sum() - masks.splat(weights)) / len(masks)).astype(np.float32))
