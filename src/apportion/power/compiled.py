"""A world, compiled once: every state that can be reached, and where every joint action leads, in flat arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from apportion.power.world import World


@dataclass(frozen=True)
class Compiled:
    """The states of a world, in the order of the fewest steps that lead to them, and their successors.

    Row s * J + j of the sparse matrix (indptr, indices, probs) holds the successors of state s < expanded under joint
    action j. Joint actions are counted with the last agent fastest (C order over agents). States from `expanded` on are
    reached at the horizon only: nobody acts there, and they have no rows.
    """

    name: str
    states: Shaped[np.ndarray, "S F"]
    level_start: Int[np.ndarray, "levels"]  # states with fewest steps l: level_start[l] to level_start[l + 1]
    expanded: int
    indptr: Int[np.ndarray, "rows"]  # int64
    indices: Int[np.ndarray, "nnz"]  # int32 or int64
    probs: Float[np.ndarray, "nnz"]  # float64
    terminal: Bool[np.ndarray, "S"]  # the rules end the episode here
    attained: Bool[np.ndarray, "S H G"]
    goal_weights: Float[np.ndarray, "G"]
    n_actions: tuple[int, ...]  # per agent
    humans: tuple[int, ...]
    robots: tuple[int, ...]
    still: tuple[int | None, ...]  # per agent
    horizon: int | None
    digest: str  # of the world's content: names the cache and what is solved from it

    @property
    def joint_actions(self) -> int:
        return int(np.prod(self.n_actions, dtype=np.int64))

    @property
    def robot_actions(self) -> int:
        """How many joint actions the robots have; one (empty) without robots. The last robot's changes fastest."""
        return int(np.prod([self.n_actions[r] for r in self.robots], dtype=np.int64))

    def reached(self, t: int) -> int:
        """States [0, reached(t)) are those that t steps or fewer can lead to."""
        return int(self.level_start[min(t + 1, len(self.level_start) - 1)])


def assemble(
    world: World,
    states: Shaped[np.ndarray, "S F"],
    level_start: Int[np.ndarray, "levels"],
    expanded: int,
    successors: tuple[Int[np.ndarray, "rows"], Int[np.ndarray, "nnz"], Float[np.ndarray, "nnz"]],
    digest: str,
) -> Compiled:
    """What was found in `world` beside what it says of itself; `successors`: (indptr, indices, probs)."""
    indptr, indices, probs = successors
    return Compiled(
        name=world.name,
        states=states,
        level_start=level_start,
        expanded=expanded,
        indptr=indptr,
        indices=indices,
        probs=probs,
        terminal=world.terminal(states),
        attained=world.attained(states),
        goal_weights=world.goal_weights,
        n_actions=tuple(len(names) for names in world.actions),
        humans=world.humans,
        robots=world.robots,
        still=world.still,
        horizon=world.horizon,
        digest=digest,
    )
