"""The goals of a grid world: cells and rectangles where a human may want to be."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from apportion.power.grid import layout as L
from apportion.types import UserError

Rectangle = tuple[int, int, int, int]  # x1, y1, x2, y2, inclusive
_FORMS = 'write "x,y", "x1,y1,x2,y2", [x, y], [x1, y1, x2, y2] or [[x1, y1], [x2, y2]]'
# What a human can at some time stand on, and where a list of goals needs no cover: lava, and where a device stands.
_NO_STANDING = (L.WALL, L.KILL, L.PAUSE, L.DISABLE, L.CONTROL)


def name_of(goal: Rectangle) -> str:
    """As in the published reference values."""
    x1, y1, x2, y2 = goal
    return f"ReachCell(({x1}, {y1}))" if (x1, y1) == (x2, y2) else f"ReachRect(({x1}, {y1}, {x2}, {y2}))"


def _numbers(entry: Any) -> list[int] | None:
    if isinstance(entry, str):
        words = re.split(r"[,\s]+", entry.strip().strip("()[]").strip())
        return [int(word) for word in words] if all(re.fullmatch(r"-?\d+", word) for word in words) else None
    if isinstance(entry, list | tuple):
        flat = [n for part in entry for n in (part if isinstance(part, list | tuple) else [part])]
        return flat if all(isinstance(n, int) and not isinstance(n, bool) for n in flat) else None
    return None


def _read(entry: Any, where: str, width: int, height: int) -> Rectangle:
    numbers = _numbers(entry)
    if numbers is None or len(numbers) not in (2, 4):
        raise UserError(f"{where}: {entry!r} is no cell or rectangle; {_FORMS}")
    x1, y1, x2, y2 = numbers if len(numbers) == 4 else numbers * 2
    for x, y in ((x1, y1), (x2, y2)):
        if not (0 <= x < width and 0 <= y < height):
            raise UserError(f"{where}: cell ({x}, {y}) is outside the map of {width} x {height} cells (counted from 0)")
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def walkable(layout: L.Layout, magic: bool) -> np.ndarray:
    """(h, w) bool: where somebody can at some time stand and live. `magic`: whether anyone may enter magic walls."""
    closed = _NO_STANDING if magic else (*_NO_STANDING, L.MAGIC)
    return ~np.isin(layout.terrain, (*closed, L.LAVA))


def in_reach(layout: L.Layout, starts: list[tuple[int, int]], magic: bool) -> np.ndarray:
    """(h, w) bool: cells that a way over walkable cells and lava joins to a start, all objects out of the way."""
    open_cells = walkable(layout, magic) | (layout.terrain == L.LAVA)
    reach = np.zeros_like(open_cells)
    stack = list(starts)
    while stack:
        x, y = stack.pop()
        if 0 <= x < layout.width and 0 <= y < layout.height and open_cells[y, x] and not reach[y, x]:
            reach[y, x] = True
            stack += [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
    return reach


def _uncovered(goals: list[Rectangle], layout: L.Layout, reach: np.ndarray) -> list[tuple[int, int]]:
    """Cells where a human may come to stand and no goal holds; lava and devices (doors, bushes, magic walls) aside."""
    need = reach & np.isin(layout.terrain, (L.FLOOR, L.UNSTEADY))
    for x1, y1, x2, y2 in goals:
        need[y1 : y2 + 1, x1 : x2 + 1] = False
    return [(int(x), int(y)) for y, x in np.argwhere(need)]


def read_goals(
    listed: Any, layout: L.Layout, humans: list[tuple[int, int]], magic: bool, cover: bool, place: str
) -> tuple[list[Rectangle], list[str]]:
    """The goals and warnings about them. Without a list: every walkable cell.

    Raises UserError for an entry that is no goal, and, if `cover`, for cells without a goal that a human may come to.
    """
    if listed is None:
        cells = np.argwhere(walkable(layout, magic))
        if len(cells) == 0:
            raise UserError(f"{place}: the map has no cell to walk on, so there is no goal")
        return [(int(x), int(y), int(x), int(y)) for y, x in cells], []
    if not isinstance(listed, list | tuple) or len(listed) == 0:
        raise UserError(
            f"{place}: possible_goals: a list with one goal or more is needed; leave it out for all walkable cells"
        )
    goals, warnings, far = [], [], []
    reach = in_reach(layout, humans, magic)
    for k, entry in enumerate(listed):
        goal = _read(entry, f"{place}: possible_goals entry {k + 1}", layout.width, layout.height)
        if goal in goals:
            warnings.append(f"possible_goals entry {k + 1}: {name_of(goal)} is there already; it counts once")
            continue
        goals.append(goal)
        x1, y1, x2, y2 = goal
        if humans and not reach[y1 : y2 + 1, x1 : x2 + 1].any():
            far.append(name_of(goal))
    if far:
        warnings.append(f"possible_goals: no human can ever reach {', '.join(far)}")
    missing = _uncovered(goals, layout, reach)
    if missing and cover:
        cells = ", ".join(f"({x}, {y})" for x, y in missing[:12]) + (" ..." if len(missing) > 12 else "")
        raise UserError(
            f"{place}: possible_goals leave {len(missing)} cell{'s' * (len(missing) > 1)} without a goal: {cells}; "
            "a human there might have no power at all: add goals, or set goals_cover: false"
        )
    return goals, warnings
