"""Pictures of grid worlds: one state with a legend, a gallery of worlds; as pixels, PNG or SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped, UInt8

from apportion.power.grid import glyphs, shapes
from apportion.power.grid.layout import Layout
from apportion.power.grid.scene import Scene, Thing, actors, coordinates, floor, scene_of, thing
from apportion.power.grid.shapes import Label, Real, Shape, box, moved
from apportion.run.files import write_atomic
from apportion.types import UserError

PAPER, INK, FAINT = "#ffffff", "#22272e", "#6b7480"
CELL = 48  # pixels of a cell in `raster`
CELL_PRINT = 96  # in files
EDGE = 0.42  # cells around the map, for coordinates
WORDS = {
    "block": "block: anyone pushes it",
    "rock": "rock: robots push it",
    "bush": "bush",
    "key": "key",
    "ball": "ball",
    "box": "box",
    "magic wall": "magic wall",
    "kill button": "turns robots off",
    "pause switch": "pauses robots",
    "control button": "control button",
    "disabling switch": "disabling switch",
}
GROUND_WORDS = {"lava": "lava: deadly", "unsteady": "unsteady ground", "goal": "goal tile", "switch": "switch"}
LEGEND = 0.62  # cells: height of a line of the legend
WIDE = 0.14  # cells: width of a letter in it, about


@dataclass(frozen=True)
class Picture:
    """Shapes within width x height cells; the map's upper left corner is at (left, top)."""

    shapes: list[Shape]
    width: Real
    height: Real
    left: Real = 0.0
    top: Real = 0.0


@runtime_checkable
class Mapped(Protocol):
    """What is drawn of a world: `GridWorld` is one, and builds on this file."""

    @property
    def layout(self) -> Layout: ...

    @property
    def humans(self) -> tuple[int, ...]: ...

    def initial(self) -> Shaped[np.ndarray, "F"]: ...


def scene(world: Mapped, state: Shaped[np.ndarray, "F"] | None = None) -> Scene:
    """The scene of a state, the initial one by default."""
    return scene_of(world.layout, world.humans, world.initial() if state is None else state)


def picture(at: Scene, *, legend: bool = True, numbers: bool = True, width: Real = 0.0) -> Picture:
    """The map, with numbers of columns and rows, and below it what is what; at least `width` cells wide."""
    left = top = EDGE if numbers else 0.0
    found: list[Shape] = moved([*floor(at), *actors(at), *(coordinates(at) if numbers else [])], left, top)
    wide = max(at.seen[0] + left, width)
    height = at.seen[1] + top
    if legend:
        words, deep = _legend(at, wide - left)
        found += moved(words, left, height + 0.3)
        height += deep + 0.3
    margin = 0.12 if numbers else 0.0
    return Picture(found, wide + margin, height + margin, left, top)


def raster(at: Scene, cell: int = CELL) -> UInt8[np.ndarray, "h w 3"]:
    """The map alone, `cell` pixels for each cell."""
    return pixels(picture(at, legend=False, numbers=False), cell)


def pixels(found: Picture, cell: int = CELL_PRINT) -> UInt8[np.ndarray, "h w 3"]:
    return shapes.pixels(found.shapes, found.width, found.height, cell, PAPER)


def svg(found: Picture, title: str) -> str:
    return shapes.svg(found.shapes, found.width, found.height, PAPER, title)


def save(found: Picture, path: Path, title: str) -> Path:
    """Writes a picture as its ending says, .png or .svg; the same picture gives the same bytes. Raises UserError."""
    kind = path.suffix.lower()
    if kind not in (".png", ".svg"):
        raise UserError(f"{path}: a picture's name ends in .png or .svg")
    data = svg(found, title).encode() if kind == ".svg" else png(found)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from error
    return path


def png(found: Picture, cell: int = CELL_PRINT) -> bytes:
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels(found, cell)).save(data, "PNG", optimize=True)
    return data.getvalue()


# ---------------------------------------------------------------- what is what


def _legend(at: Scene, width: Real) -> tuple[list[Shape], Real]:
    """Lines of at most `width` cells, and the height that they take."""
    found: list[Shape] = []
    x = y = 0.0
    for sample, words in _entries(at):
        need = 0.62 + WIDE * len(words) + 0.35
        if x > 0 and x + need > width + 0.35:
            x, y = 0.0, y + LEGEND
        found += moved(sample, x + 0.24, y + 0.3, 0.5)
        found.append(Label(x + 0.58, y + 0.3, words, 0.27, INK, anchor="left"))
        x += need
    return found, y + LEGEND


def _entries(at: Scene) -> list[tuple[list[Shape], str]]:
    """(sample, words) of everything that there is, agents first."""
    out = []
    people = [b for b in at.bodies if b.human]
    for body in people:
        name = f"human {body.number}" if len(people) > 1 else "human"
        out.append((glyphs.human(at.colors[body.index]), name))
    robots = [b for b in at.bodies if not b.human]
    if robots:
        out.append((glyphs.robot(), "robot" if len(robots) == 1 else "robots"))
    for kind in dict.fromkeys(g.kind for g in at.ground if g.kind in GROUND_WORDS):
        tile = next(g for g in at.ground if g.kind == kind)
        framed = [*glyphs.GROUND[kind](tile.color), box(-0.5, -0.5, 1, 1, "", glyphs.SEAM, 0.03)]
        out.append((framed, GROUND_WORDS[kind]))
    seen: dict[tuple[str, str], Thing] = {}
    for item in at.things:
        seen.setdefault((item.kind, item.state if item.kind in ("door", "disabling switch") else ""), item)
    out += [(thing(item), _words(item)) for item in seen.values()]
    return out


def _words(item: Thing) -> str:
    if item.kind == "door":
        return f"{item.state} door"
    if item.kind == "disabling switch":
        return {"kill": "disables off buttons", "pause": "disables pause switches"}.get(item.state, "disables control")
    return WORDS[item.kind]


# ---------------------------------------------------------------- several


def gallery(worlds: Sequence[tuple[str, str, Scene]], width: Real = 30.0) -> Picture:
    """Worlds, (name, facts, scene), on shelves of `width` cells, in their order."""
    gap, head = 0.9, 1.15
    found: list[Shape] = []
    x, y, deep, right = gap / 2, 0.3, 0.0, 0.0
    for name, facts, at in worlds:
        need = max(at.seen[0], 0.25 * len(name), 0.165 * len(facts))
        if x > gap and x + need > width:
            x, y, deep = gap / 2, y + deep + gap * 0.75, 0.0
        found.append(Label(x, y + 0.3, name, 0.36, INK, bold=True, anchor="left"))
        found.append(Label(x, y + 0.78, facts, 0.27, FAINT, anchor="left"))
        found += moved([*floor(at), *actors(at)], x, y + head)
        x += need + gap
        right, deep = max(right, x), max(deep, at.seen[1] + head)
    return Picture(found, right - gap / 2, y + deep + 0.4)
