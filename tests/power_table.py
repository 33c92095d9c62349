"""A world given by tables, for tests: states are numbers, and every transition is written out or drawn at random."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from apportion.power.world import Successors


@dataclass
class TableWorld:
    """moves[(state, joint)] = {successor: probability}; a pair that is not there stays where it is."""

    moves: dict[tuple[int, tuple[int, ...]], dict[int, float]]
    attains: np.ndarray  # (S, H, G) bool
    sizes: tuple[int, ...]  # actions of each agent
    humans: tuple[int, ...]
    robots: tuple[int, ...]
    horizon: int | None
    still: tuple[int | None, ...]
    goal_weights: np.ndarray
    ends: tuple[int, ...] = ()
    name: str = "table"
    enumerable: bool = True

    @property
    def agents(self):
        return tuple(f"agent{i}" for i in range(len(self.sizes)))

    @property
    def actions(self):
        return tuple(tuple(f"a{i}" for i in range(size)) for size in self.sizes)

    @property
    def goals(self):
        return tuple(f"goal{g}" for g in range(self.attains.shape[2]))

    def initial(self):
        return np.zeros(1, np.int16)

    def transitions(self, state, joint):
        found = self.moves.get((int(state[0]), tuple(int(a) for a in joint)), {int(state[0]): 1.0})
        return np.array(list(found), np.int16)[:, None], np.array(list(found.values()))

    def successors(self, states, joints):
        each = [self.transitions(s, j) for s, j in zip(states, joints, strict=True)]
        counts = [len(probs) for _, probs in each]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
        rows = np.concatenate([rows for rows, _ in each]) if each else np.zeros((0, 1), np.int16)
        return Successors(offsets, rows, np.concatenate([p for _, p in each]) if each else np.zeros(0))

    def sample(self, states, joints, noise):
        chosen = []
        for s, j, u in zip(states, joints, noise, strict=True):
            rows, probs = self.transitions(s, j)
            chosen.append(rows[min(int(np.searchsorted(np.cumsum(probs), u, "right")), len(rows) - 1)])
        return np.array(chosen, np.int16).reshape(len(states), 1)

    def terminal(self, states):
        return np.isin(states[:, 0], self.ends)

    def attained(self, states):
        return self.attains[states[:, 0]]

    def encode(self, states):
        return np.eye(len(self.attains), dtype=np.float32)[states[:, 0]]

    def describe(self, state):
        return {"number": int(state[0])}

    def parse(self, description):
        return np.array([description["number"]], np.int16)

    def render(self, state):
        return np.full((8, 8, 3), int(state[0]), np.uint8)


def random_world(seed: int, states=5, sizes=(2, 3), humans=(0,), robots=(1,), goals=2, horizon: int | None = 4):
    """Everything drawn at random: up to two successors of each pair, goals held by a third of the states."""
    rng = np.random.default_rng(seed)
    moves = {}
    for state in range(states):
        for joint in itertools.product(*(range(size) for size in sizes)):
            a, b = (int(s) for s in rng.integers(0, states, 2))
            p = float(rng.choice([1.0, 0.5, 0.25]))
            moves[state, joint] = {a: 1.0} if p == 1 or a == b else {a: p, b: 1 - p}
    attains = rng.random((states, len(humans), goals)) < 0.34
    weights = rng.dirichlet(np.ones(goals))
    still = tuple(0 if rng.random() < 0.5 else None for _ in sizes)
    return TableWorld(moves, attains, tuple(sizes), humans, robots, horizon, still, weights)
