"""A PettingZoo parallel environment in which a robot had better tag along: it lifts people to where they cannot climb.

Two humans and a robot on a ground of three places with a ledge above it, three places as well. Each stays, goes left,
goes right, or changes between ground and ledge. A human can do the last only where the robot is, in the same place when
the step begins; the robot can anywhere. Nobody is in anybody's way, and nothing is left to chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from jaxtyping import Int8, UInt8
from pettingzoo import ParallelEnv

from apportion.power.pettingzoo import Goal, ParallelWorld

LENGTH = 3  # places of the ground, and of the ledge
PLACES = 2 * LENGTH  # 0 to 2 are on the ground, 3 to 5 above them
ACTIONS = ("still", "left", "right", "change")
HUMANS, ROBOT = ("human_0", "human_1"), "robot"
FIRST = (0, 2, 3)  # where they start: the humans on the ground, the robot on the ledge
HORIZON = 8


class TagAlong(ParallelEnv):
    """The environment. Everyone sees everything: for each agent, which place it is in, one of six.

    It pays nothing, and is truncated after `steps`.
    """

    metadata = {"name": "tag-along", "render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - PettingZoo's form

    def __init__(self, steps: int = HORIZON, render_mode: str | None = None):
        self.possible_agents = [*HUMANS, ROBOT]
        self.agents: list[str] = []
        self.steps, self.render_mode = steps, render_mode
        self.places, self.time = list(FIRST), 0
        width = len(self.possible_agents) * PLACES
        self._seen = {agent: Box(0, 1, (width,), np.int8) for agent in self.possible_agents}
        self._acts = {agent: Discrete(len(ACTIONS)) for agent in self.possible_agents}

    def observation_space(self, agent: str) -> Box:
        return self._seen[agent]

    def action_space(self, agent: str) -> Discrete:
        return self._acts[agent]

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        """Everyone to the first places; `seed` and `options` change nothing."""
        self.agents, self.places, self.time = list(self.possible_agents), list(FIRST), 0
        return self._everyone(self.state()), self._everyone({})

    def state(self) -> Int8[np.ndarray, "F"]:
        """(18,): one of six for each agent."""
        return np.eye(PLACES, dtype=np.int8)[self.places].ravel()

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        """Everyone at the same time."""
        robot = self.places[-1]
        acts = [int(actions[agent]) for agent in self.possible_agents]
        self.places = [
            after(place, act, lifted=place == robot) for place, act in zip(self.places, acts, strict=True)
        ]  # the robot is where it is itself
        self.time += 1
        over = self.time >= self.steps
        found = (self._everyone(x) for x in (self.state(), 0.0, False, over, {}))
        seen, rewards, terminations, truncations, infos = found
        self.agents = [] if over else self.agents
        return seen, rewards, terminations, truncations, infos

    def _everyone(self, value: Any) -> dict[str, Any]:
        return {agent: value.copy() if hasattr(value, "copy") else value for agent in self.agents}

    def put(self, state: Int8[np.ndarray, "F"]) -> None:
        """A fresh episode that starts in `state`, as `state()` gives it."""
        self.reset()
        self.places = state.reshape(len(self.possible_agents), PLACES).argmax(1).tolist()

    def render(self) -> UInt8[np.ndarray, "h w 3"] | None:
        """Two rows of places, the ledge above the ground, and three discs: a yellow and a blue human, a grey robot."""
        if self.render_mode != "rgb_array":
            return None
        from apportion.power.grid.shapes import box, disc, pixels

        shapes = [box(p % LENGTH, 1 - p // LENGTH, 1, 1, "#f2f2ee", "#555555", 0.04) for p in range(PLACES)]
        for i, place in enumerate(self.places):
            x, y = place % LENGTH + 0.25 + 0.25 * i, 1 - place // LENGTH + 0.5
            shapes.append(disc(x, y, 0.12, ("#d0a000", "#2060c0", "#808080")[i], "#222222", 0.02))
        return pixels(shapes, LENGTH, 2, 64, "#ffffff")


def after(place: int, act: int, *, lifted: bool) -> int:
    """Where one action leads."""
    floor, x = divmod(place, LENGTH)
    if ACTIONS[act] == "change":
        return (1 - floor) * LENGTH + x if lifted else place
    x += {"still": 0, "left": -1, "right": 1}[ACTIONS[act]]
    return floor * LENGTH + min(max(x, 0), LENGTH - 1)


def at(place: int) -> Goal:
    """The goal to be in one place."""
    return lambda states, human: states[:, human * PLACES + place] == 1


def world() -> ParallelWorld:
    """The environment as a `World`, of 216 states: `apportion power solve apportion.power.tag_along:world`."""
    where = ("ground", "ledge")
    return ParallelWorld(
        TagAlong(render_mode="rgb_array"),
        humans=HUMANS,
        robots=[ROBOT],
        goals={f"{where[place // LENGTH]} {place % LENGTH}": at(place) for place in range(PLACES)},
        horizon=HORIZON,
        restore=lambda env, state, seed: env.put(state),
        samples=1,
        still=dict.fromkeys((*HUMANS, ROBOT), 0),
    )
