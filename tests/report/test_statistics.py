import math

import numpy as np
import pytest
from scipy import stats

from aosa.errors import AosaError
from aosa.report.statistics import (
    ALPHA,
    FEWEST,
    Videos,
    bootstrap_interval,
    bootstrap_ratio,
    compare,
    compare_apart,
    compare_ratio,
    estimate,
    holm,
)


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
        (lambda: bootstrap_interval([0.1, 0.2], strata=["a"]), "1 strata for 2 values"),
        (lambda: estimate([0.1, 0.2], strata=["a", "b"], statistic="median"), "without weights or strata"),
        (lambda: estimate([0.1, float("nan")]), "finite"),
        (lambda: compare({"a": [0.1, 0.2], "b": [0.1, 0.2]}, weights=[1.0]), "1 weights for 2 values"),
        (lambda: compare({"a": [0.1, 0.2], "b": [0.1, 0.2]}, ["g"]), "1 groups for 2 values"),
        (lambda: compare_ratio([0.1, 0.2], [0.1, float("nan")]), "finite"),
        (lambda: compare_ratio([0.1, 0.2], [0.1, 0.2], ["g"]), "1 groups for 2 values"),
        (lambda: compare_apart({"a": Videos([0.1]), "b": Videos([])}), "finite"),
    ],
)
def test_refuses(call, message):
    with pytest.raises(AosaError, match=message):
        call()


def clustered(rng, groups=30, clips=4):
    """Scores of mean 0.5 of clips whose recording makes most of the difference, and the recordings."""
    recording = rng.normal(0, 0.2, groups).repeat(clips)
    return 0.5 + recording + rng.normal(0, 0.05, groups * clips), [f"g{i // clips:02d}" for i in range(groups * clips)]


def test_covers_the_truth_when_clips_share_recordings():
    rng = np.random.default_rng(20)
    inside = {"grouped": 0, "alone": 0}
    for _ in range(300):
        values, groups = clustered(rng)
        for kind, labels in (("grouped", groups), ("alone", None)):
            low, high = bootstrap_interval(values, labels, samples=300)
            inside[kind] += low <= 0.5 <= high
    # The percentile interval of 30 groups covers .93; ± 3 standard errors of 300 trials.
    assert 0.885 <= inside["grouped"] / 300 <= 0.975
    # As if each clip were a recording, the interval is half as wide as it should be.
    assert inside["alone"] / 300 < 0.80


def test_ratio_of_sums_covers_the_truth():
    rng = np.random.default_rng(21)
    inside = 0
    for _ in range(300):
        frames = rng.integers(1, 17, 40)
        # Long clips are hit more often, so that the ratio of sums is not the mean of ratios.
        hits = rng.binomial(frames, 0.3 + 0.03 * frames)
        low, high = bootstrap_ratio(hits, frames, samples=300)
        sizes = np.arange(1, 17)
        inside += low <= (sizes * (0.3 + 0.03 * sizes)).sum() / sizes.sum() <= high
    assert 0.89 <= inside / 300 <= 0.98


def test_average_over_classes_by_hand():
    value, frames, classes = [1.0, 0.0, 0.5], [2.0, 8.0, 4.0], ["a", "a", "b"]
    assert estimate(value, frames) == 4 / 14
    assert estimate(value, frames, classes) == (2 / 10 + 2 / 4) / 2
    # Two recordings, one of each class: a resample holds class a alone, both, or class b alone.
    low, high = bootstrap_interval(value, ["g", "g", "h"], frames, classes)
    assert (low, high) == pytest.approx((0.2, 0.5))
    assert bootstrap_interval(value, ["g", "g", "h"], frames, classes, level=0.2) == pytest.approx((0.35, 0.35))


def test_average_over_classes_covers_the_truth_whatever_the_number_of_frames():
    rng = np.random.default_rng(22)
    chance, inside = np.array([0.2, 0.5, 0.9]).repeat(15), 0
    for _ in range(300):
        frames = rng.integers(1, 30, 45) * np.array([1, 5, 2]).repeat(15)
        value = rng.binomial(frames, chance) / frames
        low, high = bootstrap_interval(value, None, frames, list(chance), samples=300)
        inside += low <= chance.mean() <= high
    assert 0.89 <= inside / 300 <= 0.99


