"""Humans who take the shortest way to their goal: a prior for worlds with too many states or times to solve Phase 1.

A human's distance to a goal is the fewest steps in which that human alone can get to where it holds, while all others
do `still` and chance is kind. So robots and other humans stay where they are now and may be in the way, but nobody
makes way or helps: near the pessimistic belief, without its look-ahead. One who has no `still` is taken to act
uniformly. A goal that is farther away than the steps left counts as out of reach.

Nothing is enumerated but what is asked for: around each new state the search covers the states that one human alone
can reach, which are few (its own places, and what it can move), even where all states are too many to count.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, Shaped

from apportion.power import equations as eq
from apportion.power.learn.states import Rows, keys_of, spread
from apportion.power.params import PowerParams, check
from apportion.power.world import World
from apportion.types import UserError

MOST_ROWS = 500_000  # states remembered for each human, and covered by a search; beyond, all is forgotten
_PAIRS = 1 << 16  # (state, joint action) pairs asked for at once


class PathPrior:
    """pi_h from Q_h(s, g, a) = E gamma_h^d(s', g), d(s', g) the distance from the successor: 0 where the goal holds.

    The logits are beta_h Q_h, as in Phase 1: at gamma_h .99 a step more costs .01 beta_h, so a larger beta_h makes
    people who hurry. Where no action leads to the goal in time all are equally likely. `most_rows`: states remembered
    for each human. Raises UserError for a world that can only be sampled.
    """

    def __init__(self, world: World, params: PowerParams, *, most_rows: int = MOST_ROWS):
        check(params, world.horizon)
        if not world.enumerable:
            raise UserError(
                f"{world.name} can only be sampled, and --human-prior shortest-path needs to know what may follow: "
                "give --human-prior learned with --robot-belief mean, or module:Class"
            )
        self.world = world
        self._searches = [_Search(world, params, h, most_rows) for h in range(len(world.humans))]

    def __call__(self, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n H G A"]:
        """See HumanPrior. Raises UserError where one human alone can reach more states than are remembered."""
        most = max(len(self.world.actions[h]) for h in self.world.humans)
        out = np.zeros((len(states), len(self._searches), len(self.world.goals), most), np.float32)
        for h, search in enumerate(self._searches):
            policy = search.policy(states, t)
            out[:, h, :, : policy.shape[2]] = policy
        return out

    def distances(self, states: Shaped[np.ndarray, "n F"], human: int) -> Float32[np.ndarray, "n G"]:
        """Fewest steps to each goal of a human (by number), inf where it is out of reach within the horizon."""
        return self._searches[human].distances(states)

    def state(self) -> dict[str, Any]:
        """Nothing: it follows from the world."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


