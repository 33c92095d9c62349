"""The learner update, as written or compiled into one graph, in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch._dynamo import config as dynamo_config

from apportion.agents.base import Agent, Due, Noise
from apportion.rewards.source import RewardMethod
from apportion.train.update import learner_update
from apportion.types import Batch, Metrics, Subsets, UserError

Update = Callable[[RewardMethod, Agent, Batch, Subsets | None, Noise, Due], Metrics]


def make_update(compiled: bool, bf16: bool, device: torch.device) -> Update:
    """`learner_update`, made fast.

    `compiled`: gradients, Adam and target copies of reward model and agent in one graph, the same numbers to rounding;
    the first call takes half a minute, so it pays after some ten thousand updates. `bf16`: matrix products in
    bfloat16 (autocast), parameters and losses in float32; faster only on hardware that has bfloat16 arithmetic.
    """
    update: Update = _in_bf16(device.type) if bf16 else learner_update
    if not compiled:
        return update
    if not hasattr(dynamo_config, "trace_autograd_ops"):
        raise UserError(f"--compile needs a PyTorch that traces gradients (2.13 does); this is {torch.__version__}")
    traced = torch.compile(update, fullgraph=True)

    def run(
        method: RewardMethod, agent: Agent, batch: Batch, subsets: Subsets | None, noise: Noise, due: Due
    ) -> Metrics:
        with dynamo_config.patch(trace_autograd_ops=True):
            return traced(method, agent, batch, subsets, noise, due)

    return run


def _in_bf16(device_type: str) -> Update:
    def update(
        method: RewardMethod, agent: Agent, batch: Batch, subsets: Subsets | None, noise: Noise, due: Due
    ) -> Metrics:
        with torch.autocast(device_type, dtype=torch.bfloat16):
            return learner_update(method, agent, batch, subsets, noise, due)

    return update
