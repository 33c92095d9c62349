"""What can be known to be wrong before anything is written: a slip leaves no half-made run directory behind."""

from __future__ import annotations

import torch

from apportion.agents import check_images
from apportion.config import OnlineConfig
from apportion.device import torch_device
from apportion.envs.make import check_agent, make_one, step_limit
from apportion.fast.compile import check_compiler
from apportion.rewards import Fitted, load_reward
from apportion.rewards.demo_model import DemoReward
from apportion.run.sinks import check_sinks
from apportion.train.environments import env_spec
from apportion.train.session import check_subset_size
from apportion.types import Spec, UserError


def preflight(config: OnlineConfig, log: tuple[str, ...] = ()) -> None:
    """Makes one environment and asks whether agent, sizes, device, compiler and sinks fit. Raises UserError."""
    if config.train_batches and config.warmup >= config.steps:
        raise UserError(
            f"--warmup {config.warmup} leaves nothing of --steps {config.steps} to learn in: "
            "lower --warmup or raise --steps"
        )
    env = make_one(config.env, config.env_type == "ep_rews", atari=config.atari)
    try:
        spec, limit = env_spec(config, env), step_limit(env)
        check_agent(spec, config.basis_alg)
        check_images(spec, config)
    finally:
        env.close()
    check_subset_size(config, limit)
    _check_buffer(config, limit)
    device = torch_device(config.device)
    if config.reward.alg == "model":
        _check_model(config, spec, device)
    if config.compile:
        check_compiler(device)
    check_sinks(log)


def _check_model(config: OnlineConfig, spec: Spec, device: torch.device) -> None:
    method = load_reward(config.reward.model, spec, config.reward.model_task, device)
    model = method.model if isinstance(method, Fitted) else None
    if isinstance(model, DemoReward) and model.config.is_potential and model.config.gamma != config.gamma:
        raise UserError(
            f"--gamma {config.gamma}: the potential in {config.reward.model} was made for an agent with --gamma "
            f"{model.config.gamma}: take that one"
        )


def _check_buffer(config: OnlineConfig, limit: int | None) -> None:
    if limit is not None and config.buffer_size < limit + 1:
        raise UserError(
            f"--buffer-size {config.buffer_size} cannot hold an episode of {config.env}, which may have {limit} steps: "
            f"take at least {limit + 1}, for its observations"
        )
