from pathlib import Path

import numpy as np
import pytest
from scipy.special import binom

from aosa.removal.selection import bernoulli, one_in, one_out, shapley_kernel

REVEX = np.load(Path(__file__).parents[1] / "reference" / "revex.npz")


def test_each_sample_has_a_draw_of_its_own() -> None:
    rows = bernoulli(50, 400, 0.3, 0, "clip")
    np.testing.assert_array_equal(rows[:7], bernoulli(50, 7, 0.3, 0, "clip"))
    assert rows.mean() == pytest.approx(0.3, abs=0.02)
    assert len(np.unique(rows, axis=0)) == 400
    assert not np.array_equal(rows, bernoulli(50, 400, 0.3, 0, "other"))
    assert not np.array_equal(rows, bernoulli(50, 400, 0.3, 1, "clip"))


def test_one_in_and_one_out() -> None:
    assert one_out(3).tolist() == [[False, True, True], [True, False, True], [True, True, False]]
    assert (one_in(3) == ~one_out(3)).all()


@pytest.mark.parametrize("regions", [2, 3, 6, 7])
def test_with_enough_samples_every_coalition_once_by_the_kernel(regions: int) -> None:
    kept, weights = shapley_kernel(regions, 10_000, 0, "clip")
    assert len(np.unique(kept, axis=0)) == len(kept) == 2**regions - 2
    size = kept.sum(axis=1)
    kernel = (regions - 1) / (binom(regions, size) * size * (regions - size))
    np.testing.assert_allclose(weights, kernel / kernel.sum(), rtol=1e-12)


def test_sizes_are_taken_in_whole_as_the_shap_package_does() -> None:
    kept, weights = shapley_kernel(6, 30, 0, "clip")
    assert len(kept) == 30
    np.testing.assert_array_equal(np.sort(kept[:12].sum(axis=1)), np.sort(REVEX["partly_sizes"][:12]))
    np.testing.assert_allclose(weights[:12], REVEX["partly_weights"][:12])
    assert weights.sum() == pytest.approx(1)
    assert len(np.unique(kept, axis=0)) == 30


def test_drawn_sizes_follow_the_kernel_and_come_with_their_complement() -> None:
    kept, weights = shapley_kernel(200, 1000, 0, "clip")
    assert kept.shape == (1000, 200)
    assert len(np.unique(kept, axis=0)) == 1000
    size = kept.sum(axis=1)
    assert size.min() >= 1
    assert size.max() <= 199
    assert weights @ size == pytest.approx(100, abs=2)  # pairs are symmetric
    mass = 199 / (np.arange(1, 200) * (200 - np.arange(1, 200)))
    expected = mass[:10].sum() / mass.sum()
    assert weights[size <= 10].sum() == pytest.approx(expected, abs=0.05)
    again, same = shapley_kernel(200, 1000, 0, "clip")
    assert np.array_equal(kept, again)
    assert np.array_equal(weights, same)


def test_one_region_leaves_nothing_to_draw() -> None:
    kept, weights = shapley_kernel(1, 100, 0, "clip")
    assert kept.shape == (0, 1)
    assert len(weights) == 0
