"""Learner updates: the reward model's step, the batch's rewards, the agent's step; in turn, or two at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TypeVar

import torch

from apportion.agents.base import Agent, Due, Noise
from apportion.fast.compile import accelerate
from apportion.rewards.source import Drawn, RewardMethod
from apportion.types import Batch, Metrics, Subsets

CPU = torch.device("cpu")

Item = TypeVar("Item")
Learner = Callable[[Iterator[Drawn], Callable[[], Noise]], Iterator[Metrics]]  # an update for each draw, with new noise


def reward_update(method: RewardMethod, batch: Batch, subsets: Subsets | None) -> tuple[Batch, Metrics]:
    """Learn the reward first, then say what the batch is paid: a stored reward would be stale."""
    learned = method.learn(subsets)
    return replace(batch, reward=method(batch)), {f"reward/{k}": v for k, v in learned.items()}


def agent_update(agent: Agent, batch: Batch, noise: Noise, due: Due) -> Metrics:
    return {f"agent/{k}": v for k, v in agent.update(batch, noise, due).items()}


def learner_update(
    method: RewardMethod, agent: Agent, batch: Batch, subsets: Subsets | None, noise: Noise, due: Due
) -> Metrics:
    """One whole update."""
    paid, learned = reward_update(method, batch, subsets)
    return learned | agent_update(agent, paid, noise, due)


def in_turn(method: RewardMethod, agent: Agent, update: Callable[..., Metrics]) -> Learner:
    """`update` is `learner_update`, perhaps made fast."""

    def learn(draws: Iterator[Drawn], noise: Callable[[], Noise]) -> Iterator[Metrics]:
        for batch, subsets in draws:
            yield update(method, agent, batch, subsets, noise(), agent.due())

    return learn


def side_by_side(method: RewardMethod, agent: Agent, bf16: bool, pool: ThreadPoolExecutor) -> Learner:
    """On the CPU: while the agent learns, the reward model does so for the next update, in `pool`, a single thread.

    Neither looks at the other's parameters, so the numbers are those of `in_turn`, to the bit.
    """
    pay = accelerate(reward_update, False, bf16, CPU)
    train = accelerate(agent_update, False, bf16, CPU)

    def learn(draws: Iterator[Drawn], noise: Callable[[], Noise]) -> Iterator[Metrics]:
        for paid, learned in _ahead((pay(method, *drawn) for drawn in draws), pool):
            yield learned | train(agent, paid, noise(), agent.due())

    return learn


def _ahead(items: Iterator[Item], pool: ThreadPoolExecutor) -> Iterator[Item]:
    """`items`, each made in `pool` while the one before it is used."""
    coming = pool.submit(next, items, None)
    while (item := coming.result()) is not None:
        coming = pool.submit(next, items, None)
        yield item
