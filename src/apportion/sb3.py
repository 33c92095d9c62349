"""Return decomposition for stable-baselines3's off-policy agents, as a replay buffer.

    SAC("MlpPolicy", env, replay_buffer_class=DecompositionReplayBuffer, replay_buffer_kwargs=dict(method="rrd"))

Their SAC, TD3, DDPG and DQN, and sb3-contrib's TQC. The buffer is `apportion.buffer`; what is here is their interface.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from apportion.buffer import DecompositionBuffer, Method
from apportion.envs.make import spec_of
from apportion.run.tree import from_bytes, to_bytes
from apportion.types import UserError

try:
    from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
    from stable_baselines3.common.preprocessing import is_image_space, is_image_space_channels_first
    from stable_baselines3.common.type_aliases import ReplayBufferSamples
    from stable_baselines3.common.vec_env import VecNormalize
except ImportError as error:
    raise UserError("apportion.sb3 needs stable-baselines3: pip install 'apportion[sb3]'") from error


class DecompositionReplayBuffer(ReplayBuffer):
    """Closed episodes whose rewards a method learns from their returns: one gradient step of it each time they sample.

    `replay_buffer_kwargs`: `method` (rrd, rd, ircr, uniform, none, a `RewardConfig`, or a `RewardMethod` of your own),
    `seed` (of the reward network and of everything drawn) and their `handle_timeout_termination` (a time limit does
    not end the value; False: it does). `buffer_size` counts observations: an episode of T steps takes T + 1. Their
    `learning_starts` must lie behind the end of the first episode. A `VecNormalize` normalises what is sampled; the
    reward network sees observations as they are.

    `core` is the buffer underneath: `core.metrics`, `core.method`, `core.save(path)` without pickle.
    Raises UserError for spaces without a method here, and for `optimize_memory_usage`.
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: torch.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        method: Method = "rrd",
        seed: int = 0,
    ):
        # not ReplayBuffer's own: it makes the columns that `core` has in its place
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs=n_envs)
        if optimize_memory_usage:
            raise UserError("leave optimize_memory_usage out: this buffer keeps each observation once anyway")
        self.optimize_memory_usage = False
        self.handle_timeout_termination = handle_timeout_termination
        # (channels, height, width), as their VecTransposeImage gives it; a Spec's images have the channels last
        self.channels_first = is_image_space(observation_space) and is_image_space_channels_first(observation_space)  # type: ignore[arg-type]
        self._core_device = self.device
        self.core = DecompositionBuffer(
            spec_of(_Spaces(observation_space, action_space, self.channels_first)),
            method,
            capacity=buffer_size,
            num_envs=n_envs,
            gamma=1.0,  # the discount is the agent's own business: what is left is 1 - terminated
            seed=seed,
            device=self.device,
            actions="unit",
        )

    def add(
        self,
        obs: np.ndarray,
        next_obs: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        done: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """One step of every environment, as their agents hand it over: `next_obs` is the terminal observation."""
        done = np.asarray(done, np.bool_)
        cut = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos]) & done
        ends = done & ~cut if self.handle_timeout_termination else done
        action, shape = np.asarray(action), (self.n_envs, *self.core.spec.act_shape)
        if action.size != np.prod(shape):
            raise UserError(
                f"the agent's actions are {action.shape}, those of this buffer {shape}: a saved one is for an agent "
                "with as many environments and the same spaces"
            )
        action = action.reshape(shape)
        self.core.add(self._stored(obs), action, reward, ends, cut, self._stored(next_obs))

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> ReplayBufferSamples:
        """Learned rewards, `dones` (n, 1) only where an episode terminated, actions as their policies scale them."""
        if self.device != self._core_device:  # their `load_replay_buffer` has set it
            self.core.to(self.device)
            self._core_device = self.device
        batch = self.core.sample(batch_size)
        obs, next_obs = self._theirs(batch.obs, env), self._theirs(batch.next_obs, env)
        reward = batch.reward[:, None]
        if env is not None:
            reward = self.to_torch(self._normalize_reward(reward.cpu().numpy(), env))
        act = batch.act.reshape(batch_size, self.action_dim)
        return ReplayBufferSamples(obs, act, next_obs, 1 - batch.discount[:, None], reward)

    def size(self) -> int:
        """Transitions of closed episodes."""
        return len(self.core)

    def reset(self) -> None:
        """Forgets all episodes; the reward method stays as it is."""
        self.core.forget()

    def _stored(self, obs: np.ndarray) -> np.ndarray:
        obs = np.asarray(obs)
        return np.moveaxis(obs, 1, -1) if self.channels_first else obs

    def _theirs(self, obs: torch.Tensor, env: VecNormalize | None) -> torch.Tensor:
        obs = obs.movedim(-1, 1) if self.channels_first else obs
        return obs if env is None else self.to_torch(np.asarray(env.normalize_obs(obs.cpu().numpy())))

    def __getstate__(self) -> dict[str, Any]:
        """What their `save_replay_buffer` keeps: the arguments, and the state as JSON and safetensors."""
        names = ("buffer_size", "observation_space", "action_space", "n_envs", "handle_timeout_termination")
        kept = {name: getattr(self, name) for name in names}
        return {**kept, "method": self.core.given, "state": to_bytes(self.core.state())}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        state = from_bytes(kept.pop("state"))
        # on the CPU: the device it was saved from may not be here, and theirs sets it anew
        DecompositionReplayBuffer.__init__(self, **kept, device="cpu")
        self.core.load_state(state)


class _Spaces(gym.Env):
    """Two spaces in the form in which `spec_of` takes them."""

    def __init__(self, observations: spaces.Space, actions: spaces.Space, channels_first: bool):
        self.observation_space, self.action_space = observations, actions
        if channels_first and isinstance(observations, spaces.Box):
            low, high = (np.moveaxis(bound, 0, -1) for bound in (observations.low, observations.high))
            self.observation_space = spaces.Box(low, high, dtype=np.uint8)
