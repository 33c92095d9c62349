"""Every state that was met, once: its features, its goals and, where the world is enumerable, what may follow it.

States come back all the time; a world is asked about each of them once. Letters as in world.py and equations.py; J
joint actions (humans' first, the last robot's fastest).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int, Shaped

from apportion.power.kernel import warn_no_more
from apportion.power.learn.features import with_clock
from apportion.power.world import World


@dataclass(frozen=True)
class Ahead:
    """Where n states lead: row i * J + j of a sparse matrix (n J, m) for joint action j of state i.

    Column c stands for state `ids[c]` at time `t[c]`; each is there once.
    """

    indptr: Int[np.ndarray, "rows"]  # n J + 1
    indices: Int[np.ndarray, "nnz"]
    probs: Float32[np.ndarray, "nnz"]
    ids: Int[np.ndarray, "m"]
    t: Int[np.ndarray, "m"]  # without a horizon 0


class StateTable:
    """States by number, in the order in which they were met. A state's row never changes."""

    def __init__(self, world: World):
        warn_no_more()  # whoever looks ahead multiplies by sparse matrices
        self.world = world
        self.joints = joint_actions(world)
        self._number: dict[bytes, int] = {}
        probe = world.initial()[None]
        self._states = Rows(probe)
        self._encoded = Rows(world.encode(probe))
        self._attained = Rows(world.attained(probe))
        self._terminal = Rows(world.terminal(probe))
        self._model = Rows(np.zeros((1, 4), np.int64))  # first column, columns, first entry, entries; -1: not asked
        self._columns = Rows(np.zeros(1, np.int64))
        self._rows = Rows(np.zeros((1, len(self.joints)), np.int32))  # entries of each joint action, by model number
        self._asked = Rows(np.zeros(1, np.int64))  # model number of a state, -1: none yet
        self._local = Rows(np.zeros(1, np.int32))
        self._probs = Rows(np.zeros(1, np.float32))

    def __len__(self) -> int:
        return self._states.n

    def intern(self, states: Shaped[np.ndarray, "n F"]) -> Int[np.ndarray, "n"]:
        """The numbers of `states`; new ones are taken in."""
        keys = keys_of(states)
        number = self._number
        out = [number.get(key, -1) for key in keys]
        fresh = [i for i, known in enumerate(out) if known < 0]
        if fresh:
            self._take_in(states, keys, fresh)
            for i in fresh:
                out[i] = number[keys[i]]
        return np.array(out, np.int64)

    def _take_in(self, states: np.ndarray, keys: list[bytes], fresh: list[int]) -> None:
        firsts: dict[bytes, int] = {}
        for i in fresh:
            firsts.setdefault(keys[i], i)
        count = len(self)
        self._number.update({key: count + k for k, key in enumerate(firsts)})
        rows = np.ascontiguousarray(states[list(firsts.values())])
        self._states.append(rows)
        self._encoded.append(self.world.encode(rows))
        self._attained.append(self.world.attained(rows))
        self._terminal.append(self.world.terminal(rows))
        self._asked.append(np.full(len(rows), -1))

    def states(self, ids: Int[np.ndarray, "n"]) -> Shaped[np.ndarray, "n F"]:
        return self._states.rows[ids]

    def attained(self, ids: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n H G"]:
        return self._attained.rows[ids]

    def terminal(self, ids: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        return self._terminal.rows[ids]

    def features(self, ids: Int[np.ndarray, "n"], t: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n E"]:
        """As `features.features`, without encoding a state twice."""
        return with_clock(self._encoded.rows[ids], t, self.world.horizon)

    def ahead(self, ids: Int[np.ndarray, "n"], t: Int[np.ndarray, "n"]) -> Ahead:
        """What may follow on n states at times `t`, under each joint action. The world must be enumerable."""
        unknown = ids[self._asked.rows[ids] < 0]
        if len(unknown):
            self._ask(np.unique(unknown))
        model = self._asked.rows[ids]
        first, columns, entry, entries = self._model.rows[model].T
        flat = spread(entry, entries)
        local = self._local.rows[flat] + np.repeat(np.cumsum(columns) - columns, entries)
        times = 1 if self.world.horizon is None else self.world.horizon + 1
        then = np.repeat(t + 1, columns) if times > 1 else 0
        keys, column = np.unique(self._columns.rows[spread(first, columns)] * times + then, return_inverse=True)
        followers, when = np.divmod(keys, times)
        counts = self._rows.rows[model].ravel()
        return Ahead(
            indptr=np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)]),
            indices=column.ravel()[local],
            probs=self._probs.rows[flat],
            ids=followers,
            t=when,
        )

    def _ask(self, ids: Int[np.ndarray, "n"]) -> None:
        """Takes in what follows on states that were not asked about: all joint actions of all of them at once."""
        n, count = len(ids), len(self.joints)
        states = self.states(ids)
        offsets, followers, probs = self.world.successors(np.repeat(states, count, 0), np.tile(self.joints, (n, 1)))
        numbers = self.intern(followers)
        counts = np.diff(offsets)
        owner = np.repeat(np.repeat(np.arange(n), count), counts)
        pairs, column = np.unique(owner * (len(self) + 1) + numbers, return_inverse=True)
        column_owner = pairs // (len(self) + 1)
        columns = np.bincount(column_owner, minlength=n)
        first = np.concatenate([np.zeros(1, np.int64), np.cumsum(columns)])
        entries = counts.reshape(n, count).sum(1)
        entry = np.cumsum(entries) - entries
        self._asked.rows[ids] = self._model.n + np.arange(n)
        self._model.append(
            np.stack([self._columns.n + first[:-1], columns, self._probs.n + entry, entries], 1).astype(np.int64)
        )
        self._rows.append(counts.reshape(n, count).astype(np.int32))
        self._columns.append(pairs % (len(self) + 1))
        self._local.append((column.ravel() - first[owner]).astype(np.int32))
        self._probs.append(probs.astype(np.float32))

    def kept(self, ids: Int[np.ndarray, "n"]) -> StateTable:
        """A new table with these states alone, in this order: the rest is forgotten."""
        table = StateTable(self.world)
        table.intern(self.states(ids))
        return table

    def state(self) -> dict[str, Any]:
        """All states in their order; the rest follows from them."""
        return {"states": self._states.rows.copy()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Into an empty table."""
        self.intern(np.asarray(state["states"]))

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, the dictionary aside."""
        return sum(column.data.nbytes for column in vars(self).values() if isinstance(column, Rows))


def keys_of(rows: Shaped[np.ndarray, "n F"]) -> list[bytes]:
    """The bytes of each row: equal for equal states."""
    rows = np.ascontiguousarray(rows)
    return rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1])))[:, 0].tolist()