def test_one_class_is_no_class():
    rng = np.random.default_rng(23)
    value, frames = rng.random(12), rng.integers(1, 9, 12)
    assert bootstrap_interval(value, None, frames, ["a"] * 12) == bootstrap_interval(value, None, frames)


@pytest.mark.parametrize(
    ("differences", "p"),
    [([1, 2, 3], 2 / 8), ([1, 2, -3], 1.0), ([1, 1, 1, 1, 1, 1], 2 / 64), ([0, 0, 5], 1.0), ([5, 1, -1], 6 / 8)],
)
def test_p_value_counts_all_ways_to_turn_the_signs(differences, p):
    (pair,) = compare({"a": np.array(differences, float), "b": np.zeros(len(differences))})
    assert pair.p == p
    assert pair.difference == pytest.approx(np.mean(differences))


@pytest.mark.parametrize("flips", [20_000, 1000])
def test_p_value_is_that_of_scipy(flips):
    rng = np.random.default_rng(24)
    a, b = rng.normal(0.3, 1, 12), rng.normal(0, 1, 12)
    expected = stats.permutation_test(
        (a, b), lambda x, y, axis: (x - y).mean(axis), permutation_type="samples", vectorized=True, n_resamples=np.inf
    ).pvalue
    (pair,) = compare({"a": a, "b": b}, flips=flips)
    assert pair.p == pytest.approx(expected, abs=1e-12 if flips == 20_000 else 0.06)


def test_a_recording_turns_its_sign_as_one():
    a = np.array([0.3, 0.1, 0.4, 0.2]).repeat(5)
    (pair,) = compare({"a": a, "b": np.zeros(20)}, [f"g{i // 5}" for i in range(20)])
    assert (pair.p, pair.n) == (2 / 16, 20)
    low, high = bootstrap_interval(a, [f"g{i // 5}" for i in range(20)])
    assert (pair.low, pair.high) == pytest.approx((low, high))


def test_a_median_difference_of_0_is_within_noise():
    """Thirty of a hundred are higher, none lower: the signs alone would say that the first is."""
    differences = np.array([0.0] * 70 + [1.0] * 30)
    (pair,) = compare({"a": differences, "b": np.zeros(100)}, statistic="median")
    assert (pair.difference, pair.adjusted < 0.001, pair.beyond_noise) == (0, True, False)


def test_median_is_compared_by_the_sign_test():
    rng = np.random.default_rng(25)
    differences = np.array([9.0, 1, 2, 3, 4, 5, 6, 7, -0.1, -0.2, 0])
    a = rng.random(11)
    (pair,) = compare({"a": a + differences, "b": a}, statistic="median")
    assert pair.p == pytest.approx(stats.binomtest(8, 10).pvalue)
    assert pair.difference == pytest.approx(3)
    assert (pair.low, pair.high) == pytest.approx(bootstrap_interval(differences, statistic="median"))


def test_a_pair_is_compared_on_the_videos_it_shares():
    nan = float("nan")
    scores = {"a": [1.0, 2.0, 3.0, nan], "b": [nan, 1.0, 1.0, 1.0], "c": [nan, nan, nan, 0.5], "d": [nan] * 4}
    pairs = compare(scores)
    assert [(p.first, p.second, p.n, p.difference) for p in pairs] == [("a", "b", 2, 1.5), ("b", "c", 1, 0.5)]
    assert math.isnan(pairs[1].low)
    assert [p.p for p in pairs] == [0.5, 1.0]


def test_ratios_of_sums_are_compared_by_their_sums():
    frames = np.array([10.0, 1.0, 0.0])
    (pair,) = compare({"a": [0.5, 1.0, 9.0], "b": [0.4, 0.0, 0.0]}, weights=frames)
    assert pair.difference == pytest.approx((5 + 1 - 4) / 11)
    assert (pair.low, pair.high) == pytest.approx((0.1, 1.0))
    assert pair.n == 2


def test_averages_over_classes_are_compared_by_their_averages():
    frames, classes = [10.0, 2.0, 4.0], ["a", "a", "b"]
    (pair,) = compare({"a": [0.5, 1.0, 0.5], "b": [0.4, 0.5, 0.0]}, weights=frames, strata=classes)
    assert pair.difference == pytest.approx(((1 + 1) / 12 + 2 / 4) / 2)
    # Turned alone, class b's half outweighs both videos of class a.
    assert pair.p == 2 / 8


def test_holm_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm([0.5, 0.6, 0.9]), [1, 1, 1])


