"""Closed episodes in one ring of flat columns; each observation is kept once, T + 1 per episode.

An episode takes T + 1 consecutive rows (modulo the capacity); the last of them holds only the final observation. The
table beside the columns is plain NumPy: where each episode starts, its length, how it ended, what it returned.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from apportion.types import Episode, Spec, Subsets, UserError

_TABLE = {
    "start": np.int64,  # first row
    "length": np.int64,  # T
    "end": np.int64,  # transitions ever added, up to and with this episode: what sampling searches in
    "terminated": np.bool_,
    "episode_return": np.float64,
    "env": np.int64,
    "seed": np.int64,
}


class EpisodeStore:
    """The newest closed episodes that fit in `capacity` rows; whole oldest episodes make place for new ones.

    Which episodes are live depends only on the sequence of lengths, never on when the store was made: a store that is
    refilled from any older episode on holds the same ones.
    """

    def __init__(self, capacity: int, spec: Spec, device: torch.device | str = "cpu"):
        if capacity < 2:
            raise UserError(f"--buffer-size {capacity} holds no episode: one step takes 2 observations, give it more")
        self.capacity, self.spec, self.device = capacity, spec, torch.device(device)
        self.obs = self._column(spec.obs_dtype, *spec.obs_shape)
        self.act = self._column(spec.act_dtype, *spec.act_shape)
        self.reward = self._column("float32")
        # on the CPU NumPy's take needs about half of the time of torch's index_select
        columns = (self.obs, self.act, self.reward)
        self._views = tuple(c.numpy() for c in columns) if self.device.type == "cpu" else None
        self._reset(first_id=0)

    def _column(self, dtype: str, *shape: int) -> Tensor:
        # NumPy's zeros come from calloc: pages never written cost nothing (torch.zeros on the CPU writes them all)
        if self.device.type == "cpu":
            return torch.from_numpy(np.zeros((self.capacity, *shape), dtype=dtype))
        return torch.zeros((self.capacity, *shape), dtype=getattr(torch, dtype), device=self.device)

    def _reset(self, first_id: int) -> None:
        self._table = {name: np.zeros(64, dtype) for name, dtype in _TABLE.items()}
        self._low = self._high = 0  # live episodes are the table's entries [low, high)
        self._row = 0  # where the next episode starts
        self._used = 0  # rows taken
        self._evicted = 0  # transitions that are no longer here
        self.next_id = first_id  # running number of the next episode

    # ---------------------------------------------------------------- what is in it

    @property
    def n_episodes(self) -> int:
        return self._high - self._low

    @property
    def first_id(self) -> int:
        """Running number of the oldest live episode (`next_id` if there is none)."""
        return self.next_id - self.n_episodes

    @property
    def n_transitions(self) -> int:
        return self._used - self.n_episodes

    @property
    def nbytes(self) -> int:
        """Bytes of columns and table."""
        columns = sum(c.nbytes for c in (self.obs, self.act, self.reward))
        return columns + sum(c.nbytes for c in self._table.values())

    def live(self, name: str) -> np.ndarray:
        """A column of the table over the live episodes, oldest first: a view, not to be written to."""
        return self._table[name][self._low : self._high]

    @property
    def lengths(self) -> np.ndarray:
        """(episodes,) int64 steps T of each live episode, oldest first."""
        return self.live("length")

    @property
    def returns(self) -> np.ndarray:
        """(episodes,) float64 undiscounted return of each live episode, oldest first."""
        return self.live("episode_return")

    # ---------------------------------------------------------------- adding

    def add(self, episode: Episode) -> int:
        """Copies `episode` in, evicting the oldest ones until it fits; returns its running number.

        Raises UserError for an episode that can never fit, ValueError for arrays of the wrong shape.
        """
        self._check(episode)
        need = episode.length + 1
        while self._used + need > self.capacity:
            gone = int(self._table["length"][self._low])
            self._used -= gone + 1
            self._evicted += gone
            self._low += 1
        for column, values in ((self.obs, episode.obs), (self.act, episode.act), (self.reward, episode.reward)):
            self._write(column, values)
        self._append(
            start=self._row,
            length=episode.length,
            end=self._evicted + self.n_transitions + episode.length,
            terminated=episode.terminated,
            episode_return=episode.episode_return,
            env=episode.env,
            seed=episode.seed,
        )
        self._row = (self._row + need) % self.capacity
        self._used += need
        self.next_id += 1
        return self.next_id - 1

    def _check(self, episode: Episode) -> None:
        length = episode.length
        if length + 1 > self.capacity:
            raise UserError(
                f"an episode of {length} steps takes {length + 1} observations and --buffer-size is {self.capacity}: "
                f"give --buffer-size at least {length + 1}"
            )
        for name, values, shape in (
            ("obs", episode.obs, (length + 1, *self.spec.obs_shape)),
            ("act", episode.act, (length, *self.spec.act_shape)),
            ("reward", episode.reward, (length,)),
        ):
            if length == 0 or values.shape != shape:
                raise ValueError(f"episode.{name} has shape {values.shape}, expected {shape} (and at least 1 step)")

    def _write(self, column: Tensor, values: np.ndarray) -> None:
        new = torch.from_numpy(np.ascontiguousarray(values))
        before_wrap = min(len(new), self.capacity - self._row)
        column[self._row : self._row + before_wrap].copy_(new[:before_wrap])
        if before_wrap < len(new):
            column[: len(new) - before_wrap].copy_(new[before_wrap:])

    def _append(self, **entry: int | float | bool) -> None:
        if self._high == len(self._table["start"]):
            n = self.n_episodes
            size = max(64, 2 * n)  # doubled when full of live ones, else only moved to the front
            for name, column in self._table.items():
                self._table[name] = np.zeros(size, column.dtype)
                self._table[name][:n] = column[self._low : self._high]
            self._low, self._high = 0, n
        for name, value in entry.items():
            self._table[name][self._high] = value
        self._high += 1

    # ---------------------------------------------------------------- looking up

    def position(self, transition: np.ndarray) -> np.ndarray:
        """(n,) positions in the live table of live transitions numbered 0 to n_transitions - 1, oldest first."""
        return self.live("end").searchsorted(transition + self._evicted, side="right")

    def locate(self, transition: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position in the live table, row, and whether it is its episode's last step, of live transitions as above."""
        at = self.position(transition)
        row = transition + at  # each earlier episode has one row more than transitions
        row += self._table["start"][self._low]
        last = self.live("end").take(at) == transition + (self._evicted + 1)
        return at, self._wrapped(row), last

    def rows(self, at: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Rows of the columns for steps of the live episodes at table positions `at`."""
        return self._wrapped(self.live("start").take(at) + step)

    def _wrapped(self, row: np.ndarray) -> np.ndarray:
        return np.where(row < self.capacity, row, row - self.capacity)

    def take(self, row: np.ndarray) -> tuple[Tensor, Tensor]:
        """Copies: obs at rows (...) and at the rows after them, as (2, ..., *obs); act at the rows."""
        both = np.empty((2, *row.shape), np.int64)
        both[0] = row
        np.add(row, 1, out=both[1])
        both[1, both[1] == self.capacity] = 0
        if self._views is not None:
            return torch.from_numpy(self._views[0].take(both, axis=0)), torch.from_numpy(
                self._views[1].take(row, axis=0)
            )
        rows = self.send(both)
        return self.obs[rows], self.act[rows[0]]

    def take_reward(self, row: np.ndarray) -> Tensor:
        """A copy of reward at rows (...): on its own, for subsets do without."""
        if self._views is not None:
            return torch.from_numpy(self._views[2].take(row))
        return self.reward[self.send(row)]

    def episode(self, number: int) -> Episode:
        """A copy of the live episode with running number `number`; KeyError if it is not (or no longer) there."""
        at = self._at(number)
        entry = {name: column[self._low + at] for name, column in self._table.items()}
        rows = torch.from_numpy(self.rows(np.array([at]), np.arange(entry["length"] + 1))).to(self.device)
        return Episode(
            obs=self.obs[rows].cpu().numpy(),
            act=self.act[rows[:-1]].cpu().numpy(),
            reward=self.reward[rows[:-1]].cpu().numpy(),
            terminated=bool(entry["terminated"]),
            env=int(entry["env"]),
            seed=int(entry["seed"]),
        )

    def _at(self, number: int) -> int:
        if not self.first_id <= number < self.next_id:
            raise KeyError(f"episode {number} is not in the store: it holds {self.first_id} to {self.next_id - 1}")
        return number - self.first_id

    def gather(self, at: np.ndarray, step: np.ndarray, mask: np.ndarray) -> Subsets:
        """Steps `step` (m, k) of the live episodes at table positions `at` (m,)."""
        obs, act = self.take(self.rows(at[:, None], step))
        return Subsets(
            obs=obs[0],
            act=act,
            next_obs=obs[1],
            mask=self.send(mask),
            episode_return=self.send(self.returns[at].astype(np.float32)),
            length=self.send(self.lengths[at]),
        )

    def send(self, array: np.ndarray) -> Tensor:
        """As a tensor on the store's device, without waiting for it."""
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device, non_blocking=True)

    # ---------------------------------------------------------------- state

    def state(self) -> dict:
        """All live episodes and their numbers, as tensors on the CPU."""
        return {"first_id": self.first_id, "episodes": pack(self, range(self.first_id, self.next_id))}

    def load_state(self, state: dict) -> None:
        self.refill(state["first_id"], unpack(state["episodes"]))

    def refill(self, first_id: int, episodes: Iterator[Episode]) -> None:
        """Forgets everything, then adds `episodes`, numbered from `first_id` on."""
        self._reset(first_id)
        for episode in episodes:
            self.add(episode)


