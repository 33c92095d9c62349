"""Reward sources: the environment's own, uniform, guidance, learned."""

from __future__ import annotations

import torch

from apportion.config import RewardConfig
from apportion.nets.normalizer import RunningNorm
from apportion.rewards.decomposition import Decomposition
from apportion.rewards.fitted import Fitted, load_fitted
from apportion.rewards.ircr import IRCR
from apportion.rewards.source import Given, RewardMethod, Uniform
from apportion.types import Spec


def make_method(
    spec: Spec, config: RewardConfig, generator: torch.Generator, norm: RunningNorm | None, device: torch.device
) -> RewardMethod:
    """The reward method that `config` describes."""
    match config.alg:
        case "rrd" | "rd":
            return Decomposition(spec, config, generator, norm, device)
        case "ircr":
            return IRCR(spec, config.ircr_variant, device)
        case "uniform":
            return Uniform()
        case "none":
            return Given()
        case "model":
            return load_fitted(config.model, spec, config.model_task, device)


__all__ = ["IRCR", "Decomposition", "Fitted", "Given", "RewardMethod", "Uniform", "make_method"]
