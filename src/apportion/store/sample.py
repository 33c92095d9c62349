"""Transitions and subsets of steps, drawn from closed episodes: pure functions of (store, generator).

The draws of several updates are made at once (`batches`, `subset_batches`): a third of the time of one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Literal

import numpy as np
import torch

from apportion.rng import Streams
from apportion.store.episodes import EpisodeStore, pack, unpack
from apportion.types import Batch, Episode, Spec, Subsets, UserError

BLOCK = 16  # updates drawn at once, where their observations take no more than
BLOCK_BYTES = 2**24


def batches(store: EpisodeStore, updates: int, n: int, gamma: float, streams: Streams, name: str) -> Iterator[Batch]:
    """For each of `updates` updates, `n` transitions from stream `name`. The store must not change meanwhile."""
    for count in _blocks(store, updates, n):
        yield from transitions(store, count * n, gamma, streams.generator(name), runs=count).split(count)


def subset_batches(
    store: EpisodeStore, updates: int, m: int, k: int | None, streams: Streams, by: Literal["length", "uniform"]
) -> Iterator[Subsets]:
    """For each of `updates` updates, `subsets` from stream "subsets". The store must not change meanwhile."""
    # whole episodes one update at a time: the longest of a block would be everybody's padding
    for count in [1] * updates if k is None else _blocks(store, updates, m * k):
        yield from subsets(store, count * m, k, streams.generator("subsets"), by).split(count)


def _blocks(store: EpisodeStore, updates: int, steps: int) -> Iterator[int]:
    """Sizes that add up to `updates`, given `steps` steps per update."""
    block = max(1, min(BLOCK, BLOCK_BYTES // ((store.spec.frames + 1) * steps * store.obs[0].nbytes)))
    for first in range(0, updates, block):
        yield min(block, updates - first)


def transitions(store: EpisodeStore, n: int, gamma: float, rng: np.random.Generator, runs: int = 1) -> Batch:
    """`n` transitions, uniformly and with replacement from all live ones, on the store's device.

    They are sorted by age within each of `runs` equal parts: each part is a draw of its own.

    `discount` is 0 at the last step of a terminated episode and `gamma` everywhere else: a truncation does not end the
    value. Raises UserError while no episode has closed.
    """
    _need_episode(store)
    number = _below(store.n_transitions, n, rng)
    number.reshape(runs, -1).sort(axis=1)  # order in a batch means nothing, and memory is walked forwards
    at, row, last = store.locate(number)
    obs, act = store.take(row, store.step_of(number, at) if store.spec.frames > 1 else None)
    # one array each for integers and floats: two copies to a GPU, not four
    ints = np.empty((2, n), np.int64)
    ints[0] = store.lengths.take(at)
    np.add(at, store.first_id, out=ints[1])
    floats = np.empty((2, n), np.float32)
    floats[0] = gamma
    floats[0, last & store.live("terminated").take(at)] = 0
    floats[1] = store.returns.take(at)
    whole_numbers, values = store.send(ints), store.send(floats)
    return Batch(
        obs=obs[0],
        act=act,
        next_obs=obs[1],
        reward=store.take_reward(row),
        discount=values[0],
        episode_return=values[1],
        length=whole_numbers[0],
        episode=whole_numbers[1],
    )


def subsets(
    store: EpisodeStore,
    m: int,
    k: int | None,
    rng: np.random.Generator,
    by: Literal["length", "uniform"] = "length",
) -> Subsets:
    """`m` episodes, with replacement, and min(k, T) distinct steps of each, uniformly over such subsets, sorted.

    Episodes are drawn in proportion to their length or uniformly. `k` None takes whole episodes (k = the longest).
    Where an episode is shorter than k the rest repeats its step 0 and `mask` is False there.
    Raises UserError while no episode has closed.
    """
    _need_episode(store)
    at = store.position(_below(store.n_transitions, m, rng)) if by == "length" else _below(store.n_episodes, m, rng)
    length = store.lengths[at]
    step = choose_steps(length, int(length.max()) if k is None else k, rng)
    mask = step < length[:, None]
    return store.gather(at, np.where(mask, step, 0), mask)


def _need_episode(store: EpisodeStore) -> None:
    if store.n_episodes == 0:
        raise UserError(
            "no episode has ended yet, and only closed episodes are learned from: raise --warmup above the longest "
            "episode times --num-envs, or give the environment a time limit"
        )


def _below(bound: int | np.ndarray, shape: int | tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Integers in [0, bound), uniform to bound / 2**53; `Generator.integers` takes several times as long for so few."""
    return (rng.random(shape) * bound).astype(np.int64)


def choose_steps(length: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """(m, k) sorted steps: all the steps where T <= k (numbers >= T fill the rest), else k distinct ones."""
    shortest, longest = int(length.min()), int(length.max())
    if longest <= k:
        return np.broadcast_to(np.arange(k), (len(length), k))
    return _redraw_doubles(length, k, rng) if shortest >= 4 * k else _smallest_keys(length, k, longest, rng)


def _redraw_doubles(length: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Draws with replacement and redraws doubles until there are none: the cost does not grow with T.

    Which entries are drawn anew depends only on which are equal, so every relabelling of the steps is equally likely:
    the subset is uniform.
    """
    step = _below(length[:, None], (len(length), k), rng)
    while True:
        step.sort(axis=1)
        episode, place = np.nonzero(step[:, 1:] == step[:, :-1])
        if len(episode) == 0:
            return step
        step[episode, place + 1] = _below(length[episode], len(episode), rng)


def _smallest_keys(length: np.ndarray, k: int, longest: int, rng: np.random.Generator) -> np.ndarray:
    """The k smallest of T random keys: for subsets that take a good part of an episode."""
    keys = rng.random((len(length), longest))
    keys[np.arange(longest) >= length[:, None]] = 2.0  # beyond the end: only where the episode has no k steps
    step = np.argpartition(keys, k - 1, axis=1)[:, :k]
    step.sort(axis=1)
    return step


class BestEpisodes:
    """The `count` episodes of highest return ever offered, in a store of their own; of equals the later stay."""

    def __init__(self, spec: Spec, count: int = 10, device: torch.device | str = "cpu"):
        self.count, self._spec, self._device = count, spec, device
        self.store = EpisodeStore(2, spec, device)  # in the order in which they came

    def offer(self, episode: Episode) -> bool:
        """Takes `episode` in if it is among the best; returns whether it was."""
        stay = list(range(self.store.next_id))
        if len(stay) == self.count:
            returns = self.store.returns.tolist()
            worst = min(returns)
            if episode.episode_return < worst:
                return False
            del stay[returns.index(worst)]
        rows = sum(int(self.store.lengths[i]) + 1 for i in stay) + episode.length + 1
        self._rebuild(rows, chain((self.store.episode(i) for i in stay), [episode]))
        return True

    def _rebuild(self, rows: int, episodes: Iterator[Episode]) -> None:
        store = EpisodeStore(max(2, rows), self._spec, self._device)
        store.refill(0, episodes)  # read from the store before
        self.store = store

    def state(self) -> dict:
        return {"episodes": pack(self.store, range(self.store.next_id))}

    def load_state(self, state: dict) -> None:
        self._rebuild(int((state["episodes"]["length"] + 1).sum()), unpack(state["episodes"]))