def test_corrected_for_the_number_of_pairs():
    rng = np.random.default_rng(26)
    pairs = compare({name: rng.normal(k / 2, 1, 14) for k, name in enumerate("abcd")})
    assert len(pairs) == 6
    np.testing.assert_allclose([p.adjusted for p in pairs], holm([p.p for p in pairs]))


def simulated(rng, gains):
    """Explainers on 20 recordings of 3 clips, which are hard or easy for all of them."""
    video = rng.normal(0, 1, 20).repeat(3)
    shared = {g: rng.exponential(0.5, 20).repeat(3) - 0.5 for g in range(len(gains))}
    return {str(k): video + gain + shared[k] + rng.normal(0, 0.1, 60) for k, gain in enumerate(gains)}


def test_explainers_that_are_alike_seldom_differ_beyond_noise():
    rng, groups = np.random.default_rng(27), [f"g{i // 3:02d}" for i in range(60)]
    wrong = {"corrected": 0, "uncorrected": 0, "clips alone": 0}
    for _ in range(300):
        scores = simulated(rng, [0, 0, 0, 0])
        pairs = compare(scores, groups, samples=10, flips=1000)
        wrong["corrected"] += any(p.beyond_noise for p in pairs)
        wrong["uncorrected"] += any(p.p < ALPHA for p in pairs)
        wrong["clips alone"] += any(p.beyond_noise for p in compare(scores, samples=10, flips=1000))
    # Any false mark in 5 of 100 tables; ± 3 standard errors of 300 trials.
    assert wrong["corrected"] / 300 <= ALPHA + 0.038
    assert wrong["uncorrected"] / 300 > 0.10
    assert wrong["clips alone"] / 300 > 0.20


def test_a_difference_is_found_though_the_intervals_overlap():
    rng, groups = np.random.default_rng(28), [f"g{i // 3:02d}" for i in range(60)]
    found = inside = 0
    for _ in range(100):
        scores = simulated(rng, [0, 0.8])
        (pair,) = compare(scores, groups, samples=300, flips=1000)
        (_, high), (low, _) = bootstrap_interval(scores["0"], groups), bootstrap_interval(scores["1"], groups)
        found += pair.beyond_noise and pair.difference < 0 and high > low
        inside += pair.low <= -0.8 <= pair.high
    assert found >= 70
    assert 86 <= inside <= 99


def test_order_of_the_videos_does_not_matter_for_pairs():
    rng = np.random.default_rng(29)
    scores = {name: rng.random(30) for name in "abc"}
    groups, frames, order = rng.integers(0, 9, 30).astype(str), rng.random(30), rng.permutation(30)
    there = compare(scores, list(groups), frames)
    back = compare({name: v[order] for name, v in scores.items()}, list(groups[order]), frames[order])
    for one, two in zip(there, back, strict=True):
        assert vars(one) == pytest.approx(vars(two), abs=1e-12)


def test_nothing_to_compare():
    assert compare({"a": [0.1, 0.2]}) == []
    assert compare({}) == []


def test_ratio_of_two_scores_by_hand():
    # Six recordings of 1 and 2 seconds each: the ratio is that of the sums, and the same in each resample.
    ratio = compare_ratio([2.0, 4.0] * 6, [1.0, 2.0] * 6, [f"g{i // 2}" for i in range(12)])
    assert (ratio.value, ratio.low, ratio.high, ratio.n) == (2.0, 2.0, 2.0, 12)
    assert compare_ratio([6, 0, 0, 1, 1, 1, 9], [1, 1, 1, 1, 1, 1, 3], [*"abcdefg"], [1] * 6 + [0]).value == 1.5
    assert compare_ratio([1, 2, 3, 4, 50], [1, 1, 1, 2, 9], statistic="median").value == 3.0
    frames, classes = [10.0, 2.0, 4.0], ["a", "a", "b"]
    ratio = compare_ratio([0.5, 1.0, 0.5], [0.4, 0.5, 0.2], None, frames, classes)
    assert ratio.value == pytest.approx((7 / 12 + 0.5) / (5 / 12 + 0.2))


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_interval_of_a_ratio_is_that_of_the_resamples(statistic):
    rng = np.random.default_rng(30)
    first, second = rng.exponential(2, 15) + 1, rng.exponential(1, 15) + 1
    drawn = np.random.default_rng(7).integers(15, size=(500, 15))
    middle = np.mean if statistic == "mean" else np.median
    expected = np.quantile(middle(first[drawn], axis=1) / middle(second[drawn], axis=1), [0.025, 0.975])
    ratio = compare_ratio(first, second, statistic=statistic, samples=500, seed=7)
    assert (ratio.low, ratio.high) == pytest.approx(tuple(expected))


