"""Closed episodes in one ring of flat columns; each observation is kept once, T + 1 per episode.

An episode takes T + 1 consecutive rows (modulo the capacity); the last of them holds only the final observation. The
table beside the columns is plain NumPy: where each episode starts, its length, how it ended, what it returned.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from apportion.store.frames import both, window
from apportion.store.ring import ObsRing, Place, crc, rows_of
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
    refilled from any older episode on holds the same ones. With `ring` (on the CPU) the observations are in its file,
    which has more rows; which episodes are live is the same.
    """

    def __init__(self, capacity: int, spec: Spec, device: torch.device | str = "cpu", ring: ObsRing | None = None):
        if capacity < 2:
            raise UserError(f"buffer size {capacity} holds no episode: one step takes 2 observations, give it more")
        self.capacity, self.spec, self.device, self.ring = capacity, spec, torch.device(device), ring
        self._size = capacity if ring is None else ring.size  # rows there are
        self.obs = self._column(spec.obs_dtype, *spec.obs_shape) if ring is None else torch.from_numpy(ring.obs)
        self.act = self._column(spec.act_dtype, *spec.act_shape)
        self.reward = self._column("float32")
        # on the CPU NumPy's take needs about half of the time of torch's index_select
        columns = (self.obs, self.act, self.reward)
        self._views = tuple(c.numpy() for c in columns) if self.device.type == "cpu" else None
        self._reset(first_id=0)

    def _column(self, dtype: str, *shape: int) -> Tensor:
        # NumPy's zeros come from calloc: pages never written cost nothing (torch.zeros on the CPU writes them all)
        if self.device.type == "cpu":
            return torch.from_numpy(np.zeros((self._size, *shape), dtype=dtype))
        return torch.zeros((self._size, *shape), dtype=getattr(torch, dtype), device=self.device)

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

    @property
    def save_due(self) -> bool:
        """Should a checkpoint be written before it is due by the clock? Only a ring on the disk ever asks for it."""
        return self.ring is not None and self.ring.save_due

    def promise(self) -> None:
        """A checkpoint relies on all that is live now: nothing of it on the disk may get lost."""
        if self.ring is not None:
            self.ring.promise(range(self.first_id, self.next_id), self._used)

    @property
    def files(self) -> list[str]:
        """Names of the files, beside those of the replay's log, that the store needs."""
        return [] if self.ring is None else self.ring.files

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
        return self._add(episode, obs_is_there=False)

    def _add(self, episode: Episode, obs_is_there: bool) -> int:
        self._check(episode)
        need = episode.length + 1
        while self._used + need > self.capacity:
            self._evict_oldest()
        if self.ring is None:
            self._write(self.obs, episode.obs)
        elif not obs_is_there:
            self.ring.write(self._row, episode.obs)
        self._write(self.act, episode.act)
        self._write(self.reward, episode.reward)
        self._append(
            start=self._row,
            length=episode.length,
            end=self._evicted + self.n_transitions + episode.length,
            terminated=episode.terminated,
            episode_return=episode.episode_return,
            env=episode.env,
            seed=episode.seed,
        )
        self._row = (self._row + need) % self._size
        self._used += need
        self.next_id += 1
        return self.next_id - 1

    def _evict_oldest(self) -> None:
        gone = int(self._table["length"][self._low])
        if self.ring is not None:
            self.ring.evict(Place(self.first_id, int(self._table["start"][self._low]), gone + 1))
        self._used -= gone + 1
        self._evicted += gone
        self._low += 1

    def _check(self, episode: Episode) -> None:
        length = episode.length
        if length + 1 > self.capacity:
            raise UserError(
                f"an episode of {length} steps takes {length + 1} observations and the buffer size is {self.capacity}: "
                f"give it at least {length + 1}"
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
        before_wrap = min(len(new), self._size - self._row)
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
        return np.where(row < self._size, row, row - self._size)

    def step_of(self, transition: np.ndarray, at: np.ndarray) -> np.ndarray:
        """(n,) the number, in its episode, of each of the live transitions that `locate` found at positions `at`."""
        return transition + self._evicted - (self.live("end").take(at) - self.lengths.take(at))

    def take(self, row: np.ndarray, step: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
        """What is seen at rows (...) and at the rows after them, (2, ..., *seen_shape), and act at the rows: copies.

        Where several frames are seen (`Spec.frames`), `step` (...) is the number of each row in its episode, and the
        halves share their memory: each frame was fetched once, so they are for reading only.
        """
        if self.spec.frames > 1:
            return self._take_frames(row, step)
        pair = np.empty((2, *row.shape), np.int64)
        pair[0] = row
        np.add(row, 1, out=pair[1])
        pair[1, pair[1] == self._size] = 0
        if self._views is not None:
            return torch.from_numpy(self._views[0].take(pair, axis=0)), torch.from_numpy(
                self._views[1].take(row, axis=0)
            )
        rows = self.send(pair)
        return self.obs[rows], self.act[rows[0]]

    def _take_frames(self, row: np.ndarray, step: np.ndarray | None) -> tuple[Tensor, Tensor]:
        if step is None:
            raise ValueError("a stack of frames needs to know where its episode begins: give take() the steps")
        rows = window(row, step, self.spec.frames, self._size)
        if self._views is not None:
            frames, act = (torch.from_numpy(v.take(r, axis=0)) for v, r in zip(self._views, (rows, row), strict=False))
        else:
            frames, act = self.obs[self.send(rows)], self.act[self.send(row)]
        return both(frames, axis=row.ndim), act

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
        obs, act = self.take(self.rows(at[:, None], step), step)
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

    def refill(self, first_id: int, episodes: Iterator[Episode], ring_row: int | None = None) -> None:
        """Forgets everything, then adds `episodes`, numbered from `first_id` on.

        `ring_row`: their observations lie in the ring's file already, one after the other from this row on.
        """
        self._reset(first_id)
        self._row = ring_row or 0
        for episode in episodes:
            self._add(episode, obs_is_there=ring_row is not None)


def pack(store: EpisodeStore, numbers: range, obs: bool = True) -> dict[str, Tensor]:
    """The live episodes with these running numbers, one after the other in flat tensors on the CPU.

    Without `obs`: the first row of each episode's observations in the store's ring, and their checksum.
    """
    episodes = [store.episode(number) for number in numbers]

    def column(name: str, dtype: str, *shape: int) -> Tensor:
        parts = [getattr(e, name) for e in episodes]
        return torch.from_numpy(np.concatenate(parts) if parts else np.zeros((0, *shape), dtype))

    def entry(name: str, dtype: type) -> Tensor:
        return torch.from_numpy(np.array([getattr(e, name) for e in episodes], dtype))

    if obs:
        where = {"obs": column("obs", store.spec.obs_dtype, *store.spec.obs_shape)}
    else:
        rows = store.live("start")[numbers.start - store.first_id :][: len(numbers)]
        where = {"row": torch.from_numpy(rows.copy()), "crc": torch.tensor([crc(e.obs) for e in episodes])}
    return where | {
        "act": column("act", store.spec.act_dtype, *store.spec.act_shape),
        "reward": column("reward", "float32"),
        "length": entry("length", np.int64),
        "terminated": entry("terminated", np.bool_),
        "env": entry("env", np.int64),
        "seed": entry("seed", np.int64),
    }


def unpack(packed: dict[str, Tensor], ring: np.ndarray | None = None) -> Iterator[Episode]:
    """The inverse of `pack`, one episode after the other (views of the packed arrays). `ring`: its rows, if needed."""
    columns = {name: tensor.numpy() for name, tensor in packed.items()}
    step = 0
    for i, length in enumerate(columns["length"].tolist()):
        row = step + i if ring is None else int(columns["row"][i])  # each has one observation more than steps
        yield Episode(
            obs=rows_of(columns["obs"] if ring is None else ring, row, length + 1),
            act=columns["act"][step : step + length],
            reward=columns["reward"][step : step + length],
            terminated=bool(columns["terminated"][i]),
            env=int(columns["env"][i]),
            seed=int(columns["seed"][i]),
        )
        step += length
