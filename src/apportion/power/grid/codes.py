"""The two-character cells of a map: what each code puts there."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

import numpy as np

from apportion.power.grid import layout as L
from apportion.types import UserError

_DOORS = {"L": L.LOCKED, "C": L.CLOSED, "O": L.OPEN}
_PORTABLE = {"K": "key", "B": "ball", "X": "box"}
# Codes that colour letters alone would read otherwise come first: Kb is a kill button, never a blue key.
_TERRAIN = {"..": L.FLOOR, "Sw": L.FLOOR, "La": L.LAVA, "Un": L.UNSTEADY, "Bu": L.BUSH}
_DEVICES = {"Kb": L.KILL, "Ki": L.KILL, "Ps": L.PAUSE, "Pa": L.PAUSE, "CB": L.CONTROL}
_DISABLING = {"Dk": L.KILL, "dK": L.KILL, "Dp": L.PAUSE, "dP": L.PAUSE, "DC": L.CONTROL, "dC": L.CONTROL}
_OBJECTS = ("Bl", "Ro")
FIXED = (*_TERRAIN, *_DEVICES, *_DISABLING, *_OBJECTS, *(f"M{side}" for side in "nswea"))
KNOWN = (*FIXED, *(kind + colour for kind in "WLCOKBXGA" for colour in L.LETTERS))


@dataclass
class _Found:
    """What has been read of a map."""

    terrain: np.ndarray
    detail: np.ndarray
    goal_tiles: list[tuple[int, int, int]]
    switch_tiles: list[tuple[int, int]]
    agents: list[tuple[int, int, int]]
    blocks: list[tuple[int, int]]
    rocks: list[tuple[int, int]]
    portables: list[tuple[int, int, L.Kind]]
    devices: list[tuple[int, int, int]]


def _ground(code: str) -> tuple[int, int, int | None] | None:
    """(terrain, detail, first value of its field in the state) if the code is of something that stays where it is."""
    if code in _TERRAIN:
        return _TERRAIN[code], 0, 0 if code == "Bu" else None
    if code in _DEVICES:
        return _DEVICES[code], 0, 1
    if code in _DISABLING:
        return L.DISABLE, _DISABLING[code], None
    if code[0] == "M" and code[1] in L.SIDES:
        return L.MAGIC, L.SIDES.index(code[1]), 0
    if code[1] not in L.LETTERS:
        return None
    if code[0] == "W":
        return L.WALL, 0, None
    if code[0] in _DOORS:
        return L.DOOR, L.LETTERS.index(code[1]), _DOORS[code[0]]
    return None


def _enter(found: _Found, code: str, x: int, y: int) -> bool:
    """Whether the code is known; if so, what it means is entered."""
    if code in _OBJECTS:
        (found.blocks if code == "Bl" else found.rocks).append((x, y))
        return True
    ground = _ground(code)
    if ground:
        found.terrain[y, x], found.detail[y, x], value = ground
        if value is not None:
            found.devices.append((x, y, value))
        if code == "Sw":
            found.switch_tiles.append((x, y))
        return True
    if code[1] not in L.LETTERS:
        return False
    colour = L.LETTERS.index(code[1])
    if code[0] in _PORTABLE:
        found.portables.append((x, y, L.Kind(_PORTABLE[code[0]], colour)))
    elif code[0] == "G":
        found.goal_tiles.append((x, y, colour))
    elif code[0] == "A":
        found.agents.append((x, y, colour))
    else:
        return False
    return True


def _unknown(code: str) -> str:
    near = [known for known in KNOWN if known.lower() == code.lower()] or difflib.get_close_matches(code, KNOWN, 2, 0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def read_rows(rows: list[list[str]], place: str) -> _Found:
    """The cells of a map. Raises UserError with row and column, counted from 1, of the first that does not fit."""
    height, width = len(rows), len(rows[0])
    found = _Found(np.zeros((height, width), np.int64), np.zeros((height, width), np.int64), [], [], [], [], [], [], [])
    for y, row in enumerate(rows):
        if len(row) != width:
            raise UserError(f"{place}: map row {y + 1} has {len(row)} cells, the first row has {width}")
        for x, code in enumerate(row):
            where = f"{place}: map row {y + 1}, column {x + 1}"
            if len(code) != 2:
                raise UserError(f"{where}: {code!r} is not a cell; cells are two characters with blanks between them")
            if not _enter(found, code, x, y):
                raise UserError(f"{where}: unknown cell {code!r}{_unknown(code)}")
    return found
