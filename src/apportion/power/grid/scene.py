"""One moment of a grid world as a list of shapes: the ground, what lies on it, and who stands where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Shaped

from apportion.power.grid import glyphs
from apportion.power.grid import layout as grid
from apportion.power.grid.shapes import Label, Real, Shape, box, moved, stroke

RIM = 0.4  # cells: what is shown of walls all around the map, which say no more than that it ends there


@dataclass(frozen=True)
class Ground:
    """Terrain of one cell. `kind`: wall, lava, unsteady, switch or goal; plain floor is not listed."""

    kind: str
    x: int
    y: int
    color: str = ""  # one of the format's letters


@dataclass(frozen=True)
class Thing:
    """What can change or be moved. `kind`: a key of `_LOOKS`."""

    kind: str
    x: Real
    y: Real
    color: str = ""  # one of the format's letters
    state: str = ""  # door: locked, closed, open; magic wall: its side; disabling switch: kill, pause, control
    flags: frozenset[str] = frozenset()  # trampled, solid, off (not enabled), on, taught, awaiting


@dataclass(frozen=True)
class Body:
    """An agent. `turn` in quarters clockwise from east."""

    index: int
    human: bool
    number: int  # among the humans, or among the others
    x: Real
    y: Real
    turn: Real
    dead: bool = False
    paused: bool = False
    carries: Thing | None = None


@dataclass(frozen=True)
class Scene:
    width: int
    height: int
    ground: tuple[Ground, ...]
    things: tuple[Thing, ...] = ()
    bodies: tuple[Body, ...] = ()
    colors: dict[int, str] = field(default_factory=dict)  # of the humans, by agent

    @property
    def trim(self) -> Real:
        """What is cut off on each side: most of the outermost cells if they are all wall, else nothing."""
        walls = {(g.x, g.y) for g in self.ground if g.kind == "wall" and g.color in ("", "e")}
        rows, columns = range(self.height), range(self.width)
        ring = {(x, y) for x in columns for y in rows if x in (0, self.width - 1) or y in (0, self.height - 1)}
        return 1 - RIM if ring <= walls and self.width > 2 and self.height > 2 else 0.0

    @property
    def seen(self) -> tuple[Real, Real]:
        """Width and height of what is shown, cells."""
        return self.width - 2 * self.trim, self.height - 2 * self.trim


def scene_of(layout: grid.Layout, humans: Sequence[int], state: Shaped[np.ndarray, "F"]) -> Scene:
    """What a state looks like, read field by field (see layout.py)."""
    ground, things = _fixed(layout)
    agents = len(layout.agents)
    bodies = [_agent(layout, humans, i, state[i * grid.PER_AGENT : (i + 1) * grid.PER_AGENT]) for i in range(agents)]
    rest = state[agents * grid.PER_AGENT :].tolist()
    kinds = layout.kind_slots()
    names = [("block", "")] * len(layout.blocks) + [("rock", "")] * len(layout.rocks)
    names += [(k.type, grid.LETTERS[k.colour]) for k, n in zip(layout.kinds, kinds, strict=True) for _ in range(n)]
    lying = [(name, cell) for name, cell in zip(names, rest, strict=False) if cell >= 0]
    devices = [
        _device(layout, x, y, value) for (x, y, _), value in zip(layout.devices, rest[len(names) :], strict=True)
    ]
    loose = [Thing(kind, *layout.xy(cell), color=color) for (kind, color), cell in lying]
    colors = {human: glyphs.PEOPLE[i % len(glyphs.PEOPLE)] for i, human in enumerate(humans)}
    return Scene(layout.width, layout.height, ground, (*things, *devices, *loose), tuple(bodies), colors)


def _fixed(layout: grid.Layout) -> tuple[tuple[Ground, ...], tuple[Thing, ...]]:
    kinds = {grid.WALL: "wall", grid.LAVA: "lava", grid.UNSTEADY: "unsteady"}
    ground = [Ground("goal", x, y, grid.LETTERS[color]) for x, y, color in layout.goal_tiles]
    ground += [Ground("switch", x, y) for x, y in layout.switch_tiles]
    things = []
    for (y, x), code in np.ndenumerate(layout.terrain):
        if code in kinds:
            ground.append(Ground(kinds[int(code)], x, y, layout.codes[y][x][1] if code == grid.WALL else ""))
        if code == grid.DISABLE:
            what = {grid.KILL: "kill", grid.PAUSE: "pause", grid.CONTROL: "control"}[int(layout.detail[y, x])]
            things.append(Thing("disabling switch", x, y, state=what))
    return tuple(ground), tuple(things)


def _agent(layout: grid.Layout, humans: Sequence[int], index: int, fields: np.ndarray) -> Body:
    cell, turn, status, carried = (int(v) for v in fields[:4])
    kind = layout.kinds[carried - 1] if carried else None
    load = Thing(kind.type, 0, 0, grid.LETTERS[kind.colour]) if kind else None
    x, y = layout.xy(cell)
    others = [i for i in range(len(layout.agents)) if i not in humans]
    number = list(humans).index(index) if index in humans else others.index(index)
    return Body(index, index in humans, number, x, y, turn, bool(status & grid.DEAD), bool(status & grid.PAUSED), load)


def _device(layout: grid.Layout, x: int, y: int, value: int) -> Thing:
    code, detail = int(layout.terrain[y, x]), int(layout.detail[y, x])
    off = {"off"} if value & 1 == 0 else set()
    match code:
        case grid.DOOR:
            return Thing("door", x, y, grid.LETTERS[detail], grid.DOOR_STATES[value])
        case grid.BUSH:
            return Thing("bush", x, y, flags=frozenset({"trampled"} if value else ()))
        case grid.MAGIC:
            return Thing("magic wall", x, y, state=grid.SIDES[detail], flags=frozenset({"solid"} if value else ()))
        case grid.KILL:
            return Thing("kill button", x, y, flags=frozenset(off))
        case grid.PAUSE:
            return Thing("pause switch", x, y, flags=frozenset(off | ({"on"} if value & 2 else set())))
    assert code == grid.CONTROL
    more = {"awaiting"} if value & 2 else {"taught"} if (value >> 2) & 15 else set()
    return Thing("control button", x, y, flags=frozenset(off | more))


# ---------------------------------------------------------------- shapes


def floor(scene: Scene) -> list[Shape]:
    """The ground: the same in every state of a world. Its upper left corner is (0, 0)."""
    (wide, high), cut = scene.seen, scene.trim
    rim = cut > 0
    edge = RIM if rim else 0.0  # the wall all around is the ground, the floor a sheet upon it
    left, right, top, low = cut + edge, cut + wide - edge, cut + edge, cut + high - edge
    shapes: list[Shape] = [box(cut, cut, wide, high, glyphs.WALL)] if rim else []
    shapes.append(box(left, top, right - left, low - top, glyphs.FLOOR))
    shapes += [stroke(((x, top), (x, low)), glyphs.SEAM, 0.02) for x in range(1 + rim, scene.width - rim)]
    shapes += [stroke(((left, y), (right, y)), glyphs.SEAM, 0.02) for y in range(1 + rim, scene.height - rim)]
    for spot in sorted(scene.ground, key=lambda g: g.kind == "wall"):  # walls last: nothing overlaps their edges
        if not (rim and (spot.x in (0, scene.width - 1) or spot.y in (0, scene.height - 1))):
            shapes += moved(glyphs.GROUND[spot.kind](spot.color), spot.x + 0.5, spot.y + 0.5)
    return moved(shapes, -cut, -cut)


def actors(scene: Scene) -> list[Shape]:
    """What changes: things first, so that who stands on one is seen; heads above all."""
    shapes: list[Shape] = []
    for item in scene.things:
        shapes += moved(thing(item), item.x + 0.5, item.y + 0.5)
    for body in sorted(scene.bodies, key=lambda b: not b.dead):
        shapes += _body(body, scene)
    return moved(shapes, -scene.trim, -scene.trim)


def _body(body: Body, scene: Scene) -> list[Shape]:
    peers = sum(b.human == body.human for b in scene.bodies)
    number = str(body.number) if peers > 1 else ""
    color = scene.colors.get(body.index, glyphs.PEOPLE[0])
    whole = glyphs.human(color, dead=body.dead) if body.human else glyphs.robot(body.dead, body.paused)
    shapes = moved(whole, body.x + 0.5, body.y + 0.5, 1.0, 90 * body.turn)
    if number and not body.dead:  # a number stays upright, off the visor of a robot
        ink, size = (glyphs.INK, 0.36) if body.human else (glyphs.WHITE, 0.3)
        back = moved([Label(0 if body.human else -0.12, 0, number, size, ink, bold=True)], 0, 0, 1.0, 90 * body.turn)
        shapes += moved(back, body.x + 0.5, body.y + 0.5)
    if body.carries is not None:
        shapes += moved(thing(body.carries), body.x + 0.78, body.y + 0.8, 0.52)
    return shapes


def thing(item: Thing) -> list[Shape]:
    """The shapes of one thing about (0, 0)."""
    return _LOOKS[item.kind](item)


def _enabled(item: Thing) -> bool:
    return "off" not in item.flags


_LOOKS: dict[str, Callable[[Thing], list[Shape]]] = {
    "block": lambda item: glyphs.block(),
    "rock": lambda item: glyphs.rock(),
    "bush": lambda item: glyphs.bush("trampled" in item.flags),
    "key": lambda item: glyphs.key(item.color),
    "ball": lambda item: glyphs.ball(item.color),
    "box": lambda item: glyphs.chest(item.color),
    "door": lambda item: glyphs.door(item.color, item.state),
    "magic wall": lambda item: glyphs.magic(item.state, "solid" not in item.flags),
    "kill button": lambda item: glyphs.kill_button(_enabled(item)),
    "pause switch": lambda item: glyphs.pause_switch(_enabled(item), "on" in item.flags),
    "control button": lambda item: glyphs.control_button(
        _enabled(item), "taught" in item.flags, "awaiting" in item.flags
    ),
    "disabling switch": lambda item: glyphs.disabling_switch(item.state),
}


def coordinates(scene: Scene) -> list[Shape]:
    """Numbers of columns above and of rows to the left, as goals and maps count them."""
    wide, high = scene.seen

    def places(count: int, size: Real) -> list[Real]:
        inner = [i + 0.5 - scene.trim for i in range(count)]
        return [RIM / 2, *inner[1:-1], size - RIM / 2] if scene.trim else inner

    top = [Label(x, -0.22, str(i), 0.24, "#8a929c") for i, x in enumerate(places(scene.width, wide))]
    return [*top, *(Label(-0.22, y, str(i), 0.24, "#8a929c") for i, y in enumerate(places(scene.height, high)))]


# ---------------------------------------------------------------- between two moments


def between(a: Scene, b: Scene, share: Real) -> Scene:
    """The scene `share` of the way from `a` to its successor `b`: bodies turn and slide, what is pushed slides too."""
    ease = share * share * (3 - 2 * share)
    bodies = tuple(_blend(p, q, ease) for p, q in zip(a.bodies, b.bodies, strict=True))
    source = b if share > 0.5 else a  # doors and buttons change in the middle
    still = [t for t in source.things if t.kind not in ("block", "rock")]
    return replace(b, things=(*still, *_slide(a, b, ease)), bodies=bodies)


def _blend(p: Body, q: Body, ease: Real) -> Body:
    turn = (q.turn - p.turn + 2) % 4 - 2  # the short way round
    x, y = (u + (v - u) * ease for u, v in ((p.x, q.x), (p.y, q.y)))
    return replace(q if ease > 0.5 else p, x=x, y=y, turn=p.turn + turn * ease)


def _slide(a: Scene, b: Scene, ease: Real) -> list[Thing]:
    """Blocks and rocks of the same kind are interchangeable: those that left a place go to the nearest new one."""
    out: list[Thing] = []
    for kind in ("block", "rock"):
        before = [t for t in a.things if t.kind == kind]
        after = [t for t in b.things if t.kind == kind]
        stay = [t for t in before if (t.x, t.y) in {(s.x, s.y) for s in after}]
        left = [t for t in before if t not in stay]
        new = [t for t in after if (t.x, t.y) not in {(s.x, s.y) for s in before}]
        for old in left:
            goal = min(new, key=lambda t: abs(t.x - old.x) + abs(t.y - old.y))
            new.remove(goal)
            out.append(replace(old, x=old.x + (goal.x - old.x) * ease, y=old.y + (goal.y - old.y) * ease))
        out += stay
    return out
