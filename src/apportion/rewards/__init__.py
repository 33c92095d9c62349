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
            return load_reward(config.model, spec, config.model_task, device)


def load_reward(run: str, spec: Spec, task: str, device: torch.device) -> RewardMethod:
    """The reward that a run of `apportion power train` (U_r), `fit` or `train` (its model) ended with.

    Raises UserError where there is none, or it is not for the environment `spec`.
    """
    from apportion.power.learn.trained import is_trained

    if is_trained(run):
        from apportion.power.learn.reward import PowerReward

        return PowerReward.load(run, spec, device)
    return load_fitted(run, spec, task, device)


__all__ = ["IRCR", "Decomposition", "Fitted", "Given", "RewardMethod", "Uniform", "load_reward", "make_method"]
