"""The return of a recorded episode: what is to be taken apart into rewards per step.

success     1 if the episode succeeded at its end, else 0
dense       the sum of the recorded rewards
length      -T: a penalty of 1 for each step
progress    1 if it succeeded, else 0; a clip of the first u steps of a success returns u/T
column:NAME the sum of the extra column NAME
"""

from __future__ import annotations

import math

import numpy as np

from apportion.data.schema import Demo
from apportion.data.store import DemoStore
from apportion.types import UserError

KINDS = ("success", "dense", "length", "progress")


def check_kind(kind: str) -> None:
    """Raises UserError for what is no kind of return."""
    if kind not in KINDS and not (kind.startswith("column:") and kind != "column:"):
        raise UserError(f"--return {kind}: choose from {', '.join(KINDS)}, column:NAME")


def episode_return(demo: Demo, kind: str) -> float:
    """The return of `demo`. Raises UserError where the data does not hold what `kind` needs."""
    check_kind(kind)
    if kind in ("success", "progress"):
        return _of_success(demo.success, demo.where, kind)
    if kind == "length":
        return -float(demo.length)
    name = kind.removeprefix("column:")
    if kind != "dense" and name not in demo.extra:
        raise _no_column(kind, list(demo.extra))
    return _total(demo.reward if kind == "dense" else demo.extra[name], demo.where, kind)


def store_returns(store: DemoStore, kind: str) -> np.ndarray:
    """`episode_return` of every episode of a store, (episodes,) float64, from the columns. Raises UserError."""
    check_kind(kind)
    if kind in ("success", "progress"):
        return np.array(
            [_of_success(e["success"], f"{store.path}, episode {i}", kind) for i, e in enumerate(store.table)]
        )
    if kind == "length":
        return -store.length.astype(np.float64)
    column = "reward" if kind == "dense" else f"extra.{kind.removeprefix('column:')}"
    if column not in store.columns:
        raise _no_column(kind, [name.removeprefix("extra.") for name in store.columns if name.startswith("extra.")])
    values = store.columns[column]
    if values.ndim != 1:
        raise UserError(f"--return {kind}: a step of that column holds {values.shape[1:]} numbers, and one is wanted")
    spans = zip(store.start.tolist(), store.length.tolist(), strict=True)
    return np.array([_total(values[a : a + t], f"{store.path}, episode {i}", kind) for i, (a, t) in enumerate(spans)])


def _total(values: np.ndarray, where: str, kind: str) -> float:
    total = float(np.sum(values, dtype=np.float64))
    if not math.isfinite(total):  # readers check rewards; of extra columns they let everything pass
        raise UserError(f"{where}: --return {kind} is {total}: the column holds what is no number")
    return total


def _of_success(success: bool | None, where: str, kind: str) -> float:
    if success is None:
        raise UserError(
            f"{where}: the data does not say whether it succeeded, so there is no --return {kind}: take dense or "
            "column:NAME, or record successes"
        )
    return float(success)


def _no_column(kind: str, there: list[str]) -> UserError:
    return UserError(f"--return {kind}: the data has no such column; extra columns: {', '.join(there) or 'none'}")


def flickers(reward: np.ndarray) -> bool:
    """Is this (T,) reward a success signal that stays on or comes and goes, so that its sum counts steps in success?

    LIBERO's simulator pays 1 on every step in success: a sum is 1 to 13 there, by how long the recording went on.
    """
    paid = reward > 0
    return bool(np.isin(reward, (0.0, 1.0)).all() and paid.sum() > 1)


def dense_warning(store: DemoStore) -> str | None:
    """What is wrong with summing this store's rewards, in one line; None where nothing is."""
    reward = store.columns["reward"]
    spans = zip(store.start, store.length, strict=True)
    sums = [float(reward[a : a + t].sum()) for a, t in spans if flickers(np.asarray(reward[a : a + t]))]
    if not sums:
        return None
    return (
        f"warning: --return dense sums a success signal that stays on or flickers in {len(sums)} of {len(store)} "
        f"episodes (sums up to {max(sums):.0f}): that counts the steps spent in success; --return success is meant"
    )


def constant_warning(returns: np.ndarray, length: np.ndarray) -> str | None:
    """What return decomposition learns where there is next to nothing to learn; None where there is something.

    `returns`, `length` (episodes,): of the episodes to learn from.
    """
    if np.ptp(returns) > 1e-9 * max(1.0, float(np.abs(returns).max())):
        return None
    value, shortest, longest = float(returns[0]), int(length.min()), int(length.max())
    learned = f"r = {value:g}/T, between {value / longest:.4g} and {value / shortest:.4g} a step"
    return (
        f"WARNING: all {len(returns)} episodes return {value:g}. A reward that adds up to it is {learned}: nothing can "
        "be learned but how long an episode is, and an agent paid so for every step does best by not finishing. Add "
        "failures (apportion data convert --add-failures), or use --method progress, --method success with "
        "--rewind or --prefixes"
    )
