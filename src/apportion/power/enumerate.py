"""Any world with a finite number of states, compiled by asking for the successors of whole levels at once."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from apportion.power.compiled import Compiled, assemble
from apportion.power.world import World
from apportion.types import UserError

_PAIRS = 1 << 17  # (state, joint action) pairs asked for at once


def enumerate_world(world: World, *, max_states: int = 1_000_000) -> Compiled:
    """Every state that can be reached within the horizon, breadth first, and where each joint action leads.

    Raises UserError if the world can only be sampled, or has more than `max_states` states.
    """
    if not world.enumerable:
        raise UserError(f"{world.name} can only be sampled: an exact solution needs transition probabilities")
    joints = np.array(list(itertools.product(*(range(len(names)) for names in world.actions))), np.int64)
    found = _States(world.initial()[None], max_states, world.name)
    level_start, indptr, indices, probs = [0, 1], [np.zeros(1, np.int64)], [], []
    entries, expanded = 0, 0
    while expanded < len(found.rows) and (world.horizon is None or len(level_start) - 2 < world.horizon):
        level = np.stack(found.rows[expanded:])
        for counts, states, weights in _successors(world, level, joints):
            indptr.append(entries + np.cumsum(counts))
            entries += int(counts.sum())
            indices.append(found.ids(states))
            probs.append(weights)
        expanded += len(level)
        if len(found.rows) > expanded:
            level_start.append(len(found.rows))
    states = np.stack(found.rows)
    ids = np.concatenate(indices) if indices else np.zeros(0, np.int64)
    successors = (np.concatenate(indptr), ids, np.concatenate(probs) if probs else np.zeros(0))
    return _with_digest(assemble(world, states, np.array(level_start, np.int64), expanded, successors, ""))


class _States:
    """Rows seen so far, in the order in which they were met."""

    def __init__(self, first: np.ndarray, max_states: int, name: str):
        self.rows: list[np.ndarray] = list(first)
        self.known = {row.tobytes(): i for i, row in enumerate(first)}
        self.dtype, self.max_states, self.name = first.dtype, max_states, name

    def ids(self, states: np.ndarray) -> np.ndarray:
        """The number of each row (m,), new ones counted on. Raises UserError past the limit."""
        states = np.ascontiguousarray(states, self.dtype)
        once, first, which = np.unique(states, axis=0, return_index=True, return_inverse=True)
        numbers = np.empty(len(once), np.int64)
        for i in np.argsort(first):  # in the order in which they were met
            key = once[i].tobytes()
            if key not in self.known:
                self.known[key] = len(self.rows)
                self.rows.append(once[i])
            numbers[i] = self.known[key]
        if len(self.rows) > self.max_states:
            raise UserError(
                f"{self.name} has more than {self.max_states:,} states: give fewer steps, or "
                "allow more (--max-states; training: --check-states)"
            )
        return numbers[which.ravel()]


def _successors(
    world: World, level: np.ndarray, joints: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(successors of each pair, their states, their probabilities), in runs of pairs; none of a terminal state."""
    step = max(1, _PAIRS // len(joints))
    for part in (level[i : i + step] for i in range(0, len(level), step)):
        alive = ~world.terminal(part)
        counts = np.zeros((len(part), len(joints)), np.int64)
        pairs = np.repeat(part[alive], len(joints), 0)
        found = world.successors(pairs, np.tile(joints, (int(alive.sum()), 1)))
        counts[alive] = np.diff(found.offsets).reshape(-1, len(joints))
        yield counts.ravel(), found.states, found.probs


def _with_digest(compiled: Compiled) -> Compiled:
    digest = hashlib.sha256()
    for array in (compiled.states, compiled.indptr, compiled.indices, compiled.probs, compiled.attained):
        digest.update(np.ascontiguousarray(array).tobytes())
    about = (compiled.n_actions, compiled.humans, compiled.robots, compiled.still, compiled.horizon)
    digest.update(repr((about, compiled.goal_weights.tolist(), compiled.terminal.tolist())).encode())
    return replace(compiled, digest=digest.hexdigest())
