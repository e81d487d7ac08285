"""From the scores of samples to one value per region. Signed: what speaks against the class is negative."""

from __future__ import annotations

import numpy as np

from aosa.errors import ConfigError


def mean_kept(kept: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Per region the mean score of the samples that keep it, divided by the sum over regions (RISE in REVEX).

    A region that no sample keeps has 0. Scores that are no probabilities may have a negative sum: it is its size that
    divides, so that a higher score stays a higher value.

    Args:
        kept: bool N×R.
        scores: float64 N.
    """
    mean = (scores @ kept) / np.maximum(kept.sum(axis=0), 1)
    total = mean.sum()
    return mean if total == 0 else mean / abs(total)


def locality(kept: np.ndarray, width: float) -> np.ndarray:
    """LIME's weight of each sample, √exp(−d²/width²), d the cosine distance to the clip: 1 − √(share kept)."""
    distance = 1 - np.sqrt(kept.mean(axis=1))
    return np.sqrt(np.exp(-(distance**2) / width**2))


def linear_fit(kept: np.ndarray, scores: np.ndarray, weights: np.ndarray, alpha: float) -> np.ndarray:
    """Coefficients β of the weighted ridge regression that minimises Σ w (f − β₀ − β·z)² + α|β|², β₀ free.

    Where α = 0 leaves them open, those of the least norm.
    """
    z = kept - np.average(kept, axis=0, weights=weights)
    y = scores - np.average(scores, weights=weights)
    gram = (z * weights[:, None]).T @ z + alpha * np.eye(z.shape[1])
    return _solve(gram, z.T @ (weights * y))


def shapley_fit(
    kept: np.ndarray,
    scores: np.ndarray,
    weights: np.ndarray,
    whole: float,
    nothing: float,
    l1_reg: str | int | None = None,
) -> np.ndarray:
    """Values φ that minimise Σ w (f(z) − f(∅) − φ·z)² under Σφ = f(x) − f(∅), which holds to rounding (Kernel SHAP).

    Where the samples leave φ open, the one nearest to an even share is taken.

    Args:
        whole, nothing: f(x), f(∅).
        l1_reg: which regions may differ from 0. None: all. ``aic``: those that a LARS lasso chosen by Akaike's
            criterion uses, the default of the shap package below version 0.47 (for fewer than a fifth of all
            coalitions). k: the first k that LARS takes up, the package's default since (10). Needs scikit-learn.

    Raises:
        ConfigError: scikit-learn is needed and absent.
    """
    values = np.zeros(kept.shape[1])
    total = whole - nothing
    used = np.ones(kept.shape[1], dtype=bool)
    if l1_reg is not None and np.isfinite(scores).all():
        used = _lars(kept.astype(np.float64), scores - nothing, weights, total, l1_reg)
    if not used.any():
        return values
    z = kept[:, used].astype(np.float64)
    share = total / used.sum()
    y = scores - nothing - z.sum(axis=1) * share
    # Rows without their mean: what is found is orthogonal to (1, …, 1), so that it leaves the sum as it is.
    z -= z.mean(axis=1, keepdims=True)
    values[used] = share + _solve((z * weights[:, None]).T @ z, z.T @ (weights * y))
    return values


def _solve(gram: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solution of least norm."""
    return np.linalg.pinv(gram, rcond=1e-10, hermitian=True) @ right


def _lars(z: np.ndarray, y: np.ndarray, weights: np.ndarray, total: float, l1_reg: str | int) -> np.ndarray:
    """The regions that the lasso path uses, bool R: the regression doubled as in the shap package, each coalition of
    k once more as its complement, so that the constraint is part of the data."""
    try:
        from sklearn.linear_model import LassoLarsIC, lars_path
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise ConfigError(f"explainer.l1_reg={l1_reg} needs scikit-learn: pip install scikit-learn") from None
    if l1_reg == "aic" and 2 * len(z) <= z.shape[1] + 1:
        raise ConfigError(f"explainer.l1_reg=aic needs more samples: {len(z)} for {z.shape[1]} regions are too few")
    size = z.sum(axis=1)
    root = np.sqrt(np.concatenate([weights * (z.shape[1] - size), weights * size]))
    rows = root[:, None] * np.concatenate([z, z - 1])
    right = root * np.concatenate([y, y - total])
    used = np.zeros(z.shape[1], dtype=bool)
    if l1_reg == "aic":
        fit = make_pipeline(StandardScaler(with_mean=False), LassoLarsIC(criterion="aic")).fit(rows, right)
        used[fit[-1].coef_ != 0] = True
    else:
        used[lars_path(rows, right, max_iter=l1_reg)[1]] = True
    return used
