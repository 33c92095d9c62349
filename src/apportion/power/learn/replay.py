"""What is kept to learn from: transitions that were seen, and states that were looked ahead to. Oldest make place."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped

from apportion.power.learn.states import StateTable


@dataclass(frozen=True)
class Steps:
    """n steps as an actor saw them; goals are those they were taken for."""

    state: Shaped[np.ndarray, "n F"]
    t: Int[np.ndarray, "n"]  # steps before it in its episode
    goals: Int[np.ndarray, "n H"]  # each human's
    joint: Int[np.ndarray, "n N"]  # each agent's action
    human_prob: Float32[np.ndarray, "n H"]  # of each human's action, before it was known whether its goal changes
    robot_prob: Float32[np.ndarray, "n"]  # of the robots' joint action, exploration included
    next_state: Shaped[np.ndarray, "n F"]

    def tree(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @staticmethod
    def join(parts: list[Steps]) -> Steps:
        return Steps(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Steps)})


@dataclass(frozen=True)
class Drawn:
    """n transitions of the replay, states by their numbers."""

    ids: Int[np.ndarray, "n"]
    t: Int[np.ndarray, "n"]
    joint: Int[np.ndarray, "n N"]
    human_prob: Float32[np.ndarray, "n H"]
    robot_prob: Float32[np.ndarray, "n"]
    next_ids: Int[np.ndarray, "n"]


class Replay:
    """The newest `capacity` transitions, in a ring."""

    def __init__(self, capacity: int, humans: int, agents: int):
        self.capacity = capacity
        self._columns: dict[str, np.ndarray] = {
            "ids": np.zeros(capacity, np.int64),
            "t": np.zeros(capacity, np.int32),
            "joint": np.zeros((capacity, agents), np.int16),
            "human_prob": np.zeros((capacity, humans), np.float32),
            "robot_prob": np.zeros(capacity, np.float32),
            "next_ids": np.zeros(capacity, np.int64),
        }
        self.n, self._at = 0, 0

    def add(self, steps: Steps, table: StateTable) -> None:
        """Takes `steps` in, the oldest ones making place; their states become known to `table`."""
        numbers = table.intern(np.concatenate([steps.state, steps.next_state]))
        count = len(steps.t)
        new = {
            "ids": numbers[:count],
            "t": steps.t,
            "joint": steps.joint,
            "human_prob": steps.human_prob,
            "robot_prob": steps.robot_prob,
            "next_ids": numbers[count:],
        }
        kept = slice(max(0, count - self.capacity), count)
        rows = (self._at + np.arange(kept.start, count)) % self.capacity
        for name, values in new.items():
            self._columns[name][rows] = values[kept]
        self._at = (self._at + count) % self.capacity
        self.n = min(self.capacity, self.n + count)

    def clear(self) -> None:
        self.n = self._at = 0

    def draw(self, noise: Float[np.ndarray, "n"], at_time: int | None = None) -> Drawn:
        """One transition for each number in [0, 1), uniformly; `at_time`: of those taken at that time, if any."""
        among = None if at_time is None else np.flatnonzero(self._columns["t"][: self.n] == at_time)
        rows = _picked(noise, self.n, among)
        return Drawn(**{name: column[rows] for name, column in self._columns.items()})

    def last_time(self) -> int:
        """The latest time of any transition."""
        return int(self._columns["t"][: self.n].max(initial=0))

    def keys(self, times: int) -> Int[np.ndarray, "m"]:
        """state * times + t of all that can be drawn, each once, ascending; the state alone where times is 1."""
        t = self._columns["t"][: self.n] if times > 1 else 0
        return np.unique(self._columns["ids"][: self.n] * times + t)

    def ids(self) -> Int[np.ndarray, "m"]:
        """Numbers of all states it needs, ascending."""
        return np.unique(np.concatenate([self._columns[name][: self.n] for name in ("ids", "next_ids")]))

    def renumber(self, number: Int[np.ndarray, "S"]) -> None:
        """States have new numbers: `number[old]`."""
        for name in ("ids", "next_ids"):
            self._columns[name][: self.n] = number[self._columns[name][: self.n]]

    def state(self) -> dict[str, Any]:
        """Everything; numbers of states are the table's."""
        return {"at": self._at, **{name: column[: self.n].copy() for name, column in self._columns.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        self.n, self._at = len(state["ids"]), int(state["at"])
        for name, column in self._columns.items():
            column[: self.n] = state[name]


class Known:
    """States at times that were met or looked ahead to, each once: the newest `capacity` of them, in a ring."""

    def __init__(self, capacity: int, times: int):
        self.capacity = capacity
        self._ids, self._t = np.zeros(capacity, np.int64), np.zeros(capacity, np.int32)
        self._in = np.zeros((0, times), bool)  # (state, time)
        self.n, self._at = 0, 0

    def add(self, ids: Int[np.ndarray, "m"], t: Int[np.ndarray, "m"], states: int) -> None:
        """`states`: how many there are by now. Times count from 0; without a horizon all are 0."""
        if states > len(self._in):
            grown = np.zeros((max(states, 2 * len(self._in)), self._in.shape[1]), bool)
            grown[: len(self._in)] = self._in
            self._in = grown
        new = ~self._in[ids, t]
        keys = np.unique(ids[new] * self._in.shape[1] + t[new])[-self.capacity :]
        rows = (self._at + np.arange(len(keys))) % self.capacity
        gone = rows[rows < self.n]
        self._in[self._ids[gone], self._t[gone]] = False
        self._ids[rows], self._t[rows] = np.divmod(keys, self._in.shape[1])
        self._in[self._ids[rows], self._t[rows]] = True
        self._at = (self._at + len(keys)) % self.capacity
        self.n = min(self.capacity, self.n + len(keys))

    def draw(
        self, noise: Float[np.ndarray, "n"], at_time: int | None = None
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """Numbers and times, one for each number in [0, 1), uniformly; `at_time`: of those of that time, if any."""
        among = None if at_time is None else np.flatnonzero(self._t[: self.n] == at_time)
        rows = _picked(noise, self.n, among)
        return self._ids[rows], self._t[rows].astype(np.int64)

    def ids(self) -> Int[np.ndarray, "m"]:
        """Numbers of all states in it, ascending."""
        return np.unique(self._ids[: self.n])

    def renumber(self, number: Int[np.ndarray, "S"]) -> None:
        """States have new numbers: `number[old]`."""
        self._ids[: self.n] = number[self._ids[: self.n]]
        self._mark()

    def state(self) -> dict[str, Any]:
        return {"ids": self._ids[: self.n].copy(), "t": self._t[: self.n].copy(), "at": self._at}

    def load_state(self, state: dict[str, Any]) -> None:
        self.n, self._at = len(state["t"]), int(state["at"])
        self._ids[: self.n], self._t[: self.n] = state["ids"], state["t"]
        self._mark()

    def _mark(self) -> None:
        """Which are in it, anew."""
        ids = self._ids[: self.n]
        self._in = np.zeros((int(ids.max(initial=-1)) + 1, self._in.shape[1]), bool)
        self._in[ids, self._t[: self.n]] = True


def _picked(noise: Float[np.ndarray, "n"], n: int, among: Int[np.ndarray, "k"] | None) -> Int[np.ndarray, "n"]:
    """Rows of n, or of `among` if there are any."""
    among = None if among is None or len(among) == 0 else among
    count = n if among is None else len(among)
    picked = np.minimum((noise * count).astype(np.int64), count - 1)
    return picked if among is None else among[picked]
