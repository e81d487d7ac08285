import math

import numpy as np
import pytest

from aosa.errors import AosaError
from aosa.report.statistics import bootstrap_interval, bootstrap_ratio


def test_agrees_with_normal_theory():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    half = 1.96 * values.std(ddof=1) / math.sqrt(400)
    low, high = bootstrap_interval(values, samples=4000)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(2)
    inside = 0
    for _ in range(400):
        low, high = bootstrap_interval(rng.normal(0.5, 0.2, 50), samples=400)
        inside += low <= 0.5 <= high
    # The percentile interval of 50 values covers .94; ± 3 standard errors of 400 trials.
    assert 0.90 <= inside / 400 <= 0.98


def test_clips_of_one_recording_count_as_one():
    recordings = np.random.default_rng(3).normal(size=30)
    clips, groups = recordings.repeat(5), [f"g{i:02d}" for i in range(30) for _ in range(5)]
    assert bootstrap_interval(clips, groups) == pytest.approx(bootstrap_interval(recordings))
    grouped, ungrouped = (np.diff(bootstrap_interval(clips, g))[0] for g in (groups, None))
    assert grouped / ungrouped == pytest.approx(math.sqrt(5), rel=0.15)


def test_order_of_the_records_does_not_matter():
    rng = np.random.default_rng(4)
    values, weights, groups = rng.random(40), rng.random(40), rng.integers(0, 8, 40).astype(str)
    order = rng.permutation(40)
    there = bootstrap_interval(values, list(groups), weights)
    back = bootstrap_interval(values[order], list(groups[order]), weights[order])
    assert there == pytest.approx(back, abs=1e-12)


def test_ratio_of_sums_by_hand():
    # Two videos, 0 of 10 and 30 of 30 frames: a resample gives 0, 30/40 or 1.
    assert bootstrap_ratio([0, 30], [10, 30]) == (0.0, 1.0)
    low, high = bootstrap_ratio([0, 30], [10, 30], level=0.2)
    assert low == high == 0.75


def test_ratio_is_a_weighted_mean():
    rng = np.random.default_rng(5)
    frames = rng.integers(1, 16, 25)
    hits = rng.binomial(frames, 0.6)
    assert bootstrap_ratio(hits, frames) == pytest.approx(bootstrap_interval(hits / frames, weights=frames))


def test_resamples_without_any_annotated_frame_are_left_out():
    assert bootstrap_ratio([3, 0], [4, 0]) == (0.75, 0.75)
    assert all(math.isnan(x) for x in bootstrap_ratio([0, 0], [0, 0]))


def test_median_is_the_median_of_each_resample():
    values = np.random.default_rng(6).exponential(size=11)
    drawn = np.random.default_rng(7).integers(11, size=(500, 11))
    expected = np.quantile(np.median(values[drawn], axis=1), [0.025, 0.975])
    assert bootstrap_interval(values, statistic="median", samples=500, seed=7) == pytest.approx(expected)


def test_median_of_groups_of_even_size():
    values, groups = [1.0, 2.0, 5.0, 9.0], ["a", "a", "b", "b"]
    # Resamples: {1,2,1,2} → 1.5, {1,2,5,9} → 3.5, {5,9,5,9} → 7.
    assert bootstrap_interval(values, groups, statistic="median") == (1.5, 7.0)


def test_a_curve_gives_each_of_its_points_interval():
    curve = np.random.default_rng(8).random((12, 3))
    low, high = bootstrap_interval(curve, seed=9)
    for k in range(3):
        assert (low[k], high[k]) == pytest.approx(bootstrap_interval(curve[:, k], seed=9))


def test_same_seed_same_interval_other_seed_other():
    values = np.random.default_rng(10).random(20)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


@pytest.mark.parametrize("groups", [None, ["a"]])
def test_one_video_has_no_interval(groups):
    assert all(math.isnan(x) for x in bootstrap_interval([0.5], groups))


def test_one_recording_has_no_interval():
    assert all(math.isnan(x) for x in bootstrap_interval([0.5, 0.7], ["a", "a"]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval([0.1, float("nan")]), "finite"),
        (lambda: bootstrap_interval([]), "finite"),
        (lambda: bootstrap_interval([0.1, 0.2], ["a"]), "1 groups for 2 values"),
        (lambda: bootstrap_interval([0.1, 0.2], weights=[1.0]), "1 weights for 2 values"),
        (lambda: bootstrap_ratio([1, 2], [1, -1]), "at least 0"),
        (lambda: bootstrap_interval([0.1, 0.2], statistic="mode"), "mean, or median"),
        (lambda: bootstrap_interval([0.1, 0.2], weights=[1, 2], statistic="median"), "without weights"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(AosaError, match=message):
        call()
