"""Intervals over videos: the percentile bootstrap, by recording where clips share one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aosa.errors import AosaError

Floats = NDArray[np.float64]


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[object] | None = None,
    weights: ArrayLike | None = None,
    *,
    statistic: str = "mean",
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval of a (weighted) mean or a median over videos.

    Two explainers on the same videos are compared by the interval of their differences.

    Args:
        values: n, or n×K for K statistics of the same videos (a curve), which share the resamples.
        groups: n labels; clips of one label are resampled together. Default: each value on its own.
        weights: n weights of the mean, Σ w·v / Σ w.
        statistic: ``mean`` or ``median`` (of n values, unweighted).
        samples: number of resamples.
        level: coverage aimed at.
        seed: the same seed and number of groups give the same resamples.

    Returns:
        (low, high): two floats, or two arrays of K. NaN for fewer than two groups.

    Raises:
        AosaError: values or weights that are not finite or do not fit together.
    """
    v = _finite(values, "values")
    w = np.ones(len(v)) if weights is None else _finite(weights, "weights")
    if statistic == "mean":
        _same_length(v, w, "weights")
        return bootstrap_ratio((v.T * w).T, w, groups, samples=samples, level=level, seed=seed)
    if statistic != "median" or weights is not None or v.ndim != 1:
        raise AosaError(f"statistic={statistic}: choose mean, or median of plain values without weights")
    index, count = _groups(groups, v)
    order = np.argsort(v, kind="stable")
    below = _resamples(count, samples, seed)[:, index[order]].cumsum(axis=1)
    total = below[:, -1:]
    middle = [v[order][(below > rank).argmax(axis=1)] for rank in ((total - 1) // 2, total // 2)]
    return _interval((middle[0] + middle[1]) / 2, count, level)


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    groups: Sequence[object] | None = None,
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval of a ratio of sums, Σ numerators / Σ denominators.

    This is the interval of a micro average: hits over annotated frames, resampled by video or
    recording. Arguments, result and errors are those of `bootstrap_interval`; numerators may be n×K.
    """
    top, bottom = _finite(numerators, "numerators"), _finite(denominators, "denominators")
    _same_length(top, bottom, "denominators")
    if bottom.ndim != 1 or (bottom < 0).any():
        raise AosaError("weights and denominators must be one number of at least 0 per video")
    index, count = _groups(groups, top)
    sums = np.zeros((count, *top.shape[1:]))
    np.add.at(sums, index, top)
    sizes = np.bincount(index, bottom, count)
    counts = _resamples(count, samples, seed).astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = ((counts @ sums).T / (counts @ sizes)).T
    return _interval(ratios, count, level)


def _resamples(count: int, samples: int, seed: int) -> NDArray[np.int64]:
    """How often each of `count` groups is drawn in each resample: samples × count."""
    drawn = np.random.default_rng(seed).integers(count, size=(samples, count))
    drawn += count * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * count).reshape(samples, count)


def _interval(statistics: Floats, count: int, level: float) -> tuple[Any, Any]:
    tails = [(1 - level) / 2, (1 + level) / 2]
    # A resample of videos without a single annotated frame has no ratio: it is left out.
    empty = np.isnan(statistics).all()
    low, high = np.full((2, *statistics.shape[1:]), np.nan) if empty else np.nanquantile(statistics, tails, axis=0)
    if count < 2:
        low, high = low * np.nan, high * np.nan
    return (float(low), float(high)) if statistics.ndim == 1 else (low, high)


def _groups(groups: Sequence[object] | None, values: Floats) -> tuple[NDArray[np.int64], int]:
    """Group index of each value and the number of groups. Groups are sorted by name, so that the
    order of the records does not matter."""
    if groups is None:
        return np.arange(len(values)), len(values)
    if len(groups) != len(values):
        raise AosaError(f"{len(groups)} groups for {len(values)} values")
    names, index = np.unique([str(g) for g in groups], return_inverse=True)
    return index, len(names)


def _finite(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or len(array) == 0 or not np.isfinite(array).all():
        raise AosaError(f"{name} must be at least one finite number per video")
    return array


def _same_length(values: Floats, other: Floats, name: str) -> None:
    if len(values) != len(other):
        raise AosaError(f"{len(other)} {name} for {len(values)} values")
