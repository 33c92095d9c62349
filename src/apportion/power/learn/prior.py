"""What humans are believed to do (Phase 1): the interface of every prior, and the softmax that most of them end in.

Letters: n states, F fields, H humans, G goals, A actions (the most that any human has), E features.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int, Shaped

from apportion.power import equations as eq
from apportion.power.params import PowerParams
from apportion.power.world import World


@runtime_checkable
class HumanPrior(Protocol):
    """pi_h(. | s, g) of Phase 1, for batches of states."""

    def __call__(self, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n H G A"]:
        """Probabilities, 0 beyond a human's own number of actions. `t`: steps so far; ignored without a horizon.

        Where a goal holds, its human does `still`, or anything without such an action. From the horizon on nobody acts:
        uniform.
        """
        ...

    def state(self) -> dict[str, Any]:
        """What was learned, as a tree that a checkpoint takes; {} if nothing was."""
        ...

    def load_state(self, state: dict[str, Any]) -> None: ...


def policy_of_values(
    q: Float32[np.ndarray, "n H G A"], attained: Bool[np.ndarray, "n H G"], world: World, params: PowerParams
) -> Float32[np.ndarray, "n H G A"]:
    """pi_h from Q_h^m, which is not read beyond a human's own number of actions."""
    out = np.zeros(q.shape, np.float32)
    for h, agent in enumerate(world.humans):
        size = len(world.actions[agent])
        found = eq.human_policy(
            torch.from_numpy(np.ascontiguousarray(q[:, h, :, :size])),
            torch.from_numpy(attained[:, h]),
            params.beta_h,
            world.still[agent],
            params.nu_h,
        )
        out[:, h, :, :size] = found.numpy()
    return out
