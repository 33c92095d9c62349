"""What never changes in a grid world, as flat arrays: terrain, who may do what, and which field of a state means what.

A cell is a number in the map with a border of wall around it: cell = (y + 1) * (width + 2) + (x + 1), so that the cell
ahead is always cell + delta[dir]. A state is one row of int16:

    5 per agent: cell, dir, status (1 dead, 2 paused), carried kind + 1, forced operation + 1
    the cells of the blocks, sorted; of the rocks, sorted; of each kind of key, ball and box, sorted, -1 for none
    1 per device: door 0 open 1 closed 2 locked; bush 1 trampled; magic wall 1 solid; kill button 1 enabled;
    pause switch 1 enabled + 2 on; control button 1 enabled + 2 awaiting + 4 (recorded operation + 1) + 64 (agent + 1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

COLOURS = {"r": "red", "g": "green", "b": "blue", "p": "purple", "y": "yellow", "e": "grey"}
LETTERS = "rgbpye"
YELLOW, GREY = LETTERS.index("y"), LETTERS.index("e")

# Terrain of a cell.
FLOOR, WALL, LAVA, UNSTEADY, DOOR, BUSH, MAGIC, KILL, PAUSE, DISABLE, CONTROL = range(11)
TERRAIN = ("floor", "wall", "lava", "unsteady", "door", "bush", "magic_wall", "kill_button", "pause_switch")
TERRAIN = (*TERRAIN, "disabling_switch", "control_button")
OPEN, CLOSED, LOCKED = range(3)
DOOR_STATES = ("open", "closed", "locked")
SIDES = "eswna"  # a magic wall's: in the order of dir, then any

# Operations, whatever number an action set gives them.
STILL, LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(8)
OPERATIONS = ("still", "left", "right", "forward", "pickup", "drop", "toggle", "done")
ACTION_SETS = {
    "small": OPERATIONS[:4],
    "object": OPERATIONS[:7],
    "full": OPERATIONS,
    "minimal": ("forward", "left"),
}
PORTABLE = ("key", "ball", "box")

POS, DIR, STATUS, CARRY, FORCED, PER_AGENT = range(6)
DEAD, PAUSED = 1, 2


@dataclass(frozen=True)
class Kind:
    """Keys, balls or boxes that are interchangeable."""

    type: str  # one of PORTABLE
    colour: int
    contains: Kind | None = None  # boxes only

    def __str__(self) -> str:
        inside = f" with a {self.contains} in it" if self.contains else ""
        return f"{COLOURS[LETTERS[self.colour]]} {self.type}{inside}"


@dataclass(frozen=True)
class Layout:
    """A parsed map: everything that the rules read and no state changes."""

    width: int
    height: int
    codes: tuple[tuple[str, ...], ...]  # as written, [y][x]
    terrain: Int[np.ndarray, "h w"]  # FLOOR to CONTROL
    detail: Int[np.ndarray, "h w"]  # a door's colour, a magic wall's side (index in SIDES), what a switch disables
    goal_tiles: tuple[tuple[int, int, int], ...]  # x, y, colour: plain floor, drawn
    switch_tiles: tuple[tuple[int, int], ...]  # x, y: plain floor, drawn
    agents: tuple[tuple[int, int, int, int], ...]  # x, y, dir, colour; in reading order
    blocks: tuple[tuple[int, int], ...]
    rocks: tuple[tuple[int, int], ...]
    portables: tuple[tuple[int, int, Kind], ...]
    kinds: tuple[Kind, ...]
    devices: tuple[
        tuple[int, int, int], ...
    ]  # x, y, value at the start; in reading order; disabling switches are not here

    def cell(self, x: int, y: int) -> int:
        return (y + 1) * (self.width + 2) + x + 1

    def xy(self, cell: int | np.integer) -> tuple[int, int]:
        y, x = divmod(int(cell), self.width + 2)
        return x - 1, y - 1

    def kind_slots(self) -> list[int]:
        """How many of each kind there can ever be on the floor: those that lie there, and those in boxes."""
        slots = [0] * len(self.kinds)
        for _, _, kind in self.portables:
            inner: Kind | None = kind
            while inner:
                slots[self.kinds.index(inner)] += 1
                inner = inner.contains
        return slots


# Columns of the tables in Rules.
GROUND, DETAIL, FIELD = range(3)  # cells: FLOOR to CONTROL; as in Layout.detail; the state's field of its device, or -1
COLOUR, HUMAN, ROBOT, PUSHER, MAGICIAN = range(5)  # who: a colour; then 0 or 1; may push rocks; may enter magic walls
KIND_FIRST, KIND_TYPE, KIND_COLOUR, KIND_INSIDE = range(
    4
)  # kinds: first field; in PORTABLE; colour; kind inside, or -1


class Rules(NamedTuple):
    """A layout and its numbers, as the compiled rules read them: few arrays, all int64, which halves compile time."""

    cells: np.ndarray  # (cells of the bordered map, 3)
    who: np.ndarray  # (agents, 5)
    kinds: np.ndarray  # (kinds and one more that only ends the last one's fields, 4)
    delta: np.ndarray  # (4,) from a cell to the one ahead, per dir
    ops: np.ndarray  # (actions,) their operations
    device_cell: np.ndarray  # (devices,)
    first_block: int  # field of a state, as are the next three
    first_rock: int
    first_portable: int
    first_device: int
    most: int  # successors of one state and joint action, at most
    stumble: float
    solidify: float
    bush: float
