"""Compiling a grid world: breadth-first from the start, level by level, into flat arrays that grow as needed."""

from __future__ import annotations

import itertools

import numpy as np

from apportion.power.compiled import Compiled, assemble
from apportion.power.grid.loops import enter, number
from apportion.power.memory import allowed
from apportion.power.world import Successors, World
from apportion.types import UserError

_PER_SUCCESSOR = 12  # bytes: an int32 and a float64
_CHUNK = 200_000  # (state, joint action) pairs at a time
_MOST_JOINT = 10**6


def joint_actions(n_actions: int, agents: int) -> np.ndarray:
    """(J, N) int64: all of them, the last agent's fastest."""
    return np.array(list(itertools.product(range(n_actions), repeat=agents)), np.int64).reshape(-1, agents)


class _Growing:
    """States, their hash table, and the successors' sparse matrix, with room for more."""

    def __init__(self, start: np.ndarray):
        self.states = start[None].copy()
        self.count = 1
        self.table = np.full(1024, -1, np.int32)
        enter(self.states, 1, self.table)
        self.lengths: list[np.ndarray] = []  # successors per row of the matrix, chunk by chunk
        self.indices: list[np.ndarray] = []
        self.probs: list[np.ndarray] = []
        self.nnz = 0

    def add(self, successors: Successors) -> None:
        """The successors of the next rows."""
        m = len(successors.probs)
        if len(self.states) < self.count + m:
            self.states = _longer(self.states, self.count, 2 * self.count + m)
        if len(self.table) < 2 * (self.count + m):
            self.table = np.full(_power_of_two(4 * (self.count + m)), -1, np.int32)
            enter(self.states, self.count, self.table)
        numbers = np.empty(m, np.int32)
        self.count = number(self.states, self.count, self.table, successors.states, numbers)
        self.lengths.append(np.diff(successors.offsets).astype(np.int32))
        self.indices.append(numbers)
        self.probs.append(successors.probs.copy())
        self.nnz += m


def _power_of_two(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _longer(array: np.ndarray, used: int, length: int) -> np.ndarray:
    longer = np.empty((length, *array.shape[1:]), array.dtype)
    longer[:used] = array[:used]
    return longer


def _size(n: int) -> str:
    return f"{n / 2**30:.1f} GiB" if n >= 2**30 else f"{n / 2**20:.0f} MiB"


def _extrapolated(levels: list[int], horizon: int | None) -> str:
    """What the growth so far means for the end, in words. levels: states reachable within t steps."""
    t = len(levels) - 1
    if horizon is None or t < 2:
        return ""
    power = np.log(levels[t] / levels[t - 1]) / np.log(t / (t - 1))  # states grow like t ** power, ever slower
    return f", by its growth up to {levels[t] * (horizon / t) ** power:.1e} states in {horizon} steps"


def _check(world: World, g: _Growing, levels: list[int], rows: int, limit: int, max_states: int | None) -> None:
    """Refuses the next step before it takes the memory. Raises UserError with the numbers and what to do."""
    done, last, t = (levels[-2] if len(levels) > 1 else 0), levels[-1], len(levels) - 1
    reached = f"{last:,} states within {t} of {world.horizon or 'all'} steps{_extrapolated(levels, world.horizon)}"
    hint = "give fewer steps (--horizon) or a smaller map"
    if max_states is not None and last > max_states:
        raise UserError(
            f"{world.name}: {reached}; at most {max_states:,} are allowed; {hint}, or "
            "allow more (--max-states; training: --check-states)"
        )
    per_row = g.nnz / (done * rows) if done else 1.0
    matrix = last * rows * (per_row * _PER_SUCCESSOR + 12)
    # The chunks are joined at the end, one array at a time: twice the matrix at most.
    per_state = 3 * g.states.itemsize * g.states.shape[1] + 32 + len(world.humans) * len(world.goals)
    need = int(2 * matrix) + last * per_state
    if need > limit:
        raise UserError(
            f"{world.name}: {reached}; the next step needs {_size(need)} of memory, {_size(limit)} may be used; "
            f"{hint}, or more memory (--memory)"
        )


def compile_grid(
    world: World, digest: str, *, max_states: int | None = None, memory_limit: int | None = None
) -> Compiled:
    """Every state within world.horizon steps (all, if that is None) and every successor.

    `world`: one whose states are int16 and whose agents all have the same actions; `digest`: of its content.
    `memory_limit`: bytes; None: a share of what is free now. Raises UserError before a limit is passed.
    """
    outsiders = [i for i in range(len(world.agents)) if i not in world.humans and i not in world.robots]
    if outsiders:
        raise UserError(
            f"{world.name}: agent {outsiders[0]} is neither a human nor a robot: set humans or robots in its file"
        )
    limit = allowed(memory_limit)
    n_actions = len(world.actions[0])
    if n_actions ** len(world.agents) > _MOST_JOINT:
        raise UserError(f"{world.name}: {n_actions} actions of {len(world.agents)} agents are too many joint actions")
    joints = joint_actions(n_actions, len(world.agents))
    g = _Growing(world.initial())
    levels, expanded = [1], 0
    while expanded < levels[-1] and (world.horizon is None or len(levels) <= world.horizon):
        _check(world, g, levels, len(joints), limit, max_states)
        chunk = max(1, _CHUNK // len(joints))
        for first in range(expanded, levels[-1], chunk):
            states = g.states[first : min(first + chunk, levels[-1])]
            g.add(world.successors(np.repeat(states, len(joints), 0), np.tile(joints, (len(states), 1))))
        expanded = levels[-1]
        if g.count > expanded:
            levels.append(g.count)
    return _finish(world, digest, g, levels, expanded)


def _finish(world: World, digest: str, g: _Growing, levels: list[int], expanded: int) -> Compiled:
    states = g.states[: g.count].copy()
    lengths = _joined(g.lengths, np.int32)
    indptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
    found = (indptr, _joined(g.indices, np.int32), _joined(g.probs, np.float64))
    return assemble(world, states, np.array([0, *levels], np.int64), expanded, found, digest)


def _joined(chunks: list[np.ndarray], dtype: type) -> np.ndarray:
    """One array of all; the chunks are let go."""
    whole = np.concatenate([np.empty(0, dtype), *chunks])
    chunks.clear()
    return whole
