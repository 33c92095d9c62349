"""Over all places on the map: how much power a human would have there, and what a robot would do there.

Everything else stays as in one state; a place is left blank where that cannot come about in the time so far.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from matplotlib.colors import to_hex

from apportion.power.compiled import Compiled
from apportion.power.grid import layout as grid
from apportion.power.grid.draw import Picture, scene
from apportion.power.grid.scene import Scene, actors, floor
from apportion.power.grid.shapes import Label, Patch, Real, Shape, arc, box, disc, moved, stroke
from apportion.power.grid.world import GridWorld
from apportion.power.solution import Solution
from apportion.report.style import FAINT, INK, blues, number

HEAD, GAP = 0.75, 0.6  # cells: above the panels, between them


@dataclass(frozen=True)
class Moment:
    """A state at a time, and what to call it."""

    t: int
    state: int
    title: str


def elsewhere(world: GridWorld, compiled: Compiled, n: int, state: int, agent: int) -> dict[tuple[int, int, int], int]:
    """(x, y, dir) -> the state below n that is `state` but for where `agent` is and where it looks."""
    own = agent * grid.PER_AGENT + np.array([grid.POS, grid.DIR])
    rest = np.delete(compiled.states[:n], own, axis=1)
    same = np.flatnonzero((rest == np.delete(compiled.states[state], own)).all(1))
    places = [(*world.layout.xy(int(row[own[0]])), int(row[own[1]])) for row in compiled.states[same]]
    return dict(zip(places, same.tolist(), strict=True))


def power_over_places(
    world: GridWorld, solution: Solution, moment: Moment, human: int
) -> Float[np.ndarray, "height width"]:
    """X_h if `human` (its number among the humans) stood there, mean over facings; NaN where it cannot be."""
    solved = solution.at(moment.t)
    sums, counts = np.zeros((2, world.layout.height, world.layout.width))
    for (x, y, _), s in elsewhere(world, solution.compiled, solved.n, moment.state, world.humans[human]).items():
        sums[y, x] += solved.x[s, human]
        counts[y, x] += 1
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, sums / counts, np.nan)


# ---------------------------------------------------------------- power


def power_map(world: GridWorld, solution: Solution, moments: Sequence[Moment]) -> Picture:
    """Power in bits, log2 X_h, of each human (rows) at each moment (columns) over the places where it could stand."""
    values = [[power_over_places(world, solution, m, h) for m in moments] for h in range(len(world.humans))]
    with np.errstate(divide="ignore"):
        bits = [[np.log2(x) for x in row] for row in values]
    finite = np.concatenate([b[np.isfinite(b)] for row in bits for b in row])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (-1.0, 0.0)
    tone = _tone(low, high)
    scenes = [scene(world, solution.compiled.states[m.state]) for m in moments]
    panels = [
        [_power_panel(at, b, world.humans[h], tone) for at, b in zip(scenes, row, strict=True)]
        for h, row in enumerate(bits)
    ]
    names = [world.agents[h] for h in world.humans]
    found = _panels(panels, scenes[0], [m.title for m in moments], names)
    return _with_scale(found, tone, low, high, "power in bits, log\N{SUBSCRIPT TWO} X")


def _tone(low: Real, high: Real) -> Callable[[Real], str]:
    colors, span = blues(), max(high - low, 1e-9)
    return lambda v: to_hex(colors(np.clip((v - low) / span, 0, 1)))


def _power_panel(at: Scene, bits: np.ndarray, human: int, tone: Callable[[Real], str]) -> list[Shape]:
    cut = at.trim
    own = next(b for b in at.bodies if b.index == human)
    covered = {(t.x, t.y) for t in at.things}
    found = [*floor(at), *actors(replace(at, bodies=tuple(b for b in at.bodies if b is not own)))]
    places = [(x, y, float(value)) for (y, x), value in np.ndenumerate(bits) if np.isfinite(value)]
    for x, y, value in places:
        edge = 0.13 if (x, y) in covered else 0.0  # of an open door or a bush the frame is still seen
        side = 1 - 2 * edge
        found.append(box(x - cut + edge, y - cut + edge, side, side, tone(value), "#ffffff", 0.02))
    ring = disc(own.x + 0.5 - cut, own.y + 0.5 - cut, 0.42, "", at.colors[human], 0.08)
    found += [replace(ring, edge=INK, width=0.13), ring]
    for x, y, value in places:
        found.append(Label(x + 0.5 - cut, y + 0.5 - cut, number(value)[:5], 0.23, _ink(tone(value)), bold=True))
    return found


def _ink(paper: str) -> str:
    """The colour of letters on `paper`: dark on light, white on dark."""
    r, g, b = (int(paper[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.3 * r + 0.59 * g + 0.11 * b > 140 else "#ffffff"


# ---------------------------------------------------------------- policy


def policy_map(world: GridWorld, solution: Solution, moments: Sequence[Moment], robot: int) -> Picture:
    """What `robot` (an agent) would most probably do, over its places, at each moment; framed: where it is.

    A cell is cut into four: the part on the side to which the robot looks shows that facing's most probable action, on
    a ground the darker the more probable it is; no sign where several are equally probable. Other robots' actions are
    summed over.
    """
    names = world.actions[robot]
    tone = _tone(1 / len(names), 1.0)
    scenes = [scene(world, solution.compiled.states[m.state]) for m in moments]
    panels = [_policy_panel(world, solution, m, robot, at, tone) for m, at in zip(moments, scenes, strict=True)]
    found = _panels([panels], scenes[0], [m.title for m in moments], [""])
    found = _with_scale(found, tone, 1 / len(names), 1.0, "probability of the most probable action")
    x, y = found.left, found.height + 0.1
    signs: list[Shape] = []
    for name in names:
        need = 0.75 + 0.15 * len(name)
        if x > found.left and x + need > found.width:
            x, y = found.left, y + 0.5
        signs += [
            *moved(sign(name, INK), x + 0.2, y + 0.2, 0.3),
            Label(x + 0.45, y + 0.2, name, 0.25, INK, anchor="left"),
        ]
        x += need
    return replace(found, shapes=[*found.shapes, *signs], height=y + 0.6)


def _policy_panel(
    world: GridWorld, solution: Solution, moment: Moment, robot: int, at: Scene, tone: Callable[[Real], str]
) -> list[Shape]:
    solved, cut = solution.at(moment.t), at.trim
    found = floor(at)
    for (x, y, d), s in elsewhere(world, solution.compiled, solved.n, moment.state, robot).items():
        pi = robot_marginal(world, solved.pi[s], robot)
        best, paper = int(np.argmax(pi)), tone(float(pi.max()))
        east = Patch(((0.0, 0.0), (0.5, -0.5), (0.5, 0.5)), paper, "#ffffff", 0.025)
        found += moved([east], x + 0.5 - cut, y + 0.5 - cut, 1.0, 90 * d)
        if np.isclose(pi, pi[best], rtol=1e-9, atol=0).sum() > 1:
            continue
        dx, dy = ((0.31, 0.0), (0.0, 0.31), (-0.31, 0.0), (0.0, -0.31))[d]
        turn = 90.0 * d if world.actions[robot][best] in MOVES else 0.0
        signs = sign(world.actions[robot][best], _ink(paper))
        found += moved(signs, x + 0.5 + dx - cut, y + 0.5 + dy - cut, 0.3, turn)
    own = next(b for b in at.bodies if b.index == robot)
    found += actors(replace(at, bodies=tuple(b for b in at.bodies if b is not own)))
    here = [Patch(((0.03, 0.0), (0.47, -0.44), (0.47, 0.44)), "", INK, 0.08)]
    return [*found, *moved(here, own.x + 0.5 - cut, own.y + 0.5 - cut, 1.0, 90 * own.turn)]


def robot_marginal(world: GridWorld, pi: Float[np.ndarray, "R"], robot: int) -> Float[np.ndarray, "A"]:
    """The probabilities of one robot's actions, from those of all robots' joint actions."""
    sizes = tuple(len(world.actions[r]) for r in world.robots)
    axis = world.robots.index(robot)
    return pi.reshape(sizes).sum(tuple(i for i in range(len(sizes)) if i != axis))


MOVES = ("forward", "left", "right")  # their signs turn with who does them


def sign(action: str, ink: str) -> list[Shape]:
    """An action's sign within half a unit around (0, 0), for somebody who looks east; none for unknown actions."""
    match action:
        case "forward":
            return [stroke(((-0.42, 0), (0.1, 0)), ink, 0.15), Patch(((0.05, -0.34), (0.48, 0), (0.05, 0.34)), ink)]
        case "left" | "right":
            s = -1 if action == "left" else 1
            bend = [(x, s * y) for x, y in arc(-0.3, 0.2, 0.4, -100, 0)]
            return [stroke(bend, ink, 0.15), Patch(((-0.2, s * 0.12), (0.4, s * 0.12), (0.1, s * 0.5)), ink)]
        case "still":
            return [disc(0, 0, 0.17, ink)]
        case "pickup":
            shaft = stroke(((0, 0.22), (0, -0.05)), ink, 0.14)
            return [_tray(ink), shaft, Patch(((-0.3, -0.05), (0.3, -0.05), (0, -0.45)), ink)]
        case "drop":
            shaft = stroke(((0, -0.4), (0, -0.15)), ink, 0.14)
            return [_tray(ink), shaft, Patch(((-0.3, -0.15), (0.3, -0.15), (0, 0.26)), ink)]
        case "toggle":
            return [disc(0, 0, 0.34, "", ink, 0.13), disc(0, 0, 0.13, ink)]
    return []


