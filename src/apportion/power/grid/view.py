"""How a grid world looks on the report page: a picture of each state, its words, and where each goal is."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace

from apportion.power.compiled import Compiled
from apportion.power.grid import draw, glyphs, shapes
from apportion.power.grid.curves import human_colors
from apportion.power.grid.draw import Picture
from apportion.power.grid.goals import Rectangle
from apportion.power.grid.scene import Scene, Thing, actors
from apportion.power.grid.world import GridWorld
from apportion.report.power import View

_DIRECTIONS = ("east", "south", "west", "north")


def grid_view(world: GridWorld, compiled: Compiled, states: Sequence[int]) -> View:
    """The view of these states of the compiled world: the ground once, and above it what changes."""
    scenes = {s: draw.scene(world, compiled.states[s]) for s in states}
    first = scenes[states[0]]
    whole, cut = draw.picture(first, legend=False), first.trim
    ground = draw.svg(draw.picture(replace(first, things=(), bodies=()), legend=False), world.name)
    return View(
        colors=human_colors(world),
        goals=tuple(goal_words(goal) for goal in world.goal_rectangles),
        pictures={s: _uri(_layer(at, whole, words(world, at))) for s, at in scenes.items()},
        words={s: words(world, at) for s, at in scenes.items()},
        ground=_uri(ground),
        size=(whole.width, whole.height),
        boxes=tuple(
            (x1 - cut + whole.left, y1 - cut + whole.top, float(x2 + 1 - x1), float(y2 + 1 - y1))
            for x1, y1, x2, y2 in world.goal_rectangles
        ),
    )


def _layer(at: Scene, whole: Picture, title: str) -> str:
    return shapes.svg(shapes.moved(actors(at), whole.left, whole.top), whole.width, whole.height, "", title)


def goal_words(goal: Rectangle) -> str:
    """ "(3, 1)", or "(1, 1) to (3, 2)"."""
    x1, y1, x2, y2 = goal
    return f"({x1}, {y1})" if (x1, y1) == (x2, y2) else f"({x1}, {y1}) to ({x2}, {y2})"


def words(world: GridWorld, at: Scene) -> str:
    """Who is where, and what is where, one line each."""
    lines = []
    for body in at.bodies:
        load = f", carrying a {glyphs.COLOR_WORDS[body.carries.color]} {body.carries.kind}" if body.carries else ""
        how = ", dead" if body.dead else ", paused" if body.paused else ""
        facing = _DIRECTIONS[round(body.turn) % 4]
        lines.append(f"{world.agents[body.index]} at ({body.x:g}, {body.y:g}), facing {facing}{load}{how}")
    return "\n".join([*lines, *(_thing(item) for item in at.things)])


def _thing(item: Thing) -> str:
    what = f"{glyphs.COLOR_WORDS[item.color]} {item.kind}" if item.color else item.kind
    more = [word for word in (item.state, *sorted(item.flags)) if word]
    return f"{what} at ({item.x:g}, {item.y:g}){': ' + ', '.join(more) if more else ''}"


def _uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
