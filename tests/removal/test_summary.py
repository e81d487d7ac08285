from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from aosa.errors import ConfigError
from aosa.removal.selection import bernoulli, shapley_kernel
from aosa.removal.summary import linear_fit, locality, mean_kept, shapley_fit

REVEX = np.load(Path(__file__).parents[1] / "reference" / "revex.npz")


def unpack(name: str, samples: int, regions: int = 24) -> np.ndarray:
    return np.unpackbits(REVEX[name])[: samples * regions].reshape(samples, regions).astype(bool)


def shapley_by_permutations(game: dict[tuple[bool, ...], float], players: int) -> np.ndarray:
    values = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        inside = [False] * players
        for player in order:
            before = game[tuple(inside)]
            inside[player] = True
            values[player] += game[tuple(inside)] - before
    return values / len(orders)


@pytest.mark.parametrize("players", [2, 3, 5])
def test_all_coalitions_give_the_exact_shapley_values_of_any_game(players: int) -> None:
    rng = np.random.default_rng(players)
    rows = [tuple(bool(i >> k & 1) for k in range(players)) for i in range(2**players)]
    game = {row: float(v) for row, v in zip(rows, rng.normal(size=len(rows)), strict=True)}
    kept, weights = shapley_kernel(players, 1000, 0)
    scores = np.array([game[tuple(row.tolist())] for row in kept])
    values = shapley_fit(kept, scores, weights, game[rows[-1]], game[rows[0]])
    np.testing.assert_allclose(values, shapley_by_permutations(game, players), atol=1e-10)


def test_efficiency_is_exact_even_with_fewer_samples_than_regions() -> None:
    kept, weights = shapley_kernel(40, 10, 0)
    values = shapley_fit(kept, np.random.default_rng(0).normal(size=10), weights, 0.9, 0.2)
    assert values.sum() == pytest.approx(0.7, abs=1e-12)


def test_one_region_has_the_whole_difference() -> None:
    kept, weights = shapley_kernel(1, 10, 0)
    assert shapley_fit(kept, np.zeros(0), weights, 0.9, 0.2).tolist() == pytest.approx([0.7])


@pytest.mark.parametrize(("l1_reg", "name"), [(None, "shap_none"), ("aic", "shap_aic"), (10, "shap_ten")])
def test_shapley_fit_is_the_shap_packages(l1_reg: str | int | None, name: str) -> None:
    if l1_reg is not None:
        pytest.importorskip("sklearn", reason="l1_reg needs scikit-learn")
    kept = unpack("shap_kept", 60)
    values = shapley_fit(kept, REVEX["shap_scores"], REVEX["shap_weights"], *REVEX["shap_ends"], l1_reg)
    np.testing.assert_allclose(values, REVEX[name], atol=1e-9)


def test_aic_needs_samples() -> None:
    pytest.importorskip("sklearn", reason="l1_reg needs scikit-learn")
    kept, weights = shapley_kernel(40, 10, 0)
    with pytest.raises(ConfigError, match=r"l1_reg=aic needs more samples: 10 for 40 regions"):
        shapley_fit(kept, np.zeros(10), weights, 0.9, 0.2, "aic")


def test_the_linear_fit_finds_a_linear_score() -> None:
    kept = bernoulli(6, 40, 0.5, 0)
    slope = np.array([0.3, -0.2, 0.0, 0.1, 0.5, -0.4])
    weights = locality(kept, 0.25)
    np.testing.assert_allclose(linear_fit(kept, 0.1 + kept @ slope, weights, 0.0), slope, atol=1e-9)
    # With ridge: the normal equations, written out with a column for the free constant.
    scores = np.random.default_rng(0).normal(size=40)
    z = np.concatenate([np.ones((40, 1)), kept], axis=1)
    ridge = np.diag([0.0] + [2.5] * 6)
    expected = np.linalg.solve(z.T * weights @ z + ridge, z.T * weights @ scores)[1:]
    np.testing.assert_allclose(linear_fit(kept, scores, weights, 2.5), expected, atol=1e-10)


def test_locality_is_limes_kernel() -> None:
    kept = np.array([[True] * 4, [True, False, False, False], [False] * 4])
    expected = [1, np.sqrt(np.exp(-(0.5**2) / 0.25**2)), np.sqrt(np.exp(-1 / 0.25**2))]
    np.testing.assert_allclose(locality(kept, 0.25), expected)


def test_mean_kept_by_hand() -> None:
    kept = np.array([[True, True, True], [True, False, False], [False, True, False]])
    np.testing.assert_allclose(mean_kept(kept, np.array([0.6, 0.2, 0.4])), np.array([0.4, 0.5, 0.6]) / 1.5)
    assert mean_kept(kept[1:], np.zeros(2)).tolist() == [0, 0, 0]
    assert mean_kept(kept[1:], np.ones(2)).tolist() == [0.5, 0.5, 0]