def test_ratio_without_an_interval():
    few = [f"g{i % (FEWEST - 1)}" for i in range(20)]
    ratio = compare_ratio([2.0] * 20, [1.0] * 20, few)
    assert ratio.value == 2.0
    assert math.isnan(ratio.low)
    for first, second in (([1.0] * 8, [-1.0] * 8), ([0.0] * 8, [1.0] * 8)):
        ratio = compare_ratio(first, second)
        assert math.isnan(ratio.value)
        assert math.isnan(ratio.high)
    # Above 0 as a whole, and below it in some resamples.
    assert math.isnan(compare_ratio([1.0] * 8, [9.0] + [-1.0] * 7).low)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_ratio_covers_the_truth_when_clips_share_recordings(statistic):
    rng, inside = np.random.default_rng(31), 0
    groups = [f"g{i // 3:02d}" for i in range(90)]
    for _ in range(300):
        # Seconds of two explainers: long recordings are slow for both, the second takes 2.5 times the first.
        length = rng.lognormal(0, 0.4, 30).repeat(3)
        first = length * rng.lognormal(0, 0.3, 30).repeat(3) * rng.lognormal(0, 0.1, 90)
        second = 2.5 * length * rng.lognormal(0, 0.3, 30).repeat(3) * rng.lognormal(0, 0.1, 90)
        ratio = compare_ratio(second, first, groups, statistic=statistic, samples=300)
        inside += ratio.low <= 2.5 <= ratio.high
    # ± 3 standard errors of 300 trials about .93 for 30 recordings.
    assert 0.885 <= inside / 300 <= 0.985


def test_two_sets_of_videos_by_hand():
    pair = compare_apart({"a": Videos([0.9] * 6), "b": Videos([0.5] * 8)}, samples=99)
    assert (pair.first, pair.second, pair.n) == ("a", "b", 14)
    assert (pair.difference, pair.low, pair.high) == pytest.approx((0.4, 0.4, 0.4))
    assert pair.p == pair.adjusted == pytest.approx(2 / 100)
    assert compare_apart({"a": Videos([0.5] * 6), "b": Videos([0.5] * 8)}).p == 1.0
    assert compare_apart({"a": Videos([0.9] * 5), "b": Videos([0.5] * 8)}).p == 1.0  # too few
    hits = compare_apart({"a": Videos([1.0, 0.0], weights=[3, 1]), "b": Videos([0.5, 1.0], weights=[1, 0])})
    assert hits.difference == pytest.approx(0.75 - 0.5)


def test_two_sets_of_videos_cover_the_truth_and_seldom_differ_by_chance():
    rng, inside, wrong = np.random.default_rng(32), 0, 0
    for _ in range(400):
        one, two = rng.normal(0.7, 0.2, 20).repeat(2), rng.normal(0.5, 0.1, 30).repeat(2)
        groups = [[f"g{i // 2:02d}" for i in range(n)] for n in (40, 60)]
        pair = compare_apart({"a": Videos(one, groups[0]), "b": Videos(two, groups[1])}, samples=300)
        inside += pair.low <= 0.2 <= pair.high
        wrong += compare_apart({"a": Videos(one - 0.2, groups[0]), "b": Videos(two, groups[1])}, samples=300).p < ALPHA
    # Percentile intervals of 20 and 30 recordings cover .93; ± 3 standard errors of 400 trials.
    assert 0.89 <= inside / 400 <= 0.97
    assert wrong / 400 <= ALPHA + 0.045


def test_a_false_difference_is_as_rare_as_the_level_says():
    """One pair of explainers that are alike: the paired test must find a difference 5 times in 100, not less either."""
    rng, groups = np.random.default_rng(33), [f"g{i // 3:02d}" for i in range(60)]
    wrong = sum(compare(simulated(rng, [0, 0]), groups, samples=10, flips=1000)[0].beyond_noise for _ in range(600))
    assert 0.023 <= wrong / 600 <= 0.077  # ± 3 standard errors of 600 trials
