"""Any PettingZoo parallel environment as a `World`: to sample from, and to count transitions where it can be restored.

An environment tells where it is, but not where it may go. With `restore`, which puts it into a given state, every
(state, joint action) can be tried as often as wanted, and the frequencies taken for probabilities (exact if the
environment is deterministic). Without it, only the episode at hand can go on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped, UInt8

from apportion.power.world import Successors
from apportion.types import UserError

Goal = Callable[[np.ndarray, int], np.ndarray]  # (states (n, F), number of the human among the humans) -> (n,) bool
Restore = Callable[[Any, np.ndarray, int], None]  # (env, state (F,), seed): puts env there, and seeds its chance


class ParallelWorld:
    """A `World` made of `env`, a `pettingzoo.ParallelEnv` whose agents all have discrete actions and never leave.

    `humans`, `robots`: which of `env.possible_agents`; `goals`: what humans may want, by name; `state(env)`: a row of
    numbers (default: `env.state()`, flat); `samples`: tries of each transition that is counted. Raises UserError for
    actions that are not discrete and agents that are not there.
    """

    def __init__(
        self,
        env: Any,
        *,
        humans: Sequence[str],
        robots: Sequence[str],
        goals: Mapping[str, Goal],
        horizon: int | None,
        state: Callable[[Any], np.ndarray] | None = None,
        restore: Restore | None = None,
        samples: int = 100,
        still: Mapping[str, int] | None = None,
        name: str = "",
        seed: int = 0,
    ):
        self.env, self.horizon, self.samples, self.seed = env, horizon, samples, seed
        self.name = name or str(getattr(env, "metadata", {}).get("name", type(env).__name__))
        self.agents = tuple(str(agent) for agent in env.possible_agents)
        missing = [agent for agent in (*humans, *robots) if agent not in self.agents]
        if missing or sorted((*humans, *robots)) != sorted(self.agents):
            wrong = f"there is no agent {missing[0]!r}" if missing else "every agent is to be a human or a robot"
            raise UserError(f"{self.name}: {wrong}; its agents are {', '.join(self.agents)}")
        self.humans = tuple(self.agents.index(agent) for agent in humans)
        self.robots = tuple(self.agents.index(agent) for agent in robots)
        spaces = [env.action_space(agent) for agent in env.possible_agents]
        for agent, space in zip(self.agents, spaces, strict=True):
            if not hasattr(space, "n"):
                raise UserError(f"{self.name}: the actions of {agent} are not discrete: {space}")
        self._first = [int(getattr(space, "start", 0)) for space in spaces]
        self.actions = tuple(tuple(str(a) for a in range(int(space.n))) for space in spaces)
        self.still = tuple((still or {}).get(agent) for agent in self.agents)
        self.goals, self._tests = tuple(goals), tuple(goals.values())
        self.goal_weights: Float[np.ndarray, "G"] = np.full(len(self.goals), 1 / len(self.goals))
        self.enumerable = restore is not None
        self._state, self._restore = state or (lambda e: np.asarray(e.state()).ravel()), restore
        self._over: set[bytes] = set()  # states in which an episode has ended
        env.reset(seed=seed)
        self._start = self._row()

    def _row(self) -> np.ndarray:
        return np.array(self._state(self.env)).ravel()

    def initial(self) -> Shaped[np.ndarray, "F"]:
        """The state after `env.reset(seed=seed)`."""
        return self._start.copy()

    def _step(self, state: np.ndarray, joint: np.ndarray, seed: int) -> np.ndarray:
        """Where one step leads. Raises UserError if the environment is elsewhere and cannot be restored."""
        if self._restore is not None:
            self._restore(self.env, state, seed)
        elif not np.array_equal(self._row(), state) or not self.env.agents:
            if not np.array_equal(state, self._start):
                raise UserError(
                    f"{self.name} cannot be put into a state: only the episode at hand can go on: --num-envs 1, or "
                    "give restore(env, state, seed)"
                )
            self.env.reset(seed=self.seed)
        acts = {a: self._first[i] + int(joint[i]) for i, a in enumerate(self.env.possible_agents)}
        _, _, terminations, _, _ = self.env.step(acts)
        row = self._row()
        if terminations and all(terminations.values()):
            self._over.add(row.tobytes())
        return row

    def transitions(
        self, state: Shaped[np.ndarray, "F"], joint: Int[np.ndarray, "N"]
    ) -> tuple[Shaped[np.ndarray, "m F"], Float[np.ndarray, "m"]]:
        """Successors and how often each came up in `samples` tries, which have the seeds 0, 1, 2, ..."""
        if self._restore is None:
            raise UserError(f"{self.name} can only be sampled: give restore(env, state, seed) to count its transitions")
        tried = np.stack([self._step(state, joint, seed) for seed in range(self.samples)])
        rows, counts = np.unique(tried, axis=0, return_counts=True)
        return rows, counts / self.samples

    def successors(self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"]) -> Successors:
        """`transitions` of n pairs, one after the other."""
        found = [self.transitions(state, joint) for state, joint in zip(states, joints, strict=True)]
        offsets = np.cumsum([0, *(len(probs) for _, probs in found)])
        rows = [rows for rows, _ in found] or [self._start[None][:0]]
        return Successors(offsets, np.concatenate(rows), np.concatenate([np.zeros(0), *(probs for _, probs in found)]))

    def sample(
        self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"], noise: Float[np.ndarray, "n"]
    ) -> Shaped[np.ndarray, "n F"]:
        """One successor of each pair. `noise` seeds a restored environment; one that goes on draws by itself."""
        seeds = (noise * 2**31).astype(np.int64)
        rows = [self._step(s, j, int(seed)) for s, j, seed in zip(states, joints, seeds, strict=True)]
        return np.stack(rows) if rows else states.copy()

    def terminal(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n"]:
        """Where an episode has ended so far: an environment does not tell before."""
        return np.array([np.ascontiguousarray(row).tobytes() in self._over for row in states], bool)

    def attained(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n H G"]:
        """Which goals hold for which human."""
        of_humans = [np.stack([test(states, h) for test in self._tests], 1) for h in range(len(self.humans))]
        return np.stack(of_humans, 1).astype(bool)

    def encode(self, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n E"]:
        """The numbers as they are."""
        return states.astype(np.float32)

    def describe(self, state: Shaped[np.ndarray, "F"]) -> dict:
        """{"state": the numbers}."""
        return {"state": state.tolist()}

    def parse(self, description: dict) -> Shaped[np.ndarray, "F"]:
        """The state that a description means. Raises UserError for anything but so many numbers."""
        try:
            state = np.array(description["state"], self._start.dtype)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"state: numbers are wanted: {error}") from None
        if state.shape != self._start.shape:
            raise UserError(f"state: {self._start.size} numbers are wanted, not {state.size}")
        return state

    def render(self, state: Shaped[np.ndarray, "F"]) -> UInt8[np.ndarray, "h w 3"]:
        """The environment's own picture. Raises UserError if it draws none, or cannot be put into `state`."""
        if self._restore is not None:
            self._restore(self.env, state, 0)
        elif not np.array_equal(self._row(), state):
            raise UserError(f"{self.name} cannot be put into a state: only where it is now can be drawn")
        picture = self.env.render()
        if not isinstance(picture, np.ndarray):
            raise UserError(f"{self.name} draws no picture: make it with render_mode='rgb_array'")
        return picture.astype(np.uint8)
