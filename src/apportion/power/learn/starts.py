"""Where episodes start: in the world's one initial state, or in one of several, drawn anew each time."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Shaped

from apportion.power.world import World


@runtime_checkable
class ManyStarts(Protocol):
    """What a World has besides, if its episodes do not all start alike."""

    def starts(self, noise: Float[np.ndarray, "n"]) -> Shaped[np.ndarray, "n F"]:
        """One initial state for each number of `noise`, uniform in [0, 1)."""
        ...


def starts(world: World, noise: Float[np.ndarray, "n"]) -> Shaped[np.ndarray, "n F"]:
    """Initial states of as many episodes as there is `noise`: `world.starts`, else `world.initial` each time."""
    if isinstance(world, ManyStarts):
        return world.starts(noise)
    return np.repeat(world.initial()[None], len(noise), 0)
