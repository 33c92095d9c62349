"""How well a return is told by what is no behaviour: length, task, first observation; beside a permutation baseline.

A measure of a score against returns is the AUROC where the returns have two values (success or not), else R^2.
Random draws are fixed (seed 0): the same data give the same answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from apportion.stats import auroc, r2

SHUFFLES = 200
MOST = 2000  # episodes in the first-observation classifier: its matrix is episodes x episodes


@dataclass(frozen=True)
class Told:
    """`value`: the measure; `chance`: what 95 of 100 shuffles of the returns stay below; `measure`: its name."""

    value: float
    chance: float
    measure: str

    @property
    def strong(self) -> bool:
        """Beyond chance, and enough to be mistaken for a learned reward: AUROC .75, or half of the variance."""
        return self.value > max(self.chance, 0.75 if self.measure == "AUROC" else 0.5)

    @property
    def blind(self) -> bool:
        """So few episodes that shuffled returns are told as well: nothing can be said."""
        return self.chance >= 0.95

    @property
    def amount(self) -> str:
        """How much a shortcut that is not strong tells."""
        return "something, but not much," if self.value > self.chance else "nothing"


def binary(returns: np.ndarray) -> bool:
    """Whether there are two different returns, as of success and failure."""
    return len(np.unique(returns)) == 2


def from_length(length: np.ndarray, tasks: Sequence[str], returns: np.ndarray) -> Told:
    """The length alone, as it is or against the median of its task, in whichever direction it tells most."""
    _, group = np.unique(np.asarray(tasks), return_inverse=True)
    usual = np.array([np.median(length[group == g]) for g in range(group.max() + 1)])[group]
    both = np.vstack([returns, _shuffled(returns, np.zeros(len(returns), np.int64))])
    if binary(returns):
        ones = np.ones((1, len(returns)))
        areas = np.stack([auroc(ones, x, both == returns.max()) for x in (length, length - usual)])
        return _told(np.maximum(areas, 1 - areas).max(0), "AUROC")
    x = np.stack([_unit(length.astype(np.float64)), _unit(length - usual)])
    return _told(np.array([np.max((x @ _unit(row)) ** 2) for row in both]), "R^2")


def from_task(tasks: Sequence[str], returns: np.ndarray) -> Told | None:
    """The mean return of the episode's task; None where there is one task only.

    Not held out: with few episodes per task it is high by itself, which is what the baseline is for.
    """
    _, group = np.unique(np.asarray(tasks), return_inverse=True)
    if group.max() == 0:
        return None
    both = np.vstack([returns, _shuffled(returns, np.zeros(len(returns), np.int64))])
    means = np.stack([np.bincount(group, row)[group] / np.bincount(group)[group] for row in both])
    return _predicted(means, both)


def from_start(start: np.ndarray, tasks: Sequence[str], returns: np.ndarray) -> Told:
    """Ridge regression on first observations (n, d), each episode predicted from all others.

    Shuffles stay within tasks: the baseline already knows as much as the task tells.
    """
    _, group = np.unique(np.asarray(tasks), return_inverse=True)
    if len(start) > MOST:
        some = np.random.default_rng(0).permutation(len(start))[:MOST]
        some = np.union1d(some, np.unique(returns, return_index=True)[1][[0, -1]])  # a rare outcome is not left out
        start, group, returns = start[some], group[some], returns[some]
    x = start.astype(np.float64) - start.mean(0)
    spread = x.std(0)
    x = x[:, spread > 1e-9] / spread[spread > 1e-9]
    kernel = x @ x.T / max(x.shape[1], 1)
    hat = kernel @ np.linalg.inv(kernel + np.eye(len(x))) + 1 / len(x)
    both = np.vstack([returns, _shuffled(returns, group)])
    centred = both - both.mean(1, keepdims=True)
    leverage = np.diag(hat)
    left_out = (centred @ hat.T - leverage * centred) / (1 - leverage)
    return _predicted(left_out, centred)


def _predicted(prediction: np.ndarray, truth: np.ndarray) -> Told:
    """`truth` (1 + SHUFFLES, n): the returns and their shuffles; `prediction`: of each row, made from that row."""
    pairs = list(zip(prediction, truth, strict=True))
    if binary(truth[0]):
        ones = np.ones((1, truth.shape[1]))
        return _told(np.concatenate([auroc(ones, p, t == t.max()) for p, t in pairs]), "AUROC")
    return _told(np.array([r2(t, p) for p, t in pairs]), "R^2")


def _told(values: np.ndarray, measure: str) -> Told:
    """`values`: the real one first, then those of the shuffles."""
    return Told(float(values[0]), float(np.quantile(values[1:], 0.95)), measure)


def _shuffled(returns: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`returns` (n,) shuffled within groups, (SHUFFLES, n)."""
    rng = np.random.default_rng(0)
    home = np.argsort(group, kind="stable")
    out = np.empty((SHUFFLES, len(returns)))
    for row in out:
        row[home] = returns[np.argsort(group + rng.random(len(group)))]
    return out


def _unit(x: np.ndarray) -> np.ndarray:
    centred = x - x.mean()
    return centred / max(float(np.linalg.norm(centred)), 1e-300)
