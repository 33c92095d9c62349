"""Measures over episodes under weights, so that a bootstrap is one matrix: weights (b, n), a row for each resample.

A row holds how often each of n episodes was drawn; a row of ones gives the plain figure. Where a measure is not
defined (one class only, a constant) it is NaN.
"""

from __future__ import annotations

import numpy as np

Weights = np.ndarray  # (b, n) float64
Estimate = dict[str, float | None]  # {"value", "low", "high"}; None where not defined
BLOCK = 256  # rows of the n x n table of pairs at a time


def resamples(n: int, draws: int, seed: int) -> Weights:
    """(1 + draws, n): ones first, then `draws` resamples of n episodes with replacement."""
    picked = np.random.default_rng(seed).integers(n, size=(draws, n))
    rows = (np.arange(draws)[:, None] * n + picked).reshape(-1)
    counts = np.bincount(rows, minlength=draws * n).reshape(draws, n)
    return np.concatenate([np.ones((1, n)), counts]).astype(np.float64)


def estimate(values: np.ndarray, level: float = 0.95) -> Estimate:
    """The plain figure, `values[0]`, and the percentile interval of the rest, those not defined left out.

    The interval is None where fewer than two thirds of the resamples define the measure: it would be one of the lucky.
    """
    value, drawn = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    if len(drawn) < max(2, 2 * (len(values) - 1) / 3):
        return {"value": value, "low": None, "high": None}
    tail = 50 * (1 - level)
    low, high = np.percentile(drawn, [tail, 100 - tail])
    return {"value": value, "low": float(low), "high": float(high)}


def mean(weights: Weights, values: np.ndarray) -> np.ndarray:
    """Mean of `values` (n,), NaN entries left out; (b,)."""
    known = np.isfinite(values)
    total = weights[:, known].sum(1)
    return _ratio(weights[:, known] @ values[known], total)


def r2(weights: Weights, truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """1 - sum (t - p)^2 / sum (t - mean t)^2 over the episodes drawn; (b,)."""
    return explained(weights, truth, prediction, mean(weights, truth)[:, None])


def explained(weights: Weights, truth: np.ndarray, prediction: np.ndarray, control: np.ndarray) -> np.ndarray:
    """1 - sum (t - p)^2 / sum (t - c)^2: what `prediction` explains of what `control` leaves unexplained; (b,).

    `truth`, `prediction`: (n,); `control`: (n,), or (b, 1) for a constant of each resample.
    """
    left = (weights * (truth - control) ** 2).sum(1)
    left = np.where(left > 1e-24 * (weights @ truth**2), left, 0.0)  # 0 in all but float64's last digits
    return 1 - _ratio(weights @ (truth - prediction) ** 2, left)


def kendall(weights: Weights, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of x and y (n,): concordant minus discordant pairs, over the root of the untied ones; (b,)."""
    both, in_x, in_y = (np.zeros(len(weights)) for _ in range(3))
    for low in range(0, len(x), BLOCK):
        part = slice(low, low + BLOCK)
        of_x, of_y = np.sign(x[part, None] - x), np.sign(y[part, None] - y)
        for total, signs in ((both, of_x * of_y), (in_x, of_x**2), (in_y, of_y**2)):
            total += (weights[:, part] * (weights @ signs.T)).sum(1)
    return _ratio(both, np.sqrt(in_x * in_y))


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
