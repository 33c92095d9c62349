"""Two wrappers around one environment: one withholds the reward until the episode ends, one guards and replays."""

from __future__ import annotations

import math
from typing import Any, SupportsFloat

import gymnasium as gym
import numpy as np

from apportion.envs.faults import TRY, said
from apportion.types import UserError


class EpisodicReward(gym.Wrapper):
    """Gives 0 at every step but the last one, which gives the whole undiscounted return (summed in float64).

    `info` is emptied, at resets too: MuJoCo's tasks put the parts of the withheld reward there.
    """

    def __init__(self, env: gym.Env):
        super().__init__(env)
        self._sum = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        obs, _ = self.env.reset(seed=seed, options=options)
        self._sum = 0.0
        return obs, {}

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        obs, reward, terminated, truncated, _ = self.env.step(action)
        self._sum += float(reward)
        # A NaN or infinity goes out at once, so that whoever checks can name the step that made it.
        ended = terminated or truncated or not math.isfinite(self._sum)
        return obs, self._sum if ended else 0.0, terminated, truncated, {}


class Replayable(gym.Wrapper):
    """The outermost wrapper: plays the open episode of environment `index` again, from its seed and its actions.

    Whatever the environment raises, and an observation of another shape than it declares, becomes a UserError.
    """

    def __init__(self, env: gym.Env, index: int):
        super().__init__(env)
        self._index = index
        self._shape = env.observation_space.shape
        self._seed: int | None = None
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self._seed, self._steps = seed, 0
        try:
            obs, info = self.env.reset(seed=seed, options=options)
        except Exception as error:
            raise self._fault(f"raised {said(error)}") from error
        self._check_shape(obs)
        return obs, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        try:
            obs, reward, terminated, truncated, info = self.env.step(action)
            reward, terminated, truncated = float(reward), bool(terminated), bool(truncated)
        except Exception as error:
            raise self._fault(f"raised {said(error)}") from error
        self._check_shape(obs)
        return obs, reward, terminated, truncated, info

    def _check_shape(self, obs: Any) -> None:
        if self._shape is not None and np.shape(obs) != self._shape:
            raise self._fault(f"gave an observation of shape {np.shape(obs)} where its space says {self._shape}")

    def _fault(self, what: str) -> UserError:
        when = f"at step {self._steps} of its episode with" if self._steps else "at its reset with"
        return UserError(f"environment {self._index} {what}, {when} seed {self._seed}: {TRY}")

    def replay(self, episodes: list[tuple[int, np.ndarray] | None]) -> np.ndarray | None:
        """Reset with the seed and take all actions (in the environment's own units) of `episodes[index]`.

        `VectorEnv.call` hands every environment the same list, hence the index. Returns the last observation, or None
        where there is nothing to replay or the episode ended before its actions did (so it was not the same episode).
        """
        episode = episodes[self._index]
        if episode is None:
            return None
        seed, actions = episode
        obs, _ = self.reset(seed=seed, options={})  # the vector environments pass {} too
        ended = False
        for action in actions:
            if ended:
                return None
            obs, _, terminated, truncated, _ = self.step(action)
            ended = terminated or truncated
        return None if ended else np.array(obs)
