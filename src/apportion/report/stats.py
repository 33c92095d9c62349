"""What several seeds say together: interquartile mean, bootstrap interval (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

POINTS_AT_ONCE = 2_000_000  # bounds the resampled copy to 16 MB


def iqm(x: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean of the middle half along `axis`: the n // 4 smallest and the n // 4 largest entries are left out.

    With fewer than four entries nothing is left out: it is the plain mean. NaN where any entry is NaN.
    Raises ValueError if there are no entries.
    """
    x = np.asarray(x, np.float64)
    n = x.shape[axis]
    if n == 0:
        raise ValueError("the interquartile mean of nothing is not defined")
    ordered = np.sort(x, axis=axis)
    middle = np.take(ordered, np.arange(n // 4, n - n // 4), axis=axis).mean(axis=axis)
    # sorting puts NaN last, where the cut would hide it
    return np.where(np.isnan(x).any(axis=axis), np.nan, middle)


def bootstrap_ci(
    x: np.ndarray | Sequence[np.ndarray], n: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of the IQM over seeds: (low, high), each of the shape of one seed's entry.

    x: (seeds, ...) of one task, or a sequence of such arrays, one for each task (the numbers of seeds may differ, the
    rest of the shape may not). Seeds are resampled with replacement, all the points of a seed together, and within
    each task (stratified); the IQM is taken over the seeds of all tasks pooled. `seed` fixes the resampling. Where no
    task has two seeds there is nothing to resample, and both ends are NaN rather than an interval of width 0.
    """
    tasks = [np.asarray(t, np.float64) for t in ([x] if isinstance(x, np.ndarray) else x)]
    shape = tasks[0].shape[1:]
    if max(len(t) for t in tasks) < 2:
        return np.full(shape, np.nan), np.full(shape, np.nan)
    rng = np.random.default_rng(seed)
    draws = [rng.integers(len(t), size=(n, len(t))) for t in tasks]
    flat = [t.reshape(len(t), -1) for t in tasks]
    tail = 50 * (1 - level)
    points = flat[0].shape[1]
    chunk = max(1, POINTS_AT_ONCE // (n * sum(len(t) for t in tasks)))
    ends = np.empty((2, points))
    for i in range(0, points, chunk):
        part = np.concatenate([t[d, i : i + chunk] for t, d in zip(flat, draws, strict=True)], axis=1)
        ends[:, i : i + chunk] = np.percentile(iqm(part, axis=1), [tail, 100 - tail], axis=0)
    return ends[0].reshape(shape), ends[1].reshape(shape)
