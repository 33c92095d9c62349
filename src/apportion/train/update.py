"""One learner update: the reward model's step, the batch's rewards, the agent's step."""

from __future__ import annotations

from dataclasses import replace

from apportion.agents.base import Agent, Due, Noise
from apportion.rewards.source import RewardMethod
from apportion.types import Batch, Metrics, Subsets


def learner_update(
    method: RewardMethod, agent: Agent, batch: Batch, subsets: Subsets | None, noise: Noise, due: Due
) -> Metrics:
    """Learn the reward first, then let the agent train on what it now says: a stored reward would be stale."""
    learned = method.learn(subsets)
    acted = agent.update(replace(batch, reward=method(batch)), noise, due)
    return {f"reward/{k}": v for k, v in learned.items()} | {f"agent/{k}": v for k, v in acted.items()}
