"""Which states t steps can lead to, exactly: what "the number of states" counts where time belongs to a state."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from apportion.power.compiled import Compiled


def states_at(compiled: Compiled) -> Iterator[Int[np.ndarray, "_"]]:
    """For t = 0 to the horizon, the states that exactly t steps can lead to, ascending. A horizon is needed."""
    horizon = compiled.horizon
    assert horizon is not None
    if _can_wait(compiled):
        yield from (np.arange(compiled.reached(t)) for t in range(horizon + 1))
        return
    now = np.zeros(1, np.int64)
    yield now
    starts = compiled.indptr[:: compiled.joint_actions]
    for _ in range(horizon):
        following = np.zeros(len(compiled.states), bool)
        for s in now:
            following[compiled.indices[starts[s] : starts[s + 1]]] = True
        now = np.flatnonzero(following)
        yield now


def time_states(compiled: Compiled) -> int | None:
    """How many states there are if the time is part of them; None without a horizon."""
    return None if compiled.horizon is None else sum(len(states) for states in states_at(compiled))


def _can_wait(compiled: Compiled) -> bool:
    """Whether every state can follow upon itself: then what t steps reach, t + 1 steps reach."""
    starts = compiled.indptr[:: compiled.joint_actions]
    waits = np.zeros(compiled.expanded, bool)
    step = max(1, (1 << 24) // compiled.joint_actions)  # states at a time, to bound memory
    for a in range(0, compiled.expanded, step):
        bounds = starts[a : a + step + 1]
        of_state = np.repeat(np.arange(a, a + len(bounds) - 1), np.diff(bounds))
        waits[of_state[compiled.indices[bounds[0] : bounds[-1]] == of_state]] = True
    return bool(waits.all())
