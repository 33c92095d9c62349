"""Humans who take the shortest way to their goal: a prior for worlds with too many states or times to solve Phase 1.

A human's distance to a goal is the fewest steps in which that human alone can get to where it holds, while all others
do `still` and chance is kind. So robots and other humans stay where they are now and may be in the way, but nobody
makes way or helps: near the pessimistic belief, without its look-ahead. One who has no `still` is taken to act
uniformly. Time plays no part.

Nothing is enumerated but what is asked for: around each new state the search covers the states that one human alone
can reach, which are few (its own places, and what it can move), even where all states are too many to count.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Int, Shaped

from apportion.power import equations as eq
from apportion.power.learn.states import _Rows, keys_of
from apportion.power.params import PowerParams, check
from apportion.power.world import World
from apportion.types import UserError

MOST_ROWS = 500_000  # states remembered for each human; beyond, all is forgotten and searched for anew
_PAIRS = 1 << 16  # (state, joint action) pairs asked for at once


class PathPrior:
    """pi_h from Q_h(s, g, a) = E gamma_h^d(s', g), d(s', g) the distance from the successor: 0 where the goal holds.

    The logits are beta_h Q_h, as in Phase 1: at gamma_h .99 a step more costs .01 beta_h, so a larger beta_h makes
    people who hurry. Where no action leads to the goal all are equally likely. `most_rows`: states remembered for each
    human. Raises UserError for a world that can only be sampled.
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
            policy = search.policy(states)
            out[:, h, :, : policy.shape[2]] = policy
        return out

    def distances(self, states: Shaped[np.ndarray, "n F"], human: int) -> Float32[np.ndarray, "n G"]:
        """Fewest steps to each goal, inf where no way leads there. `human`: its number among the humans."""
        return self._searches[human].distances(states)

    def state(self) -> dict[str, Any]:
        """Nothing: it follows from the world."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


class _Search:
    """Distances and policies of one human, in every state that was met and all that it alone can reach from there."""

    def __init__(self, world: World, params: PowerParams, human: int, most_rows: int):
        self.world, self.params, self.human, self.most_rows = world, params, human, most_rows
        self.agent = world.humans[human]
        self.size = len(world.actions[self.agent])
        self.joints = _alone(world, self.agent)  # (actions * others, N), its own action slowest
        self._forget()

    def _forget(self) -> None:
        goals = len(self.world.goals)
        self._number: dict[bytes, int] = {}
        self._distance = _Rows(np.zeros((1, goals), np.float32))
        self._policy = _Rows(np.zeros((1, goals, self.size), np.float32))

    def policy(self, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n G A"]:
        numbers = self._numbers(states)  # may add rows
        return self._policy.rows[numbers]

    def distances(self, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n G"]:
        numbers = self._numbers(states)  # may add rows
        return self._distance.rows[numbers]

    def _numbers(self, states: Shaped[np.ndarray, "n F"]) -> Int[np.ndarray, "n"]:
        keys = keys_of(states)
        if any(key not in self._number for key in keys):
            if len(self._number) > self.most_rows // 2:
                self._forget()
            self._explore(states)
        return np.fromiter(map(self._number.__getitem__, keys), np.int64, len(keys))

    def _explore(self, states: Shaped[np.ndarray, "n F"]) -> None:
        """Takes in the states that are new and all that they lead to: forward to find them, backward to measure."""
        first, each = len(self._distance.rows), len(self.joints)
        rows, counts, targets, probs = [], [], [], []
        frontier = self._new(states)
        while len(frontier):
            if len(self._number) > self.most_rows:
                self._forget()
                raise UserError(
                    f"{self.world.name}: {self.world.agents[self.agent]} alone can reach more than {self.most_rows:,} "
                    "states, too many for --human-prior shortest-path: give --human-prior learned"
                )
            rows.append(frontier)
            following = []
            for part in np.array_split(frontier, -(-len(frontier) * each // _PAIRS)):
                going = np.flatnonzero(~self.world.terminal(part))
                found = self.world.successors(np.repeat(part[going], each, 0), np.tile(self.joints, (len(going), 1)))
                count = np.zeros((len(part), each), np.int64)
                count[going] = np.diff(found.offsets).reshape(-1, each)
                following.append(self._new(found.states))
                keys = keys_of(found.states)
                targets.append(np.fromiter(map(self._number.__getitem__, keys), np.int64, len(keys)))
                counts.append(count)
                probs.append(found.probs)
            frontier = np.concatenate(following)
        met = np.concatenate(rows)
        self._measure(first, met, np.concatenate(counts), np.concatenate(targets), np.concatenate(probs))

    def _new(self, states: Shaped[np.ndarray, "m F"]) -> Shaped[np.ndarray, "k F"]:
        """Those that have no number, each once, in the order in which they come; now they have one."""
        fresh = []
        for i, key in enumerate(keys_of(states)):
            if key not in self._number:
                self._number[key] = len(self._number)
                fresh.append(i)
        return states[fresh]

    def _measure(
        self,
        first: int,
        states: Shaped[np.ndarray, "m F"],
        counts: Int[np.ndarray, "m k"],
        targets: Int[np.ndarray, "e"],
        probs: Shaped[np.ndarray, "e"],
    ) -> None:
        """Distances and policies of the states numbered from `first` on; k joint actions lead to `targets`."""
        m, goals = len(states), len(self.world.goals)
        attained = self.world.attained(states)[:, self.human]
        self._distance.append(np.where(attained, 0, np.inf).astype(np.float32))
        distance = self._distance.rows
        entries = counts.sum(1)
        going = np.flatnonzero(entries)
        begins = (np.cumsum(entries) - entries)[going]
        while len(going):  # one round for each step of the longest way
            shorter = np.minimum(distance[first + going], 1 + np.minimum.reduceat(distance[targets], begins))
            if np.array_equal(shorter, distance[first + going]):
                break
            distance[first + going] = shorter
        arriving = np.power(self.params.gamma_h, distance[targets], dtype=np.float64)  # gamma^inf: see below
        arriving[np.isinf(distance[targets])] = 0.0  # also with gamma_h 1
        owner = np.repeat(np.arange(m * self.size), counts.reshape(m * self.size, -1).sum(1))
        weights = probs * self.size / len(self.joints)
        q = np.stack([np.bincount(owner, weights * arriving[:, g], m * self.size) for g in range(goals)], 1)
        of_actions = torch.from_numpy(q.reshape(m, self.size, goals)).transpose(1, 2)
        policy = eq.human_policy(
            of_actions,
            torch.from_numpy(attained),
            self.params.beta_h,
            self.world.still[self.agent],
            self.params.nu_h,
        )
        self._policy.append(policy.numpy().astype(np.float32))


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
