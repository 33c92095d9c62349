"""The humans' power in bits over time, as shapes: below a film or a strip of moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from apportion.power.grid.glyphs import PEOPLE
from apportion.power.grid.shapes import Label, Real, Shape, disc, stroke
from apportion.power.world import World
from apportion.report.style import FAINT, GRID, INK

LEFT, BOTTOM, TOP = 0.75, 0.5, 0.55  # cells around the panel, for numbers and words


@dataclass(frozen=True)
class Powers:
    """Power in bits of H humans at times 0 to T - 1; -inf where a human can reach nothing."""

    bits: Float[np.ndarray, "T H"]
    names: tuple[str, ...]
    colors: tuple[str, ...]

    @property
    def range(self) -> tuple[Real, Real]:
        """Whole bits around all values, at least one."""
        found = self.bits[np.isfinite(self.bits)]
        low, high = (math.floor(found.min()), math.ceil(found.max())) if found.size else (-1, 0)
        return float(min(low, high - 1)), float(high)


def powers(world: World, bits: Float[np.ndarray, "T H"]) -> Powers:
    """Of all humans of a world, in their colours."""
    return Powers(bits, tuple(world.agents[h] for h in world.humans), human_colors(world))


def human_colors(world: World) -> tuple[str, ...]:
    """#rrggbb of each human, on maps and in curves."""
    return tuple(PEOPLE[i % len(PEOPLE)] for i in range(len(world.humans)))


def panel(found: Powers, steps: int, width: Real, height: Real, now: Real, marks: Sequence[int] = ()) -> list[Shape]:
    """A panel of width x height cells for times 0 to `steps`; the curves run to time `now`, with dots at `marks`."""
    low, high = found.range
    wide, high_inside = width - LEFT - 0.25, height - BOTTOM - TOP

    def at(t: Real, bits: Real) -> tuple[Real, Real]:
        return LEFT + wide * t / max(1, steps), TOP + high_inside * (high - bits) / (high - low)

    shapes: list[Shape] = [Label(0.08, 0.2, "power in bits", 0.28, INK, bold=True, anchor="left")]
    x = 0.08 + 0.185 * len("power in bits") + 0.4
    for name, color in zip(found.names, found.colors, strict=True) if len(found.names) > 1 else ():
        shapes += [
            stroke(((x, 0.2), (x + 0.3, 0.2)), color, 0.07),
            Label(x + 0.42, 0.2, name, 0.25, INK, anchor="left"),
        ]
        x += 0.42 + 0.15 * len(name) + 0.3
    for bits in _ticks(low, high):
        (x0, y), (x1, _) = at(0, bits), at(steps, bits)
        shapes += [stroke(((x0, y), (x1, y)), GRID, 0.025)]
        shapes += [Label(LEFT - 0.12, y, f"{bits:g}".replace("-", "\N{MINUS SIGN}"), 0.25, FAINT, anchor="right")]
    for t in range(0, steps + 1, max(1, -(-steps // 8))):
        shapes.append(Label(at(t, 0)[0], height - 0.2, str(t), 0.25, FAINT))
    for h, color in enumerate(found.colors):
        shapes += _curve([at(t, b) for t, b in _upto(found.bits[:, h], now)], color)
        for t in marks:
            if np.isfinite(found.bits[t, h]):
                shapes.append(disc(*at(t, found.bits[t, h]), 0.1, color, INK, 0.02))
    return shapes


def _ticks(low: Real, high: Real) -> list[Real]:
    return np.arange(low, high + 0.5, max(1, math.ceil((high - low) / 4))).tolist()


def _upto(bits: np.ndarray, now: Real) -> list[tuple[Real, Real]]:
    """(time, bits) up to `now`, between two times in between."""
    last = len(bits) - 1
    points = [(float(t), float(b)) for t, b in enumerate(bits) if t <= now]
    t = math.floor(now)
    if now > t and t < last and np.isfinite(bits[t : t + 2]).all():
        points.append((now, float(bits[t] + (bits[t + 1] - bits[t]) * (now - t))))
    return points


def _curve(points: list[tuple[Real, Real]], color: str) -> list[Shape]:
    """A line with gaps where there is no number, and a dot at its end."""
    shapes: list[Shape] = []
    run: list[tuple[Real, Real]] = []
    for point in [*points, (math.nan, math.nan)]:
        if all(map(math.isfinite, point)):
            run.append(point)
        elif run:
            shapes.append(stroke(run, color, 0.075) if len(run) > 1 else disc(*run[0], 0.06, color))
            run = []
    if points and all(map(math.isfinite, points[-1])):
        shapes.append(disc(*points[-1], 0.12, color, INK, 0.025))
    return shapes
