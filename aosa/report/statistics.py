"""Intervals and comparisons over videos: the percentile bootstrap and a paired test, by recording where clips share
one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from aosa.errors import AosaError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

ALPHA = 0.05  # two explainers differ beyond noise when the corrected p-value of their pair is below
FEWEST = 6  # groups: the signs of fewer turn in so few ways that no p-value is below ALPHA


@dataclass(frozen=True)
class Comparison:
    """Two of several explainers on the videos that both have a score on.

    Attributes:
        difference: first − second.
        low, high: its 95 % bootstrap interval, uncorrected; NaN for fewer than two groups.
        p: of the paired test, if there were no difference.
        adjusted: p, corrected for the number of pairs compared together (Holm).
        n: number of videos.
    """

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    n: int

    @property
    def beyond_noise(self) -> bool:
        """Whether the two differ by more than chance explains. A median difference of 0, on more than half of the
        videos none, is no difference, whatever the signs of the others say."""
        return self.adjusted < ALPHA and self.difference != 0


@dataclass(frozen=True)
class Ratio:
    """How many times the score of one explainer that of another is.

    Attributes:
        value: first / second; NaN where a score is not above 0.
        low, high: its 95 % bootstrap interval; NaN for fewer than `FEWEST` groups, and where a score is not above 0 in
            some resample.
        n: number of videos.
    """

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Videos:
    """The scores of one explainer on its videos; all four as for `bootstrap_interval`."""

    values: ArrayLike
    groups: Sequence[object] | None = None
    weights: ArrayLike | None = None
    strata: Sequence[object] | None = None


def estimate(
    values: ArrayLike, weights: ArrayLike | None = None, strata: Sequence[object] | None = None, statistic: str = "mean"
) -> float:
    """The number that a cell shows: Σ w·v / Σ w, its plain average over `strata`, or the median of `values`.

    Raises:
        AosaError: see `bootstrap_interval`.
    """
    v = _finite(values, "values")
    _check(statistic, v, weights, strata)
    if statistic == "median":
        return float(np.median(v))
    w = np.ones(len(v)) if weights is None else _finite(weights, "weights")
    _same_length(v, w, "weights")
    everything = np.zeros(len(v), np.int64)
    return float(_ratios(v * w, w, everything, np.ones((1, 1), np.int64), _strata(strata, v))[0])


def bootstrap_interval(
    values: ArrayLike,
    groups: Sequence[object] | None = None,
    weights: ArrayLike | None = None,
    strata: Sequence[object] | None = None,
    *,
    statistic: str = "mean",
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Any, Any]:
    """Percentile bootstrap interval of a (weighted) mean or a median over videos.

    Two explainers on the same videos are compared by `compare`.

    Args:
        values: n, or n×K for K statistics of the same videos (a curve), which share the resamples.
        groups: n labels; clips of one label are resampled together. Default: each value on its own.
        weights: n weights of the mean, Σ w·v / Σ w.
        strata: n labels (classes); the statistic is the plain average over labels of each one's weighted mean. A
            label that is not drawn does not count in that resample. Default: one label.
        statistic: ``mean`` or ``median`` (of n values, without weights and strata).
        samples: number of resamples.
        level: coverage aimed at.
        seed: the same seed and number of groups give the same resamples.

    Returns:
        (low, high): two floats, or two arrays of K. NaN for fewer than two groups.

    Raises:
        AosaError: values or weights that are not finite or do not fit together.
    """
    v = _finite(values, "values")
    _check(statistic, v, weights, strata)
    if statistic == "mean":
        w = np.ones(len(v)) if weights is None else _finite(weights, "weights")
        _same_length(v, w, "weights")
        return bootstrap_ratio((v.T * w).T, w, groups, strata, samples=samples, level=level, seed=seed)
    return _interval(*_resampled(Videos(v, groups), statistic, samples, seed), level)


def bootstrap_ratio(
    numerators: ArrayLike,
    denominators: ArrayLike,
    groups: Sequence[object] | None = None,
    strata: Sequence[object] | None = None,
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
    bottom = np.broadcast_to(bottom.reshape(-1, *[1] * (top.ndim - 1)), top.shape)
    ratios = _ratios(top, bottom, index, _resamples(count, samples, seed), _strata(strata, top))
    return _interval(ratios, count, level)


def compare(
    scores: Mapping[str, ArrayLike],
    groups: Sequence[object] | None = None,
    weights: ArrayLike | None = None,
    strata: Sequence[object] | None = None,
    *,
    statistic: str = "mean",
    samples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> list[Comparison]:
    """Every pair of explainers on the videos that both have a score on.

    The p-value is that of a sign-flip test: if two explainers do equally well, their scores could be exchanged, which
    turns the sign of their difference. The test turns the signs of whole groups, in all ways where there are at most
    `flips`, else in `flips` random ones, and counts how often the sum of differences is at least as far from 0 as the
    one observed. For a median it is the sum of the differences' signs (the sign test).

    Args:
        scores: explainer → n values; NaN where a video has none.
        groups, weights, strata, statistic, samples, seed: as for `bootstrap_interval`. Weights and strata belong to
            the videos, whatever the explainer. With ``median``, the difference is the median of the differences.

    Returns:
        A comparison for each pair with a video in common, in the order of `scores`; corrected for their number.

    Raises:
        AosaError: see `bootstrap_interval`.
    """
    names = list(scores)
    table = np.array([np.asarray(scores[name], np.float64) for name in names]).T
    pairs = np.array(list(combinations(range(len(names)), 2)), np.int64).reshape(-1, 2)
    if table.size == 0 or len(pairs) == 0:
        return []
    w = np.ones(len(table)) if weights is None else _finite(weights, "weights")
    _same_length(table, w, "weights")
    _check(statistic, table[:, 0], weights, strata)
    index, count = _groups(groups, table)
    layers = _strata(strata, table)
    there = np.isfinite(table) & (w > 0)[:, None]
    both = there[:, pairs[:, 0]] & there[:, pairs[:, 1]]
    pairs, both = pairs[both.any(axis=0)], both[:, both.any(axis=0)]
    filled = np.where(there, table, 0)
    change = np.where(both, filled[:, pairs[:, 0]] - filled[:, pairs[:, 1]], 0)
    if statistic == "median":
        labels = [str(i) for i in range(len(table))] if groups is None else [str(g) for g in groups]
        middles, ends = [], []
        for column, mask in zip(change.T, both.T, strict=True):
            own = [label for label, kept in zip(labels, mask, strict=True) if kept]
            middles.append(float(np.median(column[mask])))
            ends.append(bootstrap_interval(column[mask], own, statistic="median", samples=samples, seed=seed))
        difference, (low, high) = np.array(middles), np.array(ends).T
        share = np.sign(change)
    else:
        size = w[:, None] * both
        share = size * change / _layer_sums(size, layers)
        difference = _ratios(size * change, size, np.zeros_like(index), np.ones((1, 1), np.int64), layers)[0]
        ratios = _ratios(size * change, size, index, _resamples(count, samples, seed), layers)
        low, high = _interval(ratios, count, 0.95)
        few = np.array([len(np.unique(index[mask])) < 2 for mask in both.T])
        low, high = np.where(few, np.nan, low), np.where(few, np.nan, high)
    p = _sign_flips(_group_sums(share, index, count), flips, seed)
    numbers = (difference, low, high, p, holm(p), both.sum(axis=0))
    return [
        Comparison(names[i], names[j], change, start, end, chance, adjusted, n)
        for (i, j), change, start, end, chance, adjusted, n in zip(pairs, *(x.tolist() for x in numbers), strict=True)
    ]


def compare_ratio(
    first: ArrayLike,
    second: ArrayLike,
    groups: Sequence[object] | None = None,
    weights: ArrayLike | None = None,
    strata: Sequence[object] | None = None,
    *,
    statistic: str = "mean",
    samples: int = 2000,
    seed: int = 0,
) -> Ratio:
    """How many times the score `second` the score `first` is: the numbers that two cells show, one divided by the
    other. Each resample makes both anew, from the same videos.

    Args:
        first, second: n values each, of the same videos.
        groups, weights, strata, statistic, samples, seed: as for `bootstrap_interval`.

    Raises:
        AosaError: see `bootstrap_interval`.
    """
    both = [Videos(values, groups, weights, strata) for values in (first, second)]
    above, below = (estimate(v.values, v.weights, v.strata, statistic) for v in both)
    (top, count), (bottom, _) = (_resampled(v, statistic, samples, seed) for v in both)
    value = above / below if min(above, below) > 0 else np.nan
    usable = count >= FEWEST and not (top <= 0).any() and not (bottom <= 0).any()
    low, high = _interval(top / bottom, count, 0.95) if usable else (np.nan, np.nan)
    return Ratio(value, low, high, len(np.asarray(first)))


def compare_apart(
    scores: Mapping[str, Videos], *, statistic: str = "mean", samples: int = 2000, seed: int = 0
) -> Comparison:
    """One explainer on two sets of videos that have nothing to do with one another (two data sets).

    Each set is resampled by itself. The p-value is twice the share of resamples whose difference is on the other side
    of 0, or at it; it is 1 for fewer than `FEWEST` groups in one of the sets.

    Args:
        scores: two names → their videos.
        statistic, samples, seed: as for `bootstrap_interval`.

    Returns:
        first − second; n is the number of videos of both, `adjusted` is p.

    Raises:
        AosaError: see `bootstrap_interval`.
    """
    names, sets = list(scores), list(scores.values())
    numbers = [estimate(v.values, v.weights, v.strata, statistic) for v in sets]
    (one, count), (two, other) = (_resampled(v, statistic, samples, seed + i) for i, v in enumerate(sets))
    apart, fewest = one - two, min(count, other)
    low, high = _interval(apart, fewest, 0.95)
    beyond = min((apart <= 0).sum(), (apart >= 0).sum())
    p = min(1.0, 2 * (int(beyond) + 1) / (samples + 1)) if fewest >= FEWEST else 1.0
    n = sum(len(np.asarray(v.values)) for v in sets)
    return Comparison(names[0], names[1], numbers[0] - numbers[1], low, high, p, p, n)


def holm(p: ArrayLike) -> Floats:
    """p-values corrected for their number by Holm's step-down method, in the same order."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _sign_flips(sums: Floats, flips: int, seed: int) -> Floats:
    """Two-sided p-value of each column of a groups × pairs matrix."""
    sums = sums[(sums != 0).any(axis=1)]
    count = len(sums)
    # All signs turned at once give the same distance from 0: the first group may keep its own.
    exact = count <= 1 or 2 ** (count - 1) <= flips
    total = 2 ** max(0, count - 1) if exact else flips
    # Rounding must not part sums that are equal.
    least = np.abs(sums.sum(axis=0)) - 1e-12 * np.abs(sums).sum(axis=0)
    rng, hits = np.random.default_rng(seed), np.zeros(sums.shape[1])
    for start in range(0, total, 2048):
        rows = np.arange(start, min(start + 2048, total))
        if exact:
            signs = 1 - 2 * (rows[:, None] >> np.arange(count)[None] & 1)
        else:
            signs = 1 - 2 * rng.integers(2, size=(len(rows), count))
        hits += (np.abs(signs.astype(np.float64) @ sums) >= least).sum(axis=0)
    return hits / total if exact else (hits + 1) / (total + 1)


