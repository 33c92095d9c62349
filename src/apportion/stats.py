"""Four measures of agreement between a true and a learned quantity, in plain NumPy, and their use episode by episode.

All of them work in float64 and answer NaN where they are not defined (a constant has no correlation): a zero there
would claim a measured absence of agreement.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Linear correlation of two vectors (n,), in [-1, 1]; NaN if n < 2, either is constant, or any entry is not finite.

    Raises ValueError if the two are not vectors of one length.
    """
    a, b = _pair(x, y)
    if len(a) < 2 or _constant(a) or _constant(b) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    a, b = _standard(a), _standard(b)
    return float(np.clip(a @ b, -1.0, 1.0))


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Rank correlation of two vectors (n,), ties given their mean rank; NaN and errors as for `pearson`."""
    a, b = _pair(x, y)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return float("nan")
    return pearson(ranks(a), ranks(b))


def ranks(x: ArrayLike) -> np.ndarray:
    """Ranks (n,) from 1, in float64; equal entries share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(x, np.float64), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def r2(truth: ArrayLike, prediction: ArrayLike) -> float:
    """Share of the variance of `truth` (n,) that `prediction` (n,) explains: 1 - sum (t - p)^2 / sum (t - mean t)^2.

    1 is perfect, 0 as good as the constant mean, negative worse; NaN if n < 2, `truth` is constant, or any entry is
    not finite. Raises ValueError if the two are not vectors of one length.
    """
    t, p = _pair(truth, prediction)
    if len(t) < 2 or _constant(t) or not (np.isfinite(t).all() and np.isfinite(p).all()):
        return float("nan")
    return float(1.0 - np.sum((t - p) ** 2) / np.sum((t - t.mean()) ** 2))


def auroc(weights: np.ndarray, score: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """Chance that a positive scores above a negative, ties counted half, which is what mid-ranks do; (b,).

    `score`: (n,); `positive`: which of the n are, bool; `weights`: how often each counts. The last two are (b, n), or
    one of them broadcasts to it: all resamples, or all labellings, of one score at once. NaN where a class is missing.
    """
    _, place = np.unique(score, return_inverse=True)
    order = np.argsort(place, kind="stable")
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    up = np.add.reduceat((weights * positive)[:, order], starts, axis=1)
    down = np.add.reduceat((weights * ~positive)[:, order], starts, axis=1)
    below = np.cumsum(down, 1) - down
    pairs = up.sum(1) * down.sum(1)
    return np.divide((up * (below + down / 2)).sum(1), pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)


def per_episode(
    measure: Callable[[np.ndarray, np.ndarray], float], true: ArrayLike, learned: ArrayLike, length: ArrayLike
) -> np.ndarray:
    """`measure(true, learned)` of each episode, (episodes,) float64.

    `true`, `learned`: (sum of lengths,), the episodes one after the other; `length`: (episodes,) steps of each.
    Raises ValueError if the lengths do not add up to the number of entries.
    """
    a, b = _pair(true, learned)
    steps = np.asarray(length, np.int64)
    if int(steps.sum()) != len(a):
        raise ValueError(f"the episodes' lengths add up to {int(steps.sum())}, but there are {len(a)} steps")
    ends = np.cumsum(steps)
    return np.array([measure(a[e - t : e], b[e - t : e]) for e, t in zip(ends, steps, strict=True)], np.float64)


def median_episode(true: np.ndarray, length: np.ndarray) -> tuple[int, slice]:
    """Number of the episode of median return (of two, the one with the lower return), and where its steps lie.

    `true`: rewards (sum of lengths,), the episodes one after the other; `length`: (episodes,) steps of each, no zeros.
    """
    ends = np.cumsum(length)
    returns = np.add.reduceat(true.astype(np.float64), ends - length)
    number = int(np.argsort(returns, kind="stable")[(len(returns) - 1) // 2])
    return number, slice(int(ends[number] - length[number]), int(ends[number]))


def _pair(x: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"two vectors of one length are needed, not shapes {a.shape} and {b.shape}")
    return a, b


def _constant(x: np.ndarray) -> bool:
    # by the range, not the variance: the mean of n equal floats may differ from them in the last bit
    return float(np.ptp(x)) == 0.0


def _standard(x: np.ndarray) -> np.ndarray:
    # scaled first, so that neither tiny nor huge entries leave float64's range when they are squared
    centred = (x / np.abs(x).max()) - np.mean(x / np.abs(x).max())
    return centred / np.linalg.norm(centred)
