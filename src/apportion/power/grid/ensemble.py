"""Several grid worlds as one world: one policy for all of them, and for others of their kind that are held out.

A state is one row: which world, then that world's state, filled up with 0. Agents are humans first, then robots, in
whatever order their map has them. Letters: n states, M worlds, F fields.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int16, Shaped, UInt8

from apportion.power.grid import layout as L
from apportion.power.grid.parse import read_yaml
from apportion.power.grid.planes import Encoder, Planes, planes_of, roles
from apportion.power.grid.world import GridWorld
from apportion.power.world import Successors
from apportion.rng import Streams
from apportion.types import UserError


class Ensemble:
    """A `World` that is one of `worlds`, drawn anew for each episode (`starts`), and stays it until the end.

    `planes`: how states become features (default: what these worlds need). Raises UserError where the worlds differ in
    numbers of humans, robots or goals, in actions or horizon: a network's inputs and outputs are the same for all.
    """

    enumerable = True

    def __init__(self, name: str, worlds: Sequence[GridWorld], planes: Planes | None = None):
        if not worlds:
            raise UserError(f"{name}: there is no world in it")
        for world in worlds:
            _refuse_different(worlds[0], world)
        self.name, self.worlds, first = name, tuple(worlds), worlds[0]
        humans = len(first.humans)
        self.agents = tuple(first.agents[i] for i in roles(first))
        self.humans, self.robots = tuple(range(humans)), tuple(range(humans, len(self.agents)))
        self.actions, self.still, self.horizon = first.actions, first.still, first.horizon
        self.goal_weights = first.goal_weights
        same = all(world.goals == first.goals for world in worlds)
        self.goals = first.goals if same else tuple(f"goal {g}" for g in range(len(first.goals)))
        self.planes = planes or planes_of(worlds)
        self._encoder = Encoder(self.planes, worlds)
        self._sizes = [world.initial().size for world in worlds]
        self._starts = np.zeros((len(worlds), 1 + self.planes.fields), np.int16)
        for m, world in enumerate(worlds):
            self._starts[m, 0], self._starts[m, 1 : 1 + self._sizes[m]] = m, world.initial()

    def with_horizon(self, horizon: int | None) -> Ensemble:
        """The same worlds with another number of steps; None: they go on for ever."""
        return Ensemble(self.name, [world.with_horizon(horizon) for world in self.worlds], self.planes)

    @property
    def digest(self) -> str:
        """Of no use: see `compile`. It keeps the generic way of enumerating from looking at the first world only."""
        return ""

    def compile(self, *, max_states: int | None = None, memory_limit: int | None = None) -> NoReturn:
        """UserError: worlds that never lead to one another are solved one by one."""
        raise UserError(f"{self.name} is {len(self.worlds)} worlds: they are solved one by one, by their own files")

    def initial(self) -> Int16[np.ndarray, "F"]:
        """Where the first world starts."""
        return self._starts[0].copy()

    def starts(self, noise: Float[np.ndarray, "n"]) -> Int16[np.ndarray, "n F"]:
        """The initial state of one of the worlds, each as likely as any other, by noise, uniform in [0, 1)."""
        return self._starts[(noise * len(self.worlds)).astype(np.int64)]

    def rows(self, m: int, states: Shaped[np.ndarray, "n f"]) -> Int16[np.ndarray, "n F"]:
        """States of world `m` as states of all."""
        out = np.zeros((len(states), self._starts.shape[1]), np.int16)
        out[:, 0], out[:, 1 : 1 + self._sizes[m]] = m, states
        return out

    def members(
        self, states: Shaped[np.ndarray, "n F"]
    ) -> Iterator[tuple[int, Int[np.ndarray, "k"], Shaped[np.ndarray, "k f"]]]:
        """For each world that occurs: its number, the rows that are its states, and these states as its own."""
        for m in np.unique(states[:, 0]).tolist():
            rows = np.flatnonzero(states[:, 0] == m)
            yield m, rows, states[rows, 1 : 1 + self._sizes[m]]

    def _as_in_maps(self, states: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """Joint actions in the order in which each row's map has its agents."""
        return np.take_along_axis(np.asarray(joints, np.int64), self._encoder.number[states[:, 0].astype(np.int64)], 1)

    def transitions(
        self, state: Shaped[np.ndarray, "F"], joint: Int[np.ndarray, "N"]
    ) -> tuple[Int16[np.ndarray, "m F"], Float[np.ndarray, "m"]]:
        """The successors of one state under one joint action, each once, and their probabilities."""
        _, states, probs = self.successors(state[None], joint[None])
        return states, probs

    def successors(self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"]) -> Successors:
        """`transitions` of n pairs at once."""
        joints = self._as_in_maps(states, joints)
        found = [(m, rows, self.worlds[m].successors(own, joints[rows])) for m, rows, own in self.members(states)]
        counts = np.zeros(len(states), np.int64)
        for _, rows, its in found:
            counts[rows] = np.diff(its.offsets)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        out, probs = np.zeros((int(offsets[-1]), states.shape[1]), np.int16), np.zeros(int(offsets[-1]))
        for m, rows, its in found:
            to = np.repeat(offsets[rows] - its.offsets[:-1], counts[rows]) + np.arange(len(its.probs))
            out[to, 0], probs[to] = m, its.probs
            out[to, 1 : 1 + self._sizes[m]] = its.states
        return Successors(offsets, out, probs)

    def sample(
        self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"], noise: Float[np.ndarray, "n"]
    ) -> Int16[np.ndarray, "n F"]:
        """One successor of each pair, drawn by noise, uniform in [0, 1)."""
        out, joints = np.array(states, np.int16), self._as_in_maps(states, joints)
        for m, rows, own in self.members(states):
            out[rows, 1 : 1 + self._sizes[m]] = self.worlds[m].sample(own, joints[rows], noise[rows])
        return out

    def terminal(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n"]:
        """Nowhere: only the horizon ends an episode."""
        return np.zeros(len(states), bool)

    def attained(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n H G"]:
        """Which goals hold for which human: those whose cells it is on."""
        which = states[:, 0].astype(np.int64)
        fields = 1 + self._encoder.order[which][:, : len(self.humans)] * L.PER_AGENT + L.POS
        return self._encoder.goal_cells[which[:, None], np.take_along_axis(states, fields, 1)]

    def encode(self, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n E"]:
        """The map, its goals and everything on it, as planes: see `grid/planes.py`."""
        return self._encoder(states[:, 0].astype(np.int64), states[:, 1:])

    def describe(self, state: Shaped[np.ndarray, "F"]) -> dict[str, Any]:
        """What the world says of it, and "world", its name."""
        ((m, _, own),) = self.members(state[None])
        return {"world": self.worlds[m].name, **self.worlds[m].describe(own[0])}

    def parse(self, description: dict[str, Any]) -> Int16[np.ndarray, "F"]:
        """The state that a description means. Raises UserError."""
        names = [world.name for world in self.worlds]
        if description.get("world") not in names:
            raise UserError(f"state: world {description.get('world')!r} is none of {', '.join(names)}")
        m = names.index(description["world"])
        state = self._starts[m].copy()
        state[1 : 1 + self._sizes[m]] = self.worlds[m].parse(description)
        return state

    def render(self, state: Shaped[np.ndarray, "F"]) -> UInt8[np.ndarray, "h w 3"]:
        """The picture of the world that it is a state of."""
        ((m, _, own),) = self.members(state[None])
        return self.worlds[m].render(own[0])


def from_configs(name: str, configs: Mapping[str, Mapping[str, Any]], without: Collection[str] = ()) -> Ensemble:
    """An ensemble from what the worlds' YAML files hold, by their names; but for the worlds `without`, which only
    have a say in the features and have to be of the same kind. Raises UserError for what makes no sense.
    """
    worlds = [GridWorld.from_config(config, world) for world, config in configs.items()]
    for world in worlds:
        _refuse_different(worlds[0], world)
    return Ensemble(name, [world for world in worlds if world.name not in without], planes_of(worlds))


def read_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """What all YAML files of a folder hold, by their names, in their order. Raises UserError where there is none."""
    files = sorted(path for path in folder.glob("*.y*ml") if path.suffix in (".yaml", ".yml"))
    if not files:
        raise UserError(f"{folder} has no YAML file: a folder of worlds is wanted")
    return {path.stem: read_yaml(path) for path in files}


def held_out(names: Collection[str], share: float, seed: int) -> tuple[str, ...]:
    """Which of the worlds to test on, by the seed: `share` of them, in (0, 1), at least one, and not all.

    Raises UserError for a share out of range, and for fewer than two worlds.
    """
    if not 0 < share < 1:
        raise UserError(f"a share of {share:g} worlds held out: it must lie between 0 and 1")
    if len(names) < 2:
        raise UserError(f"{', '.join(names) or 'no world'}: to hold out a world, at least 2 are needed")
    count = min(max(round(share * len(names)), 1), len(names) - 1)
    chosen = Streams(seed).generator("held out").permutation(len(names))[:count]
    return tuple(sorted(sorted(names)[i] for i in chosen))


def load(folder: Path) -> Ensemble:
    """All worlds of a folder, one YAML file each. Raises UserError."""
    return from_configs(folder.name, read_folder(folder))


def split(folder: Path, share: float, seed: int) -> tuple[Ensemble, Ensemble]:
    """(worlds to train on, worlds to test on: `held_out`), with features of one form. Raises UserError."""
    configs = read_folder(folder)
    test = held_out(list(configs), share, seed)
    train = [name for name in configs if name not in test]
    return from_configs(folder.name, configs, test), from_configs(folder.name, configs, train)


def _refuse_different(first: GridWorld, other: GridWorld) -> None:
    """Raises UserError, one line, with what the two differ in, or for an agent that is neither human nor robot."""
    if len(roles(other)) != len(other.agents):
        raise UserError(f"{other.name}: in an ensemble every agent is a human or a robot")
    for what, a, b in (
        ("humans", [len(first.humans)], [len(other.humans)]),
        ("robots", [len(first.robots)], [len(other.robots)]),
        ("actions", first.actions[0], other.actions[0]),
        ("goals", [len(first.goals)], [len(other.goals)]),
        ("steps", [first.horizon or "no end"], [other.horizon or "no end"]),
    ):
        if list(a) != list(b):
            lists = (", ".join(map(str, x)) or "none" for x in (a, b))
            raise UserError(
                f"{first.name} and {other.name} cannot be worlds of one ensemble: their {what} differ: "
                f"{' and '.join(lists)}"
            )
