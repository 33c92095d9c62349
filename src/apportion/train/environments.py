"""The environments of a run: what its settings say of them, in one place."""

from __future__ import annotations

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv

from apportion.config import OnlineConfig
from apportion.envs.episodic import Replayable
from apportion.envs.make import frames_of, make_one, make_vector, spec_of
from apportion.types import Spec


def training_envs(config: OnlineConfig) -> SyncVectorEnv | AsyncVectorEnv:
    """`num_envs` side by side, their rewards withheld (`ep_rews`) or, in Atari games, clipped (`normal`)."""
    withheld = config.env_type == "ep_rews"
    return make_vector(config.env, config.num_envs, config.vector, withheld, atari=config.atari, clip=not withheld)


def one_env(config: OnlineConfig, index: int = 0, render_mode: str | None = None, max_steps: int = 0) -> Replayable:
    """One by itself, with its own rewards: to look at, and for evaluations."""
    return make_one(config.env, False, index, render_mode, max_steps, atari=config.atari)


def env_spec(config: OnlineConfig, env: gym.Env | VectorEnv) -> Spec:
    """What an agent must know of `env`, one of the above."""
    return spec_of(env, frames=frames_of(config.env, config.atari))
