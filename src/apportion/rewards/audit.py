"""How well a decomposition matches rewards that the learner never saw; read from evaluation episodes only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from apportion.stats import pearson, per_episode, r2, spearman


def audit(true: Sequence[np.ndarray], learned: Sequence[np.ndarray]) -> dict[str, float | None]:
    """Agreement of learned with true per-step rewards, each a list of episodes' (T,) arrays.

    pearson, spearman: mean over episodes of the correlation within the episode, in [-1, 1]; r2_return: share of the
    variance of the episodes' true returns that the sums of learned rewards explain, at most 1. None where undefined.
    """
    length = np.array([len(x) for x in true])
    flat_true, flat_learned = np.concatenate(true), np.concatenate(learned)
    within = {
        name: _mean(per_episode(measure, flat_true, flat_learned, length))
        for name, measure in (("pearson", pearson), ("spearman", spearman))
    }
    total = r2(
        [float(np.sum(x, dtype=np.float64)) for x in true], [float(np.sum(x, dtype=np.float64)) for x in learned]
    )
    return {**within, "r2_return": None if math.isnan(total) else total}


def _mean(values: np.ndarray) -> float | None:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None
