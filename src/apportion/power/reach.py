"""Which states t steps can lead to, exactly: what "the number of states" counts where time belongs to a state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int

from apportion.power.compiled import Compiled

_AT_ONCE = 1 << 22  # successors that are looked at together


def states_at(compiled: Compiled) -> Iterator[Int[np.ndarray, "_"]]:
    """For t = 0 to the horizon, the states that exactly t steps can lead to, ascending. A horizon is needed."""
    horizon = compiled.horizon
    assert horizon is not None
    if _can_wait(compiled):
        yield from (np.arange(compiled.reached(t)) for t in range(horizon + 1))
        return
    now = np.zeros(1, np.int64)
    yield now
    for _ in range(horizon):
        now = _after(compiled, now)
        yield now


def _after(compiled: Compiled, now: Int[np.ndarray, "n"]) -> Int[np.ndarray, "_"]:
    """The states that one step from any of `now` can lead to, ascending: a pass over their successors."""
    first = compiled.indptr[now * compiled.joint_actions]
    counts = compiled.indptr[(now + 1) * compiled.joint_actions] - first
    ends = np.cumsum(counts)
    following = np.zeros(len(compiled.states), bool)
    a = 0
    while a < len(now):  # at least one state at a time, and as many as bound the memory
        before = ends[a] - counts[a]
        b = max(a + 1, int(np.searchsorted(ends, before + _AT_ONCE, "right")))
        # entry k of these successors lies k - (those of the states before) after its own state's first
        shift = np.repeat(first[a:b] - (ends[a:b] - counts[a:b]), counts[a:b])
        following[compiled.indices[shift + np.arange(before, ends[b - 1])]] = True
        a = b
    return np.flatnonzero(following)


def masks_at(compiled: Compiled) -> Iterator[Bool[np.ndarray, "S"]]:
    """`states_at`, as a yes or no for every state."""
    for states in states_at(compiled):
        mask = np.zeros(len(compiled.states), bool)
        mask[states] = True
        yield mask


def time_states(compiled: Compiled) -> int | None:
    """How many states there are if the time is part of them; None without a horizon."""
    return None if compiled.horizon is None else sum(len(states) for states in states_at(compiled))


def _can_wait(compiled: Compiled) -> bool:
    """Whether every state can follow upon itself: then what t steps reach, t + 1 steps reach."""
    starts = compiled.indptr[:: compiled.joint_actions]
    waits = np.zeros(compiled.expanded, bool)
    step = max(1, 4 * _AT_ONCE // compiled.joint_actions)  # states at a time, to bound memory
    for a in range(0, compiled.expanded, step):
        bounds = starts[a : a + step + 1]
        of_state = np.repeat(np.arange(a, a + len(bounds) - 1), np.diff(bounds))
        waits[of_state[compiled.indices[bounds[0] : bounds[-1]] == of_state]] = True
    return bool(waits.all())
