"""Grid worlds: humans and robots who move at the same time, from a map of two-character cells."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int16, Shaped, UInt8

from apportion.power.compiled import Compiled
from apportion.power.grid import fields
from apportion.power.grid import layout as L
from apportion.power.grid.compile import compile_grid
from apportion.power.grid.draw import raster, scene
from apportion.power.grid.encode import encode
from apportion.power.grid.goals import name_of
from apportion.power.grid.loops import batch, pick
from apportion.power.grid.parse import Settings, read_config, read_yaml
from apportion.power.grid.step import ROWS
from apportion.power.world import Successors
from apportion.types import UserError

SHIPPED = Path(__file__).parent / "worlds"
RULES_VERSION = 1  # part of every digest: raise it when the rules change, so that no old compiled world is used


class GridWorld:
    """A `World` on a grid. `settings`: what its file says beside the map; `layout`: the map; `rules`: both, flat."""

    enumerable = True

    def __init__(self, name: str, layout: L.Layout, settings: Settings):
        self.name, self.layout, self.settings = name, layout, settings
        n = len(layout.agents)
        self.humans, self.robots = settings.humans, settings.robots
        self.agents = tuple(self._agent_name(i) for i in range(n))
        self.actions = (settings.actions,) * n
        self.still = (settings.actions.index("still") if "still" in settings.actions else None,) * n
        self.goal_rectangles = settings.goals
        self.goals = tuple(name_of(goal) for goal in settings.goals)
        self.goal_weights: Float[np.ndarray, "G"] = np.full(len(self.goals), 1 / len(self.goals))
        self.horizon = settings.max_steps
        self.rules = fields.make_rules(layout, settings)
        self._first = fields.first_state(layout, self.rules)
        self._goal_cells = self._cells_of_goals()

    @classmethod
    def from_config(cls, config: Mapping[str, Any], name: str) -> GridWorld:
        """A world from what its YAML file would hold. Raises UserError; warnings are in `settings.warnings`."""
        layout, settings = read_config(config, name)
        return cls(name, layout, settings)

    def with_horizon(self, horizon: int | None) -> GridWorld:
        """The same world with another number of steps; None: it goes on for ever."""
        return GridWorld(self.name, self.layout, dataclasses.replace(self.settings, max_steps=horizon))

    def _agent_name(self, i: int) -> str:
        for role, agents in (("human", self.humans), ("robot", self.robots)):
            if i in agents:
                return f"{role} {agents.index(i)}" if len(agents) > 1 else role
        return f"agent {i}"

    def _cells_of_goals(self) -> Bool[np.ndarray, "cells G"]:
        inside = np.zeros((self.layout.height, self.layout.width, len(self.goals)), bool)
        for g, (x1, y1, x2, y2) in enumerate(self.goal_rectangles):
            inside[y1 : y2 + 1, x1 : x2 + 1, g] = True
        return np.pad(inside, ((1, 1), (1, 1), (0, 0))).reshape(-1, len(self.goals))

    @property
    def digest(self) -> str:
        """Hash of everything that the states and successors follow from; warnings and the name are no part of it."""
        rules = [value.tolist() if isinstance(value, np.ndarray) else value for value in self.rules]
        content = [RULES_VERSION, rules, self._first.tolist(), self.goals, self.horizon, self.layout.width]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def initial(self) -> Int16[np.ndarray, "F"]:
        return self._first.copy()

    def transitions(
        self, state: Shaped[np.ndarray, "F"], joint: Int[np.ndarray, "N"]
    ) -> tuple[Int16[np.ndarray, "m F"], Float[np.ndarray, "m"]]:
        """The successors of one state under one joint action, each once, and their probabilities."""
        _, states, probs = self.successors(state[None], joint[None])
        return states, probs

    def _pairs(self, states: np.ndarray, joints: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Both as the compiled rules want them. Raises ValueError for actions that do not exist."""
        states = np.ascontiguousarray(states, np.int16)
        joints = np.ascontiguousarray(joints, np.int64)
        if joints.size and not (joints.min() >= 0 and joints.max() < len(self.actions[0])):
            raise ValueError(f"actions must be 0 to {len(self.actions[0]) - 1}: {joints.min()} to {joints.max()}")
        if joints.shape != (len(states), len(self.agents)) or states.shape[1:] != self._first.shape:
            raise ValueError(
                f"{states.shape} states, {joints.shape} actions: (n, {self._first.size}) and (n, {len(self.agents)})"
            )
        return states, joints

    def successors(self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"]) -> Successors:
        """`transitions` of n pairs at once. joints: each agent's action, by its number."""
        states, joints = self._pairs(states, joints)
        n = len(states)
        offsets = np.zeros(n + 1, np.int64)
        room = n + self.rules.most
        out, probs = np.empty((room, states.shape[1]), np.int16), np.empty(room)
        most = self.rules.most
        w = np.zeros((ROWS, len(self.agents)), np.int64)
        a, b = np.empty((2, most, states.shape[1]), np.int16)
        pa, pb = np.empty((2, most))
        done = batch(self.rules, states, joints, 0, w, a, pa, b, pb, offsets, out, probs)
        while done < n:
            room = 2 * room + self.rules.most
            out, probs = (np.concatenate([a, np.empty((room - len(a), *a.shape[1:]), a.dtype)]) for a in (out, probs))
            done = batch(self.rules, states, joints, done, w, a, pa, b, pb, offsets, out, probs)
        return Successors(offsets, out[: offsets[-1]], probs[: offsets[-1]])

    def sample(
        self, states: Shaped[np.ndarray, "n F"], joints: Int[np.ndarray, "n N"], noise: Float[np.ndarray, "n"]
    ) -> Int16[np.ndarray, "n F"]:
        """One successor of each pair, drawn by noise, uniform in [0, 1)."""
        offsets, out, probs = self.successors(states, joints)
        picked = np.empty(len(offsets) - 1, np.int64)
        pick(offsets, probs, np.ascontiguousarray(noise, np.float64), picked)
        return out[picked]

    def terminal(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n"]:
        """Nowhere: only the horizon ends an episode."""
        return np.zeros(len(states), bool)

    def attained(self, states: Shaped[np.ndarray, "n F"]) -> Bool[np.ndarray, "n H G"]:
        """Which goals hold for which human: those whose cells it is on, dead or alive."""
        return self._goal_cells[states[:, np.array(self.humans, np.int64) * L.PER_AGENT + L.POS]]

    def positions(self, states: Shaped[np.ndarray, "n F"]) -> Int[np.ndarray, "n N 2"]:
        """x and y of every agent."""
        cells = states[:, L.POS : self.rules.first_block : L.PER_AGENT].astype(np.int64)
        y, x = np.divmod(cells, self.layout.width + 2)
        return np.stack([x - 1, y - 1], -1)

    def encode(self, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n E"]:
        """Where everything is, one feature per cell, and its flags; coordinates are in [-1, 1], all else is a count."""
        return encode(self.layout, self.rules, states)

    def describe(self, state: Shaped[np.ndarray, "F"]) -> dict[str, Any]:
        return fields.describe(self.layout, self.rules, state)

    def parse(self, description: dict[str, Any]) -> Int16[np.ndarray, "F"]:
        return fields.parse(self.layout, self.rules, description)

    def render(self, state: Shaped[np.ndarray, "F"]) -> UInt8[np.ndarray, "h w 3"]:
        return raster(scene(self, state))

    def compile(self, *, max_states: int | None = None, memory_limit: int | None = None) -> Compiled:
        return compile_grid(self, self.digest, max_states=max_states, memory_limit=memory_limit)


def shipped_worlds() -> tuple[str, ...]:
    """The names of the worlds that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))


def load_world(path_or_name: str | Path) -> GridWorld:
    """A world from a YAML file, from the `config` of a JSON file with reference values, or one of our own by its name.

    Warnings go to stderr, one line each. Raises UserError for what cannot be read or makes no sense.
    """
    path = Path(path_or_name)
    if not path.exists() and str(path_or_name) in shipped_worlds():
        path = SHIPPED / f"{path_or_name}.yaml"
    if path.is_dir():
        raise UserError(f"{path} is a folder, and neither a world nor a run that was learned: give a file in it")
    if not path.is_file():
        beside = [str(path.parent / file.name) for ending in ("*.yaml", "*.yml") for file in path.parent.glob(ending)]
        near = difflib.get_close_matches(str(path_or_name), [*beside, *shipped_worlds()], 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"give a YAML file, or one of {', '.join(shipped_worlds())}"
        raise UserError(f"there is no world {str(path_or_name)!r}; {hint}")
    layout, settings = read_config(read_yaml(path), str(path))
    for warning in settings.warnings:
        print(f"{path}: {warning}", file=sys.stderr)
    return GridWorld(path.stem, layout, settings)
