"""Reward methods: what the per-step reward of a drawn batch is, and how it is learned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from apportion.rng import Streams
from apportion.store import sample
from apportion.store.episodes import EpisodeStore
from apportion.types import Batch, Episode, Metrics, Subsets

Drawn = tuple[Batch, Subsets | None]  # what one update learns from


@runtime_checkable
class RewardMethod(Protocol):
    """A RewardSource that may learn from the stored episodes. The loop calls the four verbs in this order."""

    def closed(self, episode: Episode) -> Episode:
        """An episode has ended; returns it as it is to be stored."""
        ...

    def draws(self, store: EpisodeStore, updates: int, n: int, gamma: float, streams: Streams) -> Iterator[Drawn]:
        """For each update: n transitions for the agent, and the subsets to learn from. The store must not change."""
        ...

    def learn(self, subsets: Subsets | None) -> Metrics:
        """One gradient step, where there is something to learn."""
        ...

    def __call__(self, batch: Batch) -> Float[Tensor, "n"]:
        """The reward of each transition, without gradient."""
        ...

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class Given:
    """The reward that the environment shows: dense, or in `ep_rews` the return at the last step."""

    def closed(self, episode: Episode) -> Episode:
        return episode

    def draws(self, store: EpisodeStore, updates: int, n: int, gamma: float, streams: Streams) -> Iterator[Drawn]:
        return ((batch, None) for batch in sample.batches(store, updates, n, gamma, streams, "batch"))

    def learn(self, subsets: Subsets | None) -> Metrics:
        return {}

    def __call__(self, batch: Batch) -> Float[Tensor, "n"]:
        return batch.reward

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


class Uniform(Given):
    """R/T for every step of an episode: the control that any decomposition must beat."""

    def __call__(self, batch: Batch) -> Float[Tensor, "n"]:
        return batch.episode_return / batch.length


def per_step_return(episode: Episode) -> float:
    """R/T."""
    return episode.episode_return / episode.length