def pack(store: EpisodeStore, numbers: range) -> dict[str, Tensor]:
    """The live episodes with these running numbers, one after the other in flat tensors on the CPU."""
    episodes = [store.episode(number) for number in numbers]

    def column(name: str, dtype: str, *shape: int) -> Tensor:
        parts = [getattr(e, name) for e in episodes]
        return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, *shape), dtype))

    def entry(name: str, dtype: type) -> Tensor:
        return torch.from_numpy(np.array([getattr(e, name) for e in episodes], dtype))

    return {
        "obs": column("obs", store.spec.obs_dtype, *store.spec.obs_shape),
        "act": column("act", store.spec.act_dtype, *store.spec.act_shape),
        "reward": column("reward", "float32"),
        "length": entry("length", np.int64),
        "terminated": entry("terminated", np.bool_),
        "env": entry("env", np.int64),
        "seed": entry("seed", np.int64),
    }


def unpack(packed: dict[str, Tensor]) -> Iterator[Episode]:
    """The inverse of `pack`, one episode after the other (views of the packed arrays)."""
    columns = {name: tensor.numpy() for name, tensor in packed.items()}
    step = 0
    for i, length in enumerate(columns["length"].tolist()):
        row = step + i  # each earlier episode has one observation more than steps
        yield Episode(
            obs=columns["obs"][row : row + length + 1],
            act=columns["act"][step : step + length],
            reward=columns["reward"][step : step + length],
            terminated=bool(columns["terminated"][i]),
            env=int(columns["env"][i]),
            seed=int(columns["seed"][i]),
        )
        step += length
