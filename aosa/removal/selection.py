"""Which regions each sample keeps: bool N×R. Draws depend on (seed, clip id, sample index) alone."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import torch

from aosa.rng import generator


def bernoulli(regions: int, samples: int, keep: float, *key: object) -> np.ndarray:
    """Each region of each sample is kept with probability `keep`.

    Args:
        key: of the draws, such as seed and clip id.
    """
    draws = [torch.rand(regions, generator=generator(*key, i)) for i in range(samples)]
    return torch.stack(draws).lt(keep).numpy()


def one_out(regions: int) -> np.ndarray:
    """Sample r removes region r alone."""
    return ~np.eye(regions, dtype=bool)


def one_in(regions: int) -> np.ndarray:
    """Sample r keeps region r alone."""
    return np.eye(regions, dtype=bool)


def shapley_kernel(regions: int, samples: int, *key: object) -> tuple[np.ndarray, np.ndarray]:
    """Coalitions for Kernel SHAP (Lundberg and Lee 2017), chosen as the shap package does.

    The kernel gives coalitions of size k the mass (R−1) / (k(R−k)) in all. Sizes, each together with R−k, are taken in
    whole from the outside in as long as the samples left, shared out by the kernel, cover them: with
    2^R − 2 samples that is every coalition, and the regression on them gives the exact values. The rest is
    drawn: a size by its mass, a coalition of that size, and its complement. A coalition drawn again adds to its weight
    instead of costing another pass.

    Returns:
        bool N×R and weights float64 N, summing to 1; N is `samples`, or 2^R − 2 if that is less.
    """
    if regions < 2:
        return np.zeros((0, regions), dtype=bool), np.zeros(0)
    samples = min(samples, 2**regions - 2)
    sizes = np.arange(1, regions // 2 + 1)
    paired = 2 * sizes < regions
    mass = (regions - 1) / (sizes * (regions - sizes)) * (1 + paired)
    mass = mass / mass.sum()
    rows: list[np.ndarray] = []
    weights: list[float] = []
    whole = 0
    for size, double in zip(sizes.tolist(), paired, strict=True):
        count = comb(regions, size) * (1 + int(double))
        if (samples - len(rows)) * mass[size - 1] / mass[size - 1 :].sum() < count * (1 - 1e-8):
            break
        for inside in combinations(range(regions), size):
            row = np.zeros(regions, dtype=bool)
            row[list(inside)] = True
            rows += [row, ~row] if double else [row]
        weights += [mass[size - 1] / count] * count
        whole = size
    left = samples - len(rows)
    if left:
        drawn, times = _draw(regions, left, sizes[whole:], mass[whole:] / (1 + paired[whole:]), key)
        rows += drawn
        weights += list(times * (mass[whole:].sum() / times.sum()))
    return np.stack(rows), np.asarray(weights)


def _draw(
    regions: int, count: int, sizes: np.ndarray, mass: np.ndarray, key: tuple[object, ...]
) -> tuple[list[np.ndarray], np.ndarray]:
    """`count` different coalitions and how often each was drawn; fewer, if `count` cannot be found in 4·count draws."""
    rows: list[np.ndarray] = []
    times: list[int] = []
    seen: dict[bytes, int] = {}
    for i in range(4 * count):
        if len(rows) == count:
            break
        draw = generator(*key, i)
        size = int(sizes[int(torch.multinomial(torch.from_numpy(mass), 1, generator=draw))])
        row = np.zeros(regions, dtype=bool)
        row[torch.randperm(regions, generator=draw)[:size].numpy()] = True
        for coalition in (row, ~row) if 2 * size < regions else (row,):
            at = seen.get(coalition.tobytes())
            if at is not None:
                times[at] += 1
            elif len(rows) < count:
                seen[coalition.tobytes()] = len(rows)
                rows.append(coalition)
                times.append(1)
    return rows, np.asarray(times, dtype=np.float64)
