"""What a world is to its robots: a Gymnasium environment. Humans act by their prior, for goals that come and go.

By name: `--env power:WORLD` and `--env power:RUN`, the world of a run of `apportion power train`, which pays U_r.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from jaxtyping import Float32, UInt8

from apportion.power.learn.features import features
from apportion.power.learn.goals import NONE, draw, resample
from apportion.power.learn.prior import HumanPrior
from apportion.power.learn.priors import make_prior
from apportion.power.learn.reward import on_arrival
from apportion.power.learn.starts import starts
from apportion.power.learn.trained import UR, is_trained, prior_of, u_r_of, world_of
from apportion.power.params import PowerParams
from apportion.power.rollout import GOAL_RESAMPLE, robot_action_names
from apportion.power.runs import open_world
from apportion.power.world import World
from apportion.types import UserError

ENDLESS = 50  # steps after which an episode of a world without a horizon is truncated


class PowerEnv(gym.Env[Float32[np.ndarray, "E"], np.int64]):
    """All robots, as one decision maker. It pays `u_r` of where a step leads (`on_arrival`); without it, nothing.

    Observation: `features` of the state and, with a horizon, of the time. Action: the robots' joint action, the last
    robot's fastest. `terminated` where the rules or the horizon end the episode; a world without a horizon is truncated
    after `steps`. `info` tells what robots do not see: the humans' "goals" (H,), and the "state" (F,) itself.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's form

    def __init__(
        self,
        world: World,
        prior: HumanPrior,
        *,
        u_r: UR | None = None,
        goal_resample_prob: float = GOAL_RESAMPLE,
        steps: int = ENDLESS,
        render_mode: str | None = None,
    ):
        self.world, self.prior, self.u_r, self.render_mode = world, prior, u_r, render_mode
        self.goal_resample_prob, self.steps = goal_resample_prob, steps
        self._sizes = tuple(len(world.actions[r]) for r in world.robots)
        self.action_names = robot_action_names(world.actions, world.robots)
        self.action_space = Discrete(len(self.action_names))
        self._state, self._t, self._goals = world.initial(), 0, np.full((1, len(world.humans)), NONE)
        self.observation_space = Box(-np.inf, np.inf, self._seen().shape, np.float32)

    def _seen(self) -> Float32[np.ndarray, "E"]:
        return features(self.world, self._state[None], np.array([self._t]))[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, "E"], dict[str, Any]]:
        """Everything that follows is drawn by `seed`, if it is given."""
        super().reset(seed=seed)
        self._state, self._t = starts(self.world, self.np_random.random(1))[0], 0
        self._goals = np.full((1, len(self.world.humans)), NONE)
        self._want()
        return self._seen(), self._info()

    def step(self, action: np.int64 | int) -> tuple[Float32[np.ndarray, "E"], float, bool, bool, dict[str, Any]]:
        """One step of everyone."""
        joint = np.zeros((1, len(self.world.agents)), np.int64)
        joint[0, list(self.world.humans)] = self._people()
        if self._sizes:
            joint[0, list(self.world.robots)] = np.unravel_index(int(action), self._sizes)
        self._state = self.world.sample(self._state[None], joint, self.np_random.random(1))[0]
        self._t += 1
        terminated = self._t == self.world.horizon or bool(self.world.terminal(self._state[None])[0])
        truncated = self.world.horizon is None and self._t >= self.steps
        self._want()
        seen = self._seen()
        return seen, self._pay(seen, terminated), terminated, truncated, self._info()

    def _pay(self, seen: Float32[np.ndarray, "E"], terminated: bool) -> float:
        if self.u_r is None:
            return 0.0
        with torch.no_grad():
            return float(on_arrival(self.u_r, torch.from_numpy(seen)[None], torch.tensor([terminated])))

    def _want(self) -> None:
        """Each human's goal from now on."""
        attained = self.world.attained(self._state[None])
        noise = self.np_random.random((*self._goals.shape, 2))
        self._goals = resample(self._goals, attained, self.world.goal_weights, self.goal_resample_prob, noise)

    def _people(self) -> np.ndarray:
        """(H,) what each human does for its goal."""
        policy = self.prior(self._state[None], np.array([self._t]))[0]
        chosen = policy[np.arange(len(policy)), self._goals[0]]
        return draw(chosen, self.np_random.random(len(policy)))

    def _info(self) -> dict[str, Any]:
        return {"goals": self._goals[0].copy(), "state": self._state.copy()}

    def render(self) -> UInt8[np.ndarray, "h w 3"] | None:
        """The world's picture of where it is, with render_mode="rgb_array"."""
        return self.world.render(self._state) if self.render_mode == "rgb_array" else None


def make_env(source: str, render_mode: str | None = None) -> PowerEnv:
    """The environment that `power:source` names. A run has its own prior, and pays its U_r; in any other world humans
    act by the exact prior of the default parameters, and nothing is paid.

    Raises UserError where there is no such world or run, or no exact prior.
    """
    if is_trained(source):
        run = Path(source).resolve()
        return PowerEnv(world_of(run), prior_of(run), u_r=u_r_of(run), render_mode=render_mode)
    return PowerEnv(open_world(source), _exact_prior(source), render_mode=render_mode)


@functools.lru_cache(maxsize=4)  # environments side by side share it: asking it changes nothing
def _exact_prior(source: str) -> HumanPrior:
    try:
        return make_prior("exact", open_world(source), PowerParams(), steps=0, seed=0, say=lambda line: None)
    except UserError as error:
        raise UserError(
            f"--env power:{source}: {error}; after apportion power train {source} its run can be named: power:RUN"
        ) from error
