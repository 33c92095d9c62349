"""What a learned human prior is trained on: states that were met, and Q_h^m's targets there.

Phase 1 knows no robot policy, so that anything may be done to meet states: robots act at random, some humans too, some
follow what was learned so far. Letters: n states, m successors, E features, H, G, A as in prior.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from apportion.power import equations as eq
from apportion.power.kernel import Kernel
from apportion.power.learn.features import features
from apportion.power.learn.goals import NONE, draw, resample
from apportion.power.learn.replay import Known
from apportion.power.learn.starts import starts
from apportion.power.learn.states import Ahead, StateTable
from apportion.power.params import PowerParams
from apportion.power.world import World
from apportion.rng import Streams
from apportion.types import UserError

WALKS = 32  # episodes side by side
LOOK = 512  # states that follow on those of a batch, drawn anew for each
STEPS = 8  # for each gradient step, of the one episode that some worlds allow at a time
CAPACITY = 100_000  # states at times that were met, others that were looked ahead to; or transitions
MOST_STATES = 600_000  # in the table, before those that are in no use are dropped
CUT = 64  # steps of an episode without a horizon
RESAMPLE = 0.05  # a step, of goals of humans who follow one

Act = Callable[[Shaped[np.ndarray, "n F"], Int[np.ndarray, "n"]], Float[np.ndarray, "n H G A"]]  # pi_h so far
Value = Callable[[Float[Tensor, "m E"], Bool[Tensor, "m H G"]], Float[Tensor, "m H G"]]  # V_h^m so far, were there time


class Batch(NamedTuple):
    """Targets of Q_h^m, [0, 1], where `weight` is 1; 0: nothing was seen, or nobody asks (the goal holds, the end)."""

    features: Float[Tensor, "n E"]
    target: Float[Tensor, "n H G A"]
    weight: Float[Tensor, "n H G A"]


class Data(Protocol):
    def collect(self, act: Act) -> None:
        """Meets more states."""
        ...

    def batch(self, n: int, value: Value) -> Batch:
        """Some of those that were met, with their targets."""
        ...


class Seen(NamedTuple):
    """One step of each of n episodes."""

    states: Shaped[np.ndarray, "n F"]
    t: Int[np.ndarray, "n"]
    joint: Int[np.ndarray, "n N"]
    following: Shaped[np.ndarray, "n F"]


class Walk:
    """n episodes. Everybody acts uniformly at random, but the humans of the first `eager` ones follow pi_h."""

    def __init__(self, world: World, n: int, eager: int):
        self.world, self.eager = world, eager
        self.limit = world.horizon or CUT
        self.states = np.repeat(world.initial()[None], n, 0)
        self.t = np.full(n, self.limit)  # over: the first step starts them all
        self.goals = np.full((n, len(world.humans)), NONE)

    def over(self) -> Int[np.ndarray, "k"]:
        """The episodes that are to start anew."""
        return np.flatnonzero((self.t >= self.limit) | self.world.terminal(self.states))

    def start(self, which: Int[np.ndarray, "k"], states: Shaped[np.ndarray, "k F"], t: Int[np.ndarray, "k"]) -> None:
        self.states, self.t = self.states.copy(), self.t.copy()
        self.states[which], self.t[which], self.goals[which] = states, t, NONE

    def step(self, act: Act, rng: np.random.Generator) -> Seen:
        """All take a step, with random numbers from `rng`."""
        world, n, e = self.world, len(self.t), self.eager
        sizes = np.array([len(names) for names in world.actions])
        joint = (rng.random((n, len(sizes))) * sizes).astype(np.int64)
        if e:
            noise = rng.random((e, len(world.humans), 3))
            attained = world.attained(self.states[:e])
            self.goals[:e] = resample(self.goals[:e], attained, world.goal_weights, RESAMPLE, noise[..., :2])
            prior = act(self.states[:e], self.t[:e])
            for h, agent in enumerate(world.humans):
                joint[:e, agent] = draw(prior[np.arange(e), h, self.goals[:e, h]], noise[:, h, 2])
        following = world.sample(self.states, joint, rng.random(n))
        seen = Seen(self.states, self.t.copy(), joint, following)
        self.states, self.t = following, self.t + 1
        return seen


class ModelData:
    """States at times, each once, and the exact expectation over what may follow on them.

    Half of a batch was met in episodes; the other half followed on earlier batches, whoever would have to do what for
    it: what is rare by chance need not be rare for a robot that has learned. Half of the episodes start there, too.
    """

    def __init__(self, world: World, params: PowerParams, streams: Streams):
        self.world, self.params, self.streams = world, params, streams
        self.table = StateTable(world)
        self.met = Known(CAPACITY, world.horizon or 1)
        self.ahead = Known(CAPACITY, world.horizon or 1)
        self.walk = Walk(world, WALKS, WALKS // 2)

    def collect(self, act: Act) -> None:
        over = self.walk.over()
        if len(over):
            noise = self.streams.generator("prior/starts").random((len(over), 2))
            states, t = starts(self.world, noise[:, 0]), np.zeros(len(over), np.int64)
            again = np.flatnonzero(noise[:, 1] < 0.5) if self.ahead.n else over[:0]
            if len(again):
                ids, t[again] = self.ahead.draw(2 * noise[again, 1])
                states[again] = self.table.states(ids)
            self.walk.start(over, states, t)
        seen = self.walk.step(act, self.streams.generator("prior/walk"))
        self.met.add(self.table.intern(seen.states), self._clock(seen.t), len(self.table))
        if len(self.table) > MOST_STATES:
            ids = np.union1d(self.met.ids(), self.ahead.ids())
            number = np.zeros(len(self.table), np.int64)
            number[ids] = np.arange(len(ids))
            self.table = self.table.kept(ids)
            self.met.renumber(number)
            self.ahead.renumber(number)

    def _clock(self, t: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        return t if self.world.horizon is not None else np.zeros_like(t)

    def batch(self, n: int, value: Value) -> Batch:
        ids, t = self._drawn(self.streams.generator("prior/batch").random(n))
        ahead = self.table.ahead(ids, t)
        if len(ahead.ids):
            self._look_ahead(ahead)
        arriving = self._arriving(ahead, value)
        kernel = self._kernel(ahead)
        believed = eq.over_robots(kernel.expected(0, n, arriving.flatten(1)), self.params.robot_belief)
        attained = torch.from_numpy(self.table.attained(ids))
        goals, most = len(self.world.goals), max(kernel.sizes)
        target, weight = torch.zeros((2, n, len(kernel.sizes), goals, most))
        for h, size in enumerate(kernel.sizes):
            target[:, h, :, :size] = eq.human_q(believed[:, :, h * goals : (h + 1) * goals], kernel.sizes, h)
            weight[:, h, :, :size] = (~attained[:, h, :, None]).float()
        return Batch(torch.from_numpy(self.table.features(ids, t)), target, weight)

    def _drawn(self, noise: Float[np.ndarray, "n"]) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        half = len(noise) // 2 if self.ahead.n else len(noise)
        pairs = self.met.draw(noise[:half]), self.ahead.draw(noise[half:])
        return np.concatenate([pairs[0][0], pairs[1][0]]), np.concatenate([pairs[0][1], pairs[1][1]])

    def _look_ahead(self, ahead: Ahead) -> None:
        """Takes in some of what may follow on a batch."""
        rows = self.streams.generator("prior/ahead").integers(len(ahead.ids), size=LOOK)
        ids, t = ahead.ids[rows], ahead.t[rows]
        goes_on = ~self._over(ids, t)
        self.ahead.add(ids[goes_on], t[goes_on], len(self.table))

    def _over(self, ids: Int[np.ndarray, "m"], t: Int[np.ndarray, "m"]) -> Bool[np.ndarray, "m"]:
        horizon, over = self.world.horizon, self.table.terminal(ids)
        return over if horizon is None else over | (t >= horizon)

    def _arriving(self, ahead: Ahead, value: Value) -> Float[Tensor, "m H G"]:
        """What it is worth to arrive in these states at these times."""
        attained = torch.from_numpy(self.table.attained(ahead.ids))
        over = torch.from_numpy(self._over(ahead.ids, ahead.t))
        found = value(torch.from_numpy(self.table.features(ahead.ids, ahead.t)), attained)
        return eq.first_attainment(attained, torch.where(over[:, None, None], 0.0, found), self.params.gamma_h)

    def _kernel(self, ahead: Ahead) -> Kernel:
        world, nobody = self.world, torch.zeros((0, len(self.world.humans), 0), dtype=torch.bool)
        return Kernel(
            indptr=torch.from_numpy(ahead.indptr),
            indices=torch.from_numpy(ahead.indices),
            probs=torch.from_numpy(ahead.probs),
            attained=nobody,
            terminal=torch.zeros(0, dtype=torch.bool),
            weights=torch.zeros(0),
            sizes=tuple(len(world.actions[h]) for h in world.humans),
            still=tuple(world.still[h] for h in world.humans),
            robot_actions=int(np.prod([len(world.actions[r]) for r in world.robots], dtype=np.int64)),
        )


class SampledData:
    """Transitions of episodes in which everybody acts uniformly, as Phase 1 takes others to do.

    An environment that cannot be put into a state (`ParallelWorld` without `restore`) has one episode at a time.
    """

    def __init__(self, world: World, params: PowerParams, streams: Streams):
        self.world, self.params, self.streams = world, params, streams
        self.walk = Walk(world, WALKS, 0)
        self.kept: dict[str, np.ndarray] = {}
        self.n, self.at = 0, 0

    def collect(self, act: Act) -> None:
        if len(self.walk.t) > 1:
            try:
                return self._step(act)
            except UserError:  # what a world says that can only go on from where it is
                self.walk = Walk(self.world, 1, 0)
        for _ in range(STEPS):
            self._step(act)

    def _step(self, act: Act) -> None:
        over = self.walk.over()
        if len(over):
            noise = self.streams.generator("prior/starts").random(len(over))
            self.walk.start(over, starts(self.world, noise), np.zeros(len(over), np.int64))
        self._add(self.walk.step(act, self.streams.generator("prior/walk")))

    def _add(self, seen: Seen) -> None:
        world = self.world
        over = world.terminal(seen.following)
        over = over if world.horizon is None else over | (seen.t + 1 >= world.horizon)
        new = {
            "features": features(world, seen.states, seen.t),
            "attained": world.attained(seen.states),
            "acts": seen.joint[:, list(world.humans)],
            "then": features(world, seen.following, seen.t + 1),
            "there": world.attained(seen.following),
            "over": over,
        }
        rows = (self.at + np.arange(len(seen.t))) % CAPACITY
        for name, values in new.items():
            if name not in self.kept:
                self.kept[name] = np.zeros((CAPACITY, *values.shape[1:]), values.dtype)
            self.kept[name][rows] = values
        self.at, self.n = (self.at + len(rows)) % CAPACITY, min(CAPACITY, self.n + len(rows))

    def batch(self, n: int, value: Value) -> Batch:
        rows = self.streams.generator("prior/batch").integers(self.n, size=n)
        drawn = {name: torch.from_numpy(column[rows]) for name, column in self.kept.items()}
        found = torch.where(drawn["over"][:, None, None], 0.0, value(drawn["then"], drawn["there"]))
        arriving = eq.first_attainment(drawn["there"], found, self.params.gamma_h)
        most = max(len(self.world.actions[h]) for h in self.world.humans)
        taken = torch.nn.functional.one_hot(drawn["acts"], most)[:, :, None, :]  # each human's own action alone
        weight = (taken * ~drawn["attained"][..., None]).float()
        return Batch(drawn["features"], arriving[..., None].expand(weight.shape), weight)
