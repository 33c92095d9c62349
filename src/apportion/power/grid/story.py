"""A course of events in a few moments side by side: the map, what the robots would do how probably, and power below."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from apportion.power.course import course_of
from apportion.power.grid import curves
from apportion.power.grid.draw import Picture, scene
from apportion.power.grid.maps import MOVES, robot_marginal, sign
from apportion.power.grid.scene import Scene, actors, floor
from apportion.power.grid.shapes import Label, Real, Shape, box, moved
from apportion.power.grid.world import GridWorld
from apportion.power.rollout import Rollout
from apportion.power.solution import Solution
from apportion.report.style import BLUE, FAINT, INK

GAP, HEAD, BARS = 0.5, 0.7, 1.5  # cells: between panels, above one, for a robot's probabilities below
PALE = "#b7c7d6"


def story(world: GridWorld, solution: Solution, rollout: Rollout, times: Sequence[int], columns: int = 4) -> Picture:
    """Moments at `times` (below the rollout's end), `columns` in a row, and the power of all humans below them."""
    found: list[Shape] = []
    first = scene(world, solution.compiled.states[0])
    wide = max(first.seen[0], 0.62 * max((len(world.actions[r]) for r in world.robots), default=0))
    high = HEAD + first.seen[1] + BARS * len(world.robots)
    for i, t in enumerate(times):
        x, y = (i % columns) * (wide + GAP) + GAP / 2, (i // columns) * (high + GAP / 2)
        found += moved(_moment(world, solution, rollout, t, wide), x, y)
    rows, across = -(-len(times) // columns), min(columns, len(times))
    width, y = across * (wide + GAP), rows * (high + GAP / 2)
    powers = curves.powers(world, course_of(solution, rollout).bits)
    below = curves.panel(powers, rollout.steps, width - GAP, 3.2, rollout.steps, times)
    return Picture([*found, *moved(below, GAP / 2, y)], width, y + 3.3)


def _moment(world: GridWorld, solution: Solution, rollout: Rollout, t: int, wide: Real) -> list[Shape]:
    state = int(rollout.states[t])
    at, pi = scene(world, solution.compiled.states[state]), solution.at(t).pi[state]
    found: list[Shape] = [Label(0, 0.32, f"t = {t}", 0.34, INK, bold=True, anchor="left")]
    found += moved([*floor(at), *actors(at), *_intended(world, at, rollout, t)], 0, HEAD)
    for i, robot in enumerate(world.robots):
        y = HEAD + at.seen[1] + BARS * i
        chosen = int(rollout.joint[t, robot])
        found += moved(_bars(world, robot_marginal(world, pi, robot), robot, chosen, wide), 0, y)
    return found


def _intended(world: GridWorld, at: Scene, rollout: Rollout, t: int) -> list[Shape]:
    """A sign beside each robot of what it does next, on the side to which it looks."""
    found: list[Shape] = []
    for robot in world.robots:
        body = at.bodies[robot]
        action = world.actions[robot][int(rollout.joint[t, robot])]
        if action == "still" or body.dead or body.paused:
            continue
        dx, dy = ((0.52, 0.0), (0.0, 0.52), (-0.52, 0.0), (0.0, -0.52))[round(body.turn) % 4]
        x, y = body.x + 0.5 + dx - at.trim, body.y + 0.5 + dy - at.trim
        plate = box(-0.2, -0.2, 0.4, 0.4, "#ffffff", INK, 0.03, corner=0.2)
        found += moved([plate, *moved(sign(action, INK), 0, 0, 0.28, 90 * body.turn if action in MOVES else 0)], x, y)
    return found


def _bars(world: GridWorld, pi: Float[np.ndarray, "A"], robot: int, chosen: int, wide: Real) -> list[Shape]:
    """A bar for each action, its sign below and its probability above; the one that is taken is dark."""
    names = world.actions[robot]
    step = min(0.8, wide / len(names))
    found: list[Shape] = []
    if len(world.robots) > 1:
        found.append(Label(0, 0.15, world.agents[robot], 0.2, FAINT, anchor="left"))
    for a, (name, p) in enumerate(zip(names, pi, strict=True)):
        x, low, size = step * a, 1.1, 0.68 * float(p)
        found.append(box(x + 0.08, low - size, step - 0.16, max(size, 0.02), BLUE if a == chosen else PALE))
        text = f"{p:.2f}".lstrip("0") if p < 0.995 else "1"
        ink = INK if a == chosen else FAINT
        found.append(Label(x + step / 2, low - size - 0.13, text, 0.19, ink, bold=a == chosen))
        found += moved(sign(name, ink), x + step / 2, low + 0.22, 0.26)
    return found