class _Search:
    """Where each action of one human leads and how far from there its goals are, in every state that was asked for."""

    def __init__(self, world: World, params: PowerParams, human: int, most_rows: int):
        self.world, self.params, self.human, self.most_rows = world, params, human, most_rows
        self.agent = world.humans[human]
        self.size = len(world.actions[self.agent])
        self.joints = _alone(world, self.agent)  # (actions * others, N), its own action slowest
        self._forget()

    def _forget(self) -> None:
        goals = len(self.world.goals)
        self._number: dict[bytes, int] = {}
        self._distance = Rows(np.zeros((1, goals), np.float32))
        self._first = Rows(np.zeros(1, np.int64))  # its first successor
        self._counts = Rows(np.zeros((1, self.size), np.int64))  # successors of each action
        self._ahead = Rows(np.zeros((1, goals), np.float32))  # of each successor, its distances
        self._probs = Rows(np.zeros(1, np.float64))

    def policy(self, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n G A"]:
        numbers, n, horizon = self._numbers(states), len(states), self.world.horizon
        counts = self._counts.rows[numbers]
        entry = spread(self._first.rows[numbers], counts.sum(1))
        distance = self._ahead.rows[entry]
        far = np.isinf(distance)  # with gamma_h 1 as well
        if horizon is not None:
            far |= distance > np.repeat(horizon - 1 - np.asarray(t, np.int64), counts.sum(1))[:, None]
        arriving = np.where(far, 0.0, np.power(self.params.gamma_h, distance, dtype=np.float64))
        owner = np.repeat(np.arange(n * self.size), counts.ravel())
        weighted = self._probs.rows[entry][:, None] * arriving
        q = np.stack([np.bincount(owner, column, n * self.size) for column in weighted.T], 1).astype(np.float64)
        policy = eq.human_policy(
            torch.from_numpy(q.reshape(n, self.size, -1)).transpose(1, 2),
            torch.from_numpy(self._distance.rows[numbers] == 0),
            self.params.beta_h,
            self.world.still[self.agent],
            self.params.nu_h,
        )
        return policy.numpy().astype(np.float32)

    def distances(self, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n G"]:
        numbers = self._numbers(states)  # may add rows
        return self._distance.rows[numbers]

    def _numbers(self, states: Shaped[np.ndarray, "n F"]) -> Int[np.ndarray, "n"]:
        keys = keys_of(states)
        if any(key not in self._number for key in keys):
            if len(self._number) > self.most_rows // 2:
                self._forget()
            fresh = _first_of_each(states, self._number)
            self._explore(fresh)
            self._number.update({key: len(self._number) + k for k, key in enumerate(keys_of(fresh))})
        return np.fromiter(map(self._number.__getitem__, keys), np.int64, len(keys))

    def _explore(self, states: Shaped[np.ndarray, "k F"]) -> None:
        """Takes in states that are new: forward to find all that they lead to in time, backward to measure."""
        local: dict[bytes, int] = {}
        rows, counts, targets, probs = [], [], [], []
        frontier = _taken_in(states, local)
        for depth in itertools.count():
            if len(local) > self.most_rows:
                return self._explore_halves(states)
            rows.append(frontier)
            if len(frontier) == 0 or depth == self.world.horizon:
                counts.append(np.zeros((len(frontier), self.size), np.int64))
                break
            following = []
            for part in np.array_split(frontier, -(-len(frontier) * len(self.joints) // _PAIRS)):
                count, found, prob = self._successors(part)
                following.append(_taken_in(found, local))
                targets.append(np.fromiter(map(local.__getitem__, keys_of(found)), np.int64, len(found)))
                counts.append(count)
                probs.append(prob)
            frontier = np.concatenate(following)
        attained = self.world.attained(np.concatenate(rows))[:, self.human]
        entries, leads = np.concatenate(counts), np.concatenate(targets)
        distance = _measure(attained, entries.sum(1), leads, self.world.horizon)
        n, entries = len(states), entries[: len(states)]
        used = int(entries.sum())  # those of the states asked for come first
        self._first.append(self._probs.n + np.cumsum(entries.sum(1)) - entries.sum(1))
        self._counts.append(entries)
        self._distance.append(distance[:n])
        self._ahead.append(distance[leads[:used]])
        self._probs.append(np.concatenate(probs)[:used] * self.size / len(self.joints))

    def _explore_halves(self, states: Shaped[np.ndarray, "k F"]) -> None:
        """The same where all at once are too many."""
        if len(states) == 1:
            raise UserError(
                f"{self.world.name}: {self.world.agents[self.agent]} alone can reach more than {self.most_rows:,} "
                "states, too many for --human-prior shortest-path: give --human-prior learned"
            )
        for half in np.array_split(states, 2):
            self._explore(half)

    def _successors(
        self, states: Shaped[np.ndarray, "k F"]
    ) -> tuple[Int[np.ndarray, "k A"], Shaped[np.ndarray, "e F"], Float[np.ndarray, "e"]]:
        """How many follow on each of its own actions, which, and how likely; none follow on a terminal state."""
        each, going = len(self.joints), np.flatnonzero(~self.world.terminal(states))
        found = self.world.successors(np.repeat(states[going], each, 0), np.tile(self.joints, (len(going), 1)))
        counts = np.zeros((len(states), self.size), np.int64)
        counts[going] = np.diff(found.offsets).reshape(len(going), self.size, each // self.size).sum(2)
        return counts, found.states, found.probs


def _taken_in(states: Shaped[np.ndarray, "m F"], number: dict[bytes, int]) -> Shaped[np.ndarray, "k F"]:
    """Those that have no number, each once, in the order in which they come; now they have one."""
    fresh = _first_of_each(states, number)
    number.update({key: len(number) + k for k, key in enumerate(keys_of(fresh))})
    return fresh


def _first_of_each(states: Shaped[np.ndarray, "m F"], known: dict[bytes, int]) -> Shaped[np.ndarray, "k F"]:
    firsts: dict[bytes, int] = {}
    for i, key in enumerate(keys_of(states)):
        if key not in known:
            firsts.setdefault(key, i)
    return states[list(firsts.values())]


def _measure(
    attained: Bool[np.ndarray, "m G"],
    entries: Int[np.ndarray, "m"],
    targets: Int[np.ndarray, "e"],
    most: int | None,
) -> Float32[np.ndarray, "m G"]:
    """Steps to each goal along the edges from state i to its `entries[i]` of `targets`; inf beyond `most` steps.

    Which goals can be reached in k steps is a row of bits: those of k - 1 steps, or any successor's.
    """
    m, goals = attained.shape
    bits = np.zeros((m, -(-goals // 64) * 8), np.uint8)
    bits[:, : -(-goals // 8)] = np.packbits(attained, axis=1)
    within = bits.view(np.uint64)
    distance = np.where(attained, 0, np.inf).astype(np.float32)
    going = np.flatnonzero(entries)
    begins = (np.cumsum(entries) - entries)[going]
    for steps in itertools.count(1) if most is None else range(1, most + 1):
        before = within
        within = before.copy()
        within[going] |= np.bitwise_or.reduceat(before[targets], begins) if len(going) else before[going]
        nearer = np.flatnonzero((within != before).any(1))
        if len(nearer) == 0:
            break
        new = np.unpackbits((within[nearer] ^ before[nearer]).view(np.uint8), axis=1, count=goals).astype(bool)
        distance[nearer] = np.where(new, np.float32(steps), distance[nearer])
    return distance


def _alone(world: World, agent: int) -> Int[np.ndarray, "k N"]:
    """Joint actions in which others do `still`, or anything if they have no such action; the agent's own slowest."""
    others = [
        range(len(names)) if still is None else (still,)
        for names, still in zip(world.actions, world.still, strict=True)
    ]
    others[agent] = (0,)
    joints = np.array(list(itertools.product(*others)), np.int64)
    own = np.arange(len(world.actions[agent]))
    out = np.tile(joints, (len(own), 1))
    out[:, agent] = np.repeat(own, len(joints))
    return out