def _resampled(videos: Videos, statistic: str, samples: int, seed: int) -> tuple[Floats, int]:
    """The statistic of each resample, and the number of groups that were drawn from."""
    v = _finite(videos.values, "values")
    _check(statistic, v, videos.weights, videos.strata)
    index, count = _groups(videos.groups, v)
    counts = _resamples(count, samples, seed)
    if statistic == "mean":
        w = np.ones(len(v)) if videos.weights is None else _finite(videos.weights, "weights")
        _same_length(v, w, "weights")
        return _ratios(v * w, w, index, counts, _strata(videos.strata, v)), count
    order = np.argsort(v, kind="stable")
    below = counts[:, index[order]].cumsum(axis=1)
    total = below[:, -1:]
    middle = [v[order][(below > rank).argmax(axis=1)] for rank in ((total - 1) // 2, total // 2)]
    return (middle[0] + middle[1]) / 2, count


def _ratios(top: Floats, bottom: Floats, index: Indices, counts: Indices, strata: list[Indices]) -> Floats:
    """Σ top / Σ bottom of each resample, averaged over the strata (given by their rows) that it holds."""
    total = seen = np.zeros((len(counts), *top.shape[1:]))
    for rows in strata:
        groups, own = np.unique(index[rows], return_inverse=True)
        drawn = counts[:, groups].astype(np.float64)
        above, below = (drawn @ _group_sums(part[rows], own, len(groups)) for part in (top, bottom))
        held = below > 0
        total = total + np.divide(above, below, out=np.zeros_like(above), where=held)
        seen = seen + held
    return np.divide(total, seen, out=np.full_like(total, np.nan), where=seen > 0)


def _group_sums(values: Floats, index: Indices, count: int) -> Floats:
    sums = np.zeros((count, *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums


def _layer_sums(sizes: Floats, strata: list[Indices]) -> Floats:
    """For each video and pair, what its share of the statistic is divided by: its stratum's size × number of strata."""
    sums = np.ones_like(sizes)
    held = np.zeros(sizes.shape[1])
    for rows in strata:
        whole = sizes[rows].sum(axis=0)
        sums[rows] = np.where(whole > 0, whole, 1)
        held += whole > 0
    return sums * held


def _resamples(count: int, samples: int, seed: int) -> Indices:
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


def _groups(groups: Sequence[object] | None, values: Floats) -> tuple[Indices, int]:
    """Group index of each value and the number of groups. Groups are sorted by name, so that the
    order of the records does not matter."""
    if groups is None:
        return np.arange(len(values)), len(values)
    if len(groups) != len(values):
        raise AosaError(f"{len(groups)} groups for {len(values)} values")
    names, index = np.unique([str(g) for g in groups], return_inverse=True)
    return index, len(names)


def _strata(strata: Sequence[object] | None, values: Floats) -> list[Indices]:
    """The rows of each stratum, in the order of their names."""
    if strata is None:
        return [np.arange(len(values))]
    if len(strata) != len(values):
        raise AosaError(f"{len(strata)} strata for {len(values)} values")
    names = np.array([str(s) for s in strata])
    return [np.flatnonzero(names == name) for name in np.unique(names)]


def _check(statistic: str, values: Floats, weights: ArrayLike | None, strata: Sequence[object] | None) -> None:
    plain = weights is None and strata is None and values.ndim == 1
    if statistic != "mean" and not (statistic == "median" and plain):
        raise AosaError(f"statistic={statistic}: choose mean, or median of plain values without weights or strata")


def _finite(values: ArrayLike, name: str) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim == 0 or len(array) == 0 or not np.isfinite(array).all():
        raise AosaError(f"{name} must be at least one finite number per video")
    return array


def _same_length(values: Floats, other: Floats, name: str) -> None:
    if len(values) != len(other):
        raise AosaError(f"{len(other)} {name} for {len(values)} values")
