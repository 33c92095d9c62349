"""A world of humans and robots, as the solver and the learner see it: actions, successors with probabilities, goals.

Nothing here knows about grids. A state is one row of numbers, (F,), whatever they mean to the world; many states are
(n, F).
Letters: n states, N agents, H humans, G goals, F fields of a state, m successors in all, J joint actions.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8


class Successors(NamedTuple):
    """The successors of n (state, joint action) pairs, flat: those of pair i are rows offsets[i] to offsets[i + 1]."""

    offsets: Int[np.ndarray, "n+1"]
    states: Shaped[np.ndarray, "m F"]
    probs: Float[np.ndarray, "m"]


@runtime_checkable
class World(Protocol):
    """Several humans and robots who act at the same time. Time is not part of a state unless the rules read it."""

    name: str
    agents: tuple[str, ...]  # N names
    humans: tuple[int, ...]  # which of them are humans
    robots: tuple[int, ...]  # and which are robots: one decision maker, whose action is their joint action
    actions: tuple[tuple[str, ...], ...]  # the names of each agent's actions
    still: tuple[int | None, ...]  # each agent's action that does nothing, if it has one
    goals: tuple[str, ...]  # G names; every human may have each of them
    goal_weights: Float[np.ndarray, "G"]  # sum to 1
    horizon: int | None  # steps until the end; None: it goes on for ever
    enumerable: bool  # whether `successors` exists; if not, the world can only be sampled

    def initial(self) -> Shaped[np.ndarray, "F"]:
        """The state in which an episode starts."""
        ...

    def transitions(
        self, state: Shaped[np.ndarray, "F"], joint: Int[np.ndarray, "N"]
    ) -> tuple[Shaped[np.ndarray, "m F"], Float[np.ndarray, "m"]]:
        """The successors of one state under one joint action, each once, and their probabilities (sum 1)."""
        ...

    def successors(self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"]) -> Successors:
        """`transitions` of n pairs at once."""
        ...

    def sample(
        self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"], noise: Float[np.ndarray, "n"]
    ) -> Shaped[np.ndarray, "n F"]:
        """One successor of each pair, drawn by noise, uniform in [0, 1)."""
        ...

    def terminal(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n"]:
        """Where the rules end the episode, the horizon aside."""
        ...

    def attained(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n H G"]:
        """Which goals hold for which human."""
        ...

    def encode(self, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n E"]:
        """Features for a network, each of order 1."""
        ...

    def describe(self, state: Shaped[np.ndarray, "F"]) -> dict:
        """The state in words and numbers, for JSON. `parse` is its inverse."""
        ...

    def parse(self, description: dict) -> Shaped[np.ndarray, "F"]:
        """The state that a description means. A UserError says which entry does not fit the world."""
        ...

    def render(self, state: Shaped[np.ndarray, "F"]) -> UInt8[np.ndarray, "h w 3"]:
        """A picture."""
        ...
