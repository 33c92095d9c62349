"""Small environments with known behaviour, named in tests as `envs_for_tests:Class`."""

from __future__ import annotations

import os
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import FlattenObservation, TimeLimit


class Countdown(gym.Env):
    """Observation [start, t], `start` in 2..9 drawn at reset; step t gives reward t; terminates at t = start.

    So an episode has `start` steps and return start * (start + 1) / 2. `info` leaks the reward on purpose.
    """

    observation_space: spaces.Space = spaces.Box(-100.0, 100.0, (2,), np.float64)
    action_space: spaces.Space = spaces.Box(np.float32([-2.0, 0.0]), np.float32([2.0, 10.0]))

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode
        self.start, self.t, self.resets, self.actions = 0, 0, 0, []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.start, self.t = int(self.np_random.integers(2, 10)), 0
        self.resets += 1
        return self._obs(), {"leak": 1.0}

    def step(self, action: Any):
        self.t += 1
        self.actions.append(action)
        return self._obs(), float(self.t), self.t >= self.start, False, {"leak": float(self.t)}

    def _obs(self) -> np.ndarray:
        return np.array([self.start, self.t], np.float64)


class Walk(Countdown):
    """Never ends by itself; observation entry 0 walks, driven by the action and by noise from the seeded stream."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.x = float(self.np_random.normal())
        return self._obs(), {}

    def step(self, action: Any):
        super().step(action)
        self.x += 0.1 * float(self.np_random.normal()) + 0.01 * float(np.sum(action))
        return self._obs(), self.x, False, False, {}

    def _obs(self) -> np.ndarray:
        return np.array([getattr(self, "x", 0.0), self.t], np.float64)


class WalkOfSeven(Walk):
    """Its own `spec` asks for truncation after 7 steps."""

    def __init__(self, render_mode: str | None = None):
        super().__init__(render_mode)
        self.spec = EnvSpec("WalkOfSeven-v0", entry_point="envs_for_tests:WalkOfSeven", max_episode_steps=7)


class OwnNoise(WalkOfSeven):
    """Draws from a random stream of its own that no seed reaches."""

    def step(self, action: Any):
        obs, reward, terminated, truncated, info = super().step(action)
        obs[0] += np.random.default_rng().normal()
        return obs, reward, terminated, truncated, info


class Forgetful(WalkOfSeven):
    """Forgets at reset to clear what the episode before left behind."""

    def __init__(self, render_mode: str | None = None):
        super().__init__(render_mode)
        self.total = 0.0

    def step(self, action: Any):
        obs, reward, terminated, truncated, info = super().step(action)
        self.total += obs[0]
        obs[0] = self.total
        return obs, reward, terminated, truncated, info


class NaNObservation(WalkOfSeven):
    """NaN in observation entry 1 after the third step."""

    def _obs(self) -> np.ndarray:
        obs = super()._obs()
        return np.array([obs[0], np.nan]) if self.t == 3 else obs


class NaNReward(WalkOfSeven):
    """NaN as the reward of the second step."""

    def step(self, action: Any):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, float("nan") if self.t == 2 else reward, terminated, truncated, info


class Crash(WalkOfSeven):
    """A fault of its own at the third step."""

    def step(self, action: Any):
        if self.t == 2:
            raise ZeroDivisionError("the cart fell off")
        return super().step(action)


class RareNaN(WalkOfSeven):
    """Sound for forty episodes; then NaN in observation entry 0 after the fifth step."""

    def _obs(self) -> np.ndarray:
        return super()._obs() * (np.nan if self.resets > 40 and self.t == 5 else 1.0)


class CrashAtReset(WalkOfSeven):
    """Its second reset fails."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        if self.resets == 1:
            raise RuntimeError("no more\ncarts")
        return super().reset(seed=seed, options=options)


class OldStep(WalkOfSeven):
    """The four values that step gave before Gymnasium."""

    def step(self, action: Any):
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


class FailsToStart(Countdown):
    def __init__(self, render_mode: str | None = None):
        raise RuntimeError("no such\nport")


class Dies(WalkOfSeven):
    """Takes its process with it, where that is not the one it was made for."""

    home = os.getpid()

    def step(self, action: Any):
        if os.getpid() != self.home:
            os._exit(3)
        return super().step(action)


class Drawn(Countdown):
    """Can be filmed: frame t is t in every pixel."""

    def render(self):
        return np.full((16, 16, 3), self.t, np.uint8)


class NotDrawn(Countdown):
    def render(self):
        raise OSError("no display")


class Levers(Countdown):
    """Three discrete actions that start at 5."""

    action_space = spaces.Discrete(3, start=5)


class WrongShape(Countdown):
    """Declares three entries, gives two."""

    observation_space = spaces.Box(-100.0, 100.0, (3,), np.float64)


class DictObservation(Countdown):
    observation_space = spaces.Dict({"a": spaces.Box(-100.0, 100.0, (2,), np.float64)})

    def _obs(self) -> Any:
        return {"a": super()._obs()}


class Unbounded(Countdown):
    action_space = spaces.Box(-np.inf, np.inf, (2,))


class TwoDials(Countdown):
    action_space = spaces.MultiDiscrete([3, 4])


class Matrix(Countdown):
    """Actions with two axes, (2, 2)."""

    action_space = spaces.Box(np.float32([[0, 0], [0, 0]]), np.float32([[1, 2], [3, 4]]))


class Pixels(Countdown):
    """uint8 images of 4 x 4 x 1."""

    observation_space = spaces.Box(0, 255, (4, 4, 1), np.uint8)

    def _obs(self) -> np.ndarray:
        return np.full((4, 4, 1), self.t, np.uint8)


class NeedsArgument(Countdown):
    def __init__(self, size: int):
        super().__init__()


def flattened() -> gym.Env:
    """A user's own factory."""
    return TimeLimit(FlattenObservation(DictObservation()), 5)


def not_an_env() -> int:
    return 3


class Clock(Walk):
    """Ends after 6 steps; rewards 1, 2, ..., 6 in this order: whole numbers, so that every order has one exact sum."""

    order = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)

    def step(self, action: Any):
        obs, _, _, _, info = super().step(action)
        return obs, self.order[self.t - 1], self.t == 6, False, info


class ClockBackwards(Clock):
    """The same returns from other steps: a learner that is told returns alone cannot tell the two apart."""

    order = (6.0, 5.0, 4.0, 3.0, 2.0, 1.0)