def joint_actions(world: World) -> Int[np.ndarray, "J N"]:
    """All joint actions, the humans' first: the last robot's action changes fastest."""
    order = (*world.humans, *world.robots)
    grid = np.indices([len(world.actions[agent]) for agent in order]).reshape(len(order), -1).T
    joints = np.zeros((len(grid), len(world.agents)), np.int64)
    joints[:, list(order)] = grid
    return joints


def spread(first: Int[np.ndarray, "n"], counts: Int[np.ndarray, "n"]) -> Int[np.ndarray, "m"]:
    """first[0], first[0] + 1, ..., so many as counts[0]; then those of 1; and so on."""
    ends = np.cumsum(counts)
    return np.repeat(first - (ends - counts), counts) + np.arange(ends[-1] if len(ends) else 0)


class Rows:
    """A growing array: `rows` are those in use."""

    def __init__(self, like: np.ndarray):
        self.data, self.n = np.empty((64, *like.shape[1:]), like.dtype), 0

    @property
    def rows(self) -> np.ndarray:
        return self.data[: self.n]

    def append(self, rows: np.ndarray) -> None:
        if self.n + len(rows) > len(self.data):
            grown = np.empty((max(2 * len(self.data), self.n + len(rows)), *self.data.shape[1:]), self.data.dtype)
            grown[: self.n] = self.rows
            self.data = grown
        self.data[self.n : self.n + len(rows)] = rows
        self.n += len(rows)
