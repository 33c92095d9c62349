"""What each human is after, while data are collected and policies are played: one pure rule for all of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

NONE = -1  # no goal yet: a human at the start of an episode


def resample(
    goals: Int[np.ndarray, "n H"],
    attained: Bool[np.ndarray, "n H G"],
    weights: Float[np.ndarray, "G"],
    prob: float,
    noise: Float[np.ndarray, "n H 2"],
) -> Int[np.ndarray, "n H"]:
    """The goals that n worlds' humans have now, int64 in [0, G).

    A goal that holds is replaced at once, so is `NONE`; any other with probability `prob`, each human's by itself. The
    new one is drawn by `weights` from the goals that do not hold for this human; from all, if each of them holds.
    `noise`: uniform in [0, 1); the first number says whether, the second which.
    """
    goals = np.asarray(goals, np.int64)
    change = _over(goals, attained) | (noise[..., 0] < prob)
    return np.where(change, draw(_open(attained, weights), noise[..., 1]), goals)


def chances(
    goals: Int[np.ndarray, "n H"], attained: Bool[np.ndarray, "n H G"], weights: Float[np.ndarray, "G"], prob: float
) -> Float[np.ndarray, "n H G"]:
    """How likely `resample` makes each goal the next one, before its noise is drawn; rows sum to 1."""
    change = np.where(_over(goals, attained), 1.0, prob)[..., None]
    anew = _open(attained, weights)
    kept = np.arange(attained.shape[2]) == goals[..., None]
    return change * anew / anew.sum(-1, keepdims=True) + (1 - change) * kept


def _over(goals: Int[np.ndarray, "n H"], attained: Bool[np.ndarray, "n H G"]) -> Bool[np.ndarray, "n H"]:
    """Whose goal holds, and who has none."""
    return (goals == NONE) | np.take_along_axis(attained, np.maximum(goals, 0)[..., None], 2)[..., 0]


def _open(attained: Bool[np.ndarray, "n H G"], weights: Float[np.ndarray, "G"]) -> Float[np.ndarray, "n H G"]:
    """The weights of the goals that do not hold; all weights where each of them holds."""
    left = np.where(attained, 0.0, weights)
    return np.where(left.sum(-1, keepdims=True) > 0, left, weights)


def draw(weights: Float[np.ndarray, "*b k"], noise: Float[np.ndarray, "*b"]) -> Int[np.ndarray, "*b"]:
    """One of k in each row, as likely as its weight says; never one of weight 0.

    `weights` >= 0, their sum above 0 but not necessarily 1; `noise`: uniform in [0, 1).
    """
    reached = np.cumsum(weights, -1, dtype=np.float64)
    return (reached <= (noise * reached[..., -1])[..., None]).sum(-1)
