"""Agents: each file is one whole algorithm."""

from __future__ import annotations

import torch

from apportion.agents.base import Agent
from apportion.agents.ddpg import DDPG
from apportion.agents.dqn import DQN
from apportion.agents.sac import SAC
from apportion.agents.td3 import TD3
from apportion.config import AgentConfig, DDPGConfig, DQNConfig, SACConfig, TD3Config
from apportion.nets.normalizer import RunningNorm
from apportion.types import Spec


def make_agent(
    spec: Spec, config: AgentConfig, generator: torch.Generator, norm: RunningNorm | None, device: torch.device
) -> Agent:
    """The agent that `config` describes. `spec` must fit it (see envs.make.check_agent)."""
    match config:
        case SACConfig():
            return SAC(spec, config, generator, norm, device)
        case TD3Config():
            return TD3(spec, config, generator, norm, device)
        case DDPGConfig():
            return DDPG(spec, config, generator, norm, device)
        case DQNConfig():
            return DQN(spec, config, generator, norm, device)


__all__ = ["DDPG", "DQN", "SAC", "TD3", "Agent", "make_agent"]
