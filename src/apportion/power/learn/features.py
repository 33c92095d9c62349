"""What a network sees of a state: the world's own encoding and how much time is left."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int, Shaped

from apportion.power.world import World

MOST_STEPS = 64  # remaining steps that have a feature of their own


def features(world: World, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n E"]:
    """`world.encode(states)`; with a horizon also the share of it that is left, and a one-hot of the steps left.

    `t`: steps so far, 0 to the horizon. Without a horizon it is not used.
    """
    return with_clock(world.encode(states), t, world.horizon)


def with_clock(
    encoded: Float32[np.ndarray, "n K"], t: Int[np.ndarray, "n"], horizon: int | None
) -> Float32[np.ndarray, "n E"]:
    """States that are encoded already, and the time."""
    if horizon is None:
        return encoded
    left = horizon - np.asarray(t, np.int64)
    clock = np.zeros((len(encoded), clock_width(horizon)), np.float32)
    clock[:, 0] = left / horizon
    soon = np.flatnonzero(left < clock.shape[1] - 1)
    clock[soon, 1 + left[soon]] = 1
    return np.concatenate([encoded, clock], 1)


def clock_width(horizon: int | None) -> int:
    """How many of the features tell the time."""
    return 0 if horizon is None else 2 + min(horizon, MOST_STEPS)


def width(world: World) -> int:
    """How many features there are."""
    return world.encode(world.initial()[None]).shape[1] + clock_width(world.horizon)
