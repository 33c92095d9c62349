"""Agents: each file is one whole algorithm."""

from __future__ import annotations

import torch

from apportion.agents.base import Agent
from apportion.agents.ddpg import DDPG
from apportion.agents.dqn import DQN
from apportion.agents.sac import SAC
from apportion.agents.td3 import TD3
from apportion.config import AgentConfig, DDPGConfig, DQNConfig, OnlineConfig, RewardConfig, SACConfig, TD3Config
from apportion.nets.conv import Images, check_size
from apportion.nets.normalizer import RunningNorm
from apportion.types import Spec, UserError


def make_agent(
    spec: Spec, config: AgentConfig, generator: torch.Generator, norm: RunningNorm | None, device: torch.device
) -> Agent:
    """The agent that `config` describes. `spec` must fit it (see envs.make.check_agent).

    Raises UserError for images and an agent that sees vectors only.
    """
    _check_sees(spec, config)
    match config:
        case SACConfig():
            return SAC(spec, config, generator, norm, device)
        case TD3Config():
            return TD3(spec, config, generator, norm, device)
        case DDPGConfig():
            return DDPG(spec, config, generator, norm, device)
        case DQNConfig():
            return DQN(spec, config, generator, norm, device)


def check_images(spec: Spec, config: OnlineConfig) -> None:
    """Raises UserError where `spec` is of images, and they are too small or `config` is for vectors."""
    if not spec.is_image:
        return
    _check_sees(spec, config.agent)
    check_size(Images(spec).shape)
    if config.obs_normalization:
        raise UserError("--obs-normalization is for vectors: images are divided by their largest value already")
    for flag, units, default in (
        ("--hidden", config.agent.hidden, DQNConfig().hidden),
        ("--r-hidden", config.reward.r_hidden, RewardConfig().r_hidden),
    ):
        if units != default:
            raise UserError(f"{flag} is for vectors: images have a network of fixed size (nets/conv.py): leave it out")


def _check_sees(spec: Spec, config: AgentConfig) -> None:
    if spec.is_image and not isinstance(config, DQNConfig):
        name, shape = type(config).__name__.removesuffix("Config").lower(), "x".join(map(str, spec.seen_shape))
        raise UserError(
            f"--basis-alg {name} sees vectors, and the observations here are {shape} images: flatten them in a "
            "function of your own (gymnasium.wrappers.FlattenObservation), or use dqn where actions are Discrete"
        )


__all__ = ["DDPG", "DQN", "SAC", "TD3", "Agent", "check_images", "make_agent"]
