"""Small compiled worlds made by hand, for tests that need no grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from apportion.power.compiled import Compiled

Step = Callable[[int, tuple[int, ...]], Mapping[int, float]]  # (state, joint action) -> successors


def by_hand(
    step: Step,
    n_actions: Sequence[int],
    humans: Sequence[int],
    goals: Callable[[int, int], Sequence[bool]],
    *,
    horizon: int | None,
    still: Sequence[int | None] | None = None,
    terminal: Callable[[int], bool] = lambda state: False,
) -> Compiled:
    """What `step` leads to from state 0, in the order of the fewest steps. `goals(state, human)`: which hold."""
    order, starts, done = [0], [0, 1], 0
    rows: list[dict[int, float]] = []
    place = {0: 0}
    while (horizon is None or len(starts) - 2 < horizon) and done < len(order):
        level = order[done:]
        done = len(order)
        for state in level:
            for joint in np.ndindex(*n_actions):
                found = {} if terminal(state) else dict(step(state, joint))
                for after in found:
                    if after not in place:
                        place[after] = len(order)
                        order.append(after)
                rows.append({place[after]: p for after, p in found.items()})
        starts.append(len(order))
    expanded = len(rows) // int(np.prod(n_actions))
    attained = np.array([[goals(state, human) for human in humans] for state in order], bool)
    return Compiled(
        name="by hand",
        states=np.array(order, np.int64)[:, None],
        level_start=np.array(starts, np.int64),
        expanded=expanded,
        indptr=np.cumsum([0, *map(len, rows)]).astype(np.int64),
        indices=np.array([i for row in rows for i in row], np.int32),
        probs=np.array([p for row in rows for p in row.values()], np.float64),
        terminal=np.array([terminal(state) for state in order], bool),
        attained=attained,
        goal_weights=np.full(attained.shape[2], 1 / attained.shape[2]),
        n_actions=tuple(n_actions),
        humans=tuple(humans),
        robots=tuple(i for i in range(len(n_actions)) if i not in humans),
        still=tuple(still) if still is not None else (0,) * len(n_actions),
        horizon=horizon,
        digest="by hand",
    )
