"""Several maps as features of one form: planes over their common bounding box, so that one network serves them all.

Letters: n states, N agents, M maps, F fields of a state, C cells of the box (row by row), P planes, E features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int, Shaped

from apportion.power.grid import layout as L
from apportion.power.grid.world import GridWorld
from apportion.types import UserError

_DETAILED = (L.DOOR, L.MAGIC, L.DISABLE)  # a plane for each of their colours, sides, targets
_STATEFUL = (L.DOOR, L.BUSH, L.MAGIC, L.KILL, L.PAUSE, L.CONTROL)


@dataclass(frozen=True)
class Planes:
    """What features there are. The same for all worlds that were there when it was made, so for parts of them too."""

    width: int  # of the box that holds every map, its upper left corner in the box's
    height: int
    fields: int  # of a state, the most that a world has
    ground: tuple[tuple[int, int], ...]  # (terrain, detail) of each plane of what never changes; first is the wall
    pushed: tuple[str, ...]  # "block", "rock": which there are
    kinds: tuple[L.Kind, ...]  # of keys, balls and boxes
    devices: tuple[int, ...]  # terrain of those that have a state

    @property
    def cells(self) -> int:
        return self.width * self.height


def planes_of(worlds: Sequence[GridWorld]) -> Planes:
    """The planes that these worlds need together."""
    layouts = [world.layout for world in worlds]
    kinds = {str(kind): kind for layout in layouts for kind in layout.kinds}
    there = set().union(*map(_ground, layouts))
    return Planes(
        width=max(layout.width for layout in layouts),
        height=max(layout.height for layout in layouts),
        fields=max(world.initial().size for world in worlds),
        ground=((L.WALL, 0), *sorted(there - {(L.WALL, 0), (L.FLOOR, 0)})),
        pushed=tuple(name for name, has in (("block", _blocks), ("rock", _rocks)) if any(map(has, layouts))),
        kinds=tuple(kinds[name] for name in sorted(kinds)),
        devices=tuple(terrain for terrain in _STATEFUL if any(t == terrain for t, _ in there)),
    )


def _blocks(layout: L.Layout) -> bool:
    return len(layout.blocks) > 0


def _rocks(layout: L.Layout) -> bool:
    return len(layout.rocks) > 0


def _ground(layout: L.Layout) -> set[tuple[int, int]]:
    """(terrain, detail) of all that there is; detail is 0 where it says nothing."""
    cells = zip(layout.terrain.ravel().tolist(), layout.detail.ravel().tolist(), strict=True)
    return {(terrain, detail if terrain in _DETAILED else 0) for terrain, detail in cells}


def roles(world: GridWorld) -> tuple[int, ...]:
    """The agents by what they are: all humans, then all robots. A map numbers them in reading order."""
    return (*world.humans, *world.robots)


class Encoder:
    """`planes` of states of any of `worlds`, which have as many humans, robots and goals each. Agents are by `roles`.

    Raises UserError for a world with something that there is no plane for.
    """

    def __init__(self, planes: Planes, worlds: Sequence[GridWorld]):
        for world in worlds:
            _refuse_unknown(planes, planes_of([world]), world.name)
        self.planes, self.agents = planes, len(worlds[0].agents)
        self.order: Int[np.ndarray, "M N"] = np.array([roles(world) for world in worlds], np.int64)
        self.number: Int[np.ndarray, "M N"] = np.argsort(self.order, 1)  # in `roles`, of an agent by its map's number
        most = max((world.layout.width + 2) * (world.layout.height + 2) for world in worlds)
        self.place = np.full((len(worlds), most), -1)  # (M, cells of a bordered map): its number in the box
        self.goal_cells = np.zeros((len(worlds), most, len(worlds[0].goals)), bool)
        self.object_plane = np.full((len(worlds), planes.fields), -1)  # (M, F): of the object whose cell it holds
        self.device = np.full((len(worlds), planes.fields), -1)  # (M, F): the terrain whose state it holds
        self.device_place = np.full((len(worlds), planes.fields), -1)
        self.kind_number = np.zeros((len(worlds), max(1, len(planes.kinds))), np.int64)  # in `planes`, of a map's own
        for m, world in enumerate(worlds):
            self._enter(m, world)
        self.still: Float32[np.ndarray, "M _"] = np.stack([self._still(m, world) for m, world in enumerate(worlds)])
        self.traits: Float32[np.ndarray, "M N _"] = np.stack([_traits(world) for world in worlds])
        self.widths = [_device_planes(terrain, self.agents) for terrain in planes.devices]
        self.forced = L.CONTROL in planes.devices

    def _enter(self, m: int, world: GridWorld) -> None:
        layout, rules = world.layout, world.rules
        y, x = np.divmod(np.arange(layout.width * layout.height), layout.width)
        self.place[m, (y + 1) * (layout.width + 2) + x + 1] = y * self.planes.width + x
        for g, (x1, y1, x2, y2) in enumerate(world.goal_rectangles):
            inside = (x >= x1) & (x <= x2) & (y >= y1) & (y <= y2)
            self.goal_cells[m, (y[inside] + 1) * (layout.width + 2) + x[inside] + 1, g] = True
        first = len(world.agents)  # the planes of the agents come first
        pushed = ("block", rules.first_block, rules.first_rock), ("rock", rules.first_rock, rules.first_portable)
        for name, a, b in pushed:
            if b > a:
                self.object_plane[m, a:b] = first + self.planes.pushed.index(name)
        first += len(self.planes.pushed)
        for k, kind in enumerate(layout.kinds):
            a, b = rules.kinds[k, L.KIND_FIRST], rules.kinds[k + 1, L.KIND_FIRST]
            self.kind_number[m, k] = self.planes.kinds.index(kind)
            self.object_plane[m, a:b] = first + self.kind_number[m, k]
        for d, cell in enumerate(rules.device_cell):
            self.device[m, rules.first_device + d] = rules.cells[cell, L.GROUND]
            self.device_place[m, rules.first_device + d] = self.place[m, cell]

    def _still(self, m: int, world: GridWorld) -> Float32[np.ndarray, "_"]:
        """What no state changes: the ground, where each goal is, and how likely chance does what."""
        layout, planes = world.layout, self.planes
        ground = np.zeros((len(planes.ground), planes.height, planes.width), np.float32)
        ground[0] = 1  # wall, where there is no map
        ground[0, : layout.height, : layout.width] = layout.terrain == L.WALL
        for p, (terrain, detail) in enumerate(planes.ground[1:], 1):
            same = (layout.terrain == terrain) & ((layout.detail == detail) | (terrain not in _DETAILED))
            ground[p, : layout.height, : layout.width] = same
        goals = np.zeros((len(world.goals), planes.cells), np.float32)
        cell, g = np.nonzero(self.goal_cells[m])
        goals[g, self.place[m, cell]] = 1
        chances = (world.settings.stumble, world.settings.solidify, world.settings.bush)
        return np.concatenate([ground.ravel(), goals.ravel(), np.array(chances, np.float32)])

    def __call__(self, which: Int[np.ndarray, "n"], body: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n E"]:
        """What never changes in map `which`; a plane for each agent, kind of object and bit of a device's state; and of
        each agent: dir, dead, paused, x and y in [-1, 1], colour, may it push rocks and enter magic walls, what it
        carries, and where there are control buttons, what it is forced to do.
        """
        body = np.asarray(body, np.int64)
        parts = self._moving(which, body), self._people(which, body)
        flat = [part.reshape(len(body), math.prod(part.shape[1:])) for part in parts]
        return np.concatenate([self.still[which], *flat], 1)

    def _moving(self, which: np.ndarray, body: np.ndarray) -> Float32[np.ndarray, "n P C"]:
        planes, rows = self.planes, np.arange(len(body))
        first = self.agents + len(planes.pushed) + len(planes.kinds)
        out = np.zeros((len(body), first + sum(self.widths), planes.cells), np.float32)
        for i in range(self.agents):
            at = body[rows, self.order[which, i] * L.PER_AGENT + L.POS]
            out[rows, i, self.place[which, at]] = 1
        plane = self.object_plane[which]
        r, f = np.nonzero((plane >= 0) & (body >= 0))
        out[r, plane[r, f], self.place[which[r], body[r, f]]] = 1
        terrain = self.device[which]
        for kind, width in zip(planes.devices, self.widths, strict=True):
            r, f = np.nonzero(terrain == kind)
            bits = _bits(kind, body[r, f], self.number[which[r]])
            out[r, first : first + width, self.device_place[which[r], f]] = bits
            first += width
        return out

    def _people(self, which: np.ndarray, body: np.ndarray) -> Float32[np.ndarray, "n N _"]:
        parts = body[:, : self.agents * L.PER_AGENT].reshape(len(body), self.agents, L.PER_AGENT)
        parts = np.take_along_axis(parts, self.order[which][..., None], 1)
        place = self.place[which[:, None], parts[..., L.POS]]
        y, x = np.divmod(place, self.planes.width)
        scaled = [2 * v / max(size - 1, 1) - 1 for v, size in ((x, self.planes.width), (y, self.planes.height))]
        status = parts[..., L.STATUS]
        columns = [
            _one_hot(parts[..., L.DIR], 4),
            np.stack([status & L.DEAD > 0, status & L.PAUSED > 0, *scaled], -1).astype(np.float32),
            self.traits[which],
            _one_hot(self._carried(which, parts[..., L.CARRY]), len(self.planes.kinds)),
        ]
        columns += [_one_hot(parts[..., L.FORCED] - 1, len(L.OPERATIONS))] if self.forced else []
        return np.concatenate(columns, -1)

    def _carried(self, which: np.ndarray, carry: np.ndarray) -> np.ndarray:
        """Numbers in `planes.kinds` of what a map calls its kind `carry` - 1; -1 for nothing."""
        return np.where(carry > 0, self.kind_number[which[:, None], np.maximum(carry - 1, 0)], -1)


def _one_hot(values: np.ndarray, size: int) -> np.ndarray:
    """(...) integers -> (..., size); what is outside 0 to size - 1 has no 1."""
    return (values[..., None] == np.arange(size)).astype(np.float32)


def _traits(world: GridWorld) -> Float32[np.ndarray, "N _"]:
    """What each agent is, by `roles`: its colour, may it push rocks, may it enter magic walls."""
    who = world.rules.who[list(roles(world))]
    flags = who[:, [L.PUSHER, L.MAGICIAN]]
    return np.concatenate([_one_hot(who[:, L.COLOUR], len(L.LETTERS)), flags], 1, dtype=np.float32)


def _device_planes(terrain: int, agents: int) -> int:
    if terrain == L.CONTROL:
        return 2 + agents + len(L.OPERATIONS)
    return 2 if terrain in (L.DOOR, L.PAUSE) else 1


def _bits(terrain: int, value: Int[np.ndarray, "k"], number: Int[np.ndarray, "k N"]) -> np.ndarray:
    """The state of k devices, in as many bits as `_device_planes` says; a door that is open has none.

    `number`: what a button's agent is called here, instead of in its map.
    """
    if terrain == L.DOOR:
        return np.stack([value == L.CLOSED, value == L.LOCKED], 1)
    if terrain == L.PAUSE:
        return np.stack([value & 1, value >> 1], 1)
    if terrain != L.CONTROL:
        return value[:, None]
    agent = (value >> 6) - 1
    known = np.where(agent < 0, -1, number[np.arange(len(value)), np.maximum(agent, 0)])
    recorded = _one_hot((value >> 2 & 15) - 1, len(L.OPERATIONS))
    return np.concatenate([np.stack([value & 1, value >> 1 & 1], 1), _one_hot(known, number.shape[1]), recorded], 1)


def _refuse_unknown(planes: Planes, own: Planes, name: str) -> None:
    """Raises UserError if a world that needs `own` does not fit into `planes`."""
    if own.width > planes.width or own.height > planes.height:
        raise UserError(
            f"{name}: its map of {own.width} x {own.height} cells is larger than the {planes.width} x {planes.height} "
            "of the worlds that the features were made for"
        )
    unknown = [L.TERRAIN[t] for t, d in own.ground if (t, d) not in planes.ground]
    unknown += [what for what in (*own.pushed, *own.kinds) if what not in (*planes.pushed, *planes.kinds)]
    if unknown or own.fields > planes.fields:
        what = f"a {unknown[0]} like its own" if unknown else "so many objects"
        raise UserError(f"{name}: none of the worlds that the features were made for has {what}")