def _tray(ink: str) -> Patch:
    return stroke(((-0.36, 0.42), (0.36, 0.42)), ink, 0.13)


# ---------------------------------------------------------------- sheets of panels


def _panels(rows: Sequence[Sequence[list[Shape]]], at: Scene, titles: Sequence[str], names: Sequence[str]) -> Picture:
    """Panels of one size, a title over each column and a name over each row."""
    wide, high = at.seen
    wide_panel = max(wide, max(0.215 * len(title) for title in titles))
    found: list[Shape] = []
    y = 0.0
    for panels, name in zip(rows, names, strict=True):
        if y == 0.0:
            found += [
                Label(GAP / 2 + c * (wide_panel + GAP), 0.35, title, 0.34, INK, bold=True, anchor="left")
                for c, title in enumerate(titles)
            ]
            y = HEAD
        if len(rows) > 1:
            found.append(Label(GAP / 2, y + 0.15, name, 0.3, FAINT, anchor="left"))
            y += 0.42
        for c, panel in enumerate(panels):
            found += moved(panel, GAP / 2 + c * (wide_panel + GAP), y)
        y += high + GAP / 2
    return Picture(found, len(titles) * (wide_panel + GAP), y, GAP / 2)


def _with_scale(found: Picture, tone: Callable[[Real], str], low: Real, high: Real, words: str) -> Picture:
    """A scale of colours below, with its ends' values."""
    y, x, steps, length = found.height + 0.1, found.left, 24, 3.0
    bars: list[Shape] = []
    left = x + 0.145 * len(number(low)) + 0.1
    for i in range(steps):
        color = tone(low + (high - low) * (i + 0.5) / steps)
        bars.append(box(left + i * length / steps, y, length / steps, 0.26, color, color, 0.01))
    ends = [
        Label(x, y + 0.13, number(low), 0.24, INK, anchor="left"),
        Label(left + length + 0.1, y + 0.13, number(high), 0.24, INK, anchor="left"),
        Label(left + length + 0.4 + 0.145 * len(number(high)), y + 0.13, words, 0.25, INK, anchor="left"),
    ]
    need = left + length + 1.2 + 0.145 * len(words)
    return replace(found, shapes=[*found.shapes, *bars, *ends], width=max(found.width, need), height=y + 0.55)
