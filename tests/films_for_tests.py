"""Environments that are images or can be drawn, for the tests of film strips and films."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Planes(gym.Env):
    """Four binary planes of 10 x 10: a walker at column t mod 10, what it wants, and two corners. 12 to 30 steps.

    Action 0 pays 1 where the walker is in the column of what it wants.
    """

    observation_space = spaces.Box(0, 1, (10, 10, 4), np.uint8)
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.t, self.end, self.wish = 0, int(self.np_random.integers(12, 31)), int(self.np_random.integers(10))
        return self._obs(), {}

    def step(self, action: Any):
        reward = float(action == 0 and self.t % 10 == self.wish)
        self.t += 1
        return self._obs(), reward, self.t >= self.end, False, {}

    def render(self):
        return np.full((20, 24, 3), 8 * self.t, np.uint8)

    def _obs(self) -> np.ndarray:
        obs = np.zeros((10, 10, 4), np.uint8)
        obs[5, self.t % 10, 0] = obs[2, self.wish, 1] = obs[9, 0, 2] = obs[9, 9, 3] = 1
        return obs


class DrawnAnew(Planes):
    """An episode's length comes from no seed: a second play is of another one."""

    plays = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        out = super().reset(seed=seed)
        DrawnAnew.plays += 1
        self.end = 10 + DrawnAnew.plays
        return out


class Torn(Planes):
    """Cannot be drawn after three steps."""

    def render(self):
        if self.t == 3:
            raise OSError("the screen went dark")
        return super().render()
