"""What everything on a map looks like: shapes about the middle of a cell, within half a cell on each side.

Colours are those of Okabe and Ito; what matters differs in shape as well, so that nothing hangs on colour alone: humans
are round, robots square, rocks ragged, blocks crates, doors have a frame, buttons are round on a plate.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from apportion.power.grid.shapes import Patch, Real, Shape, arc, box, disc, mixed, moved, stroke

INK, WHITE = "#22272e", "#ffffff"
FLOOR, SEAM, WALL = "#fbfbfa", "#e3e5e8", "#4c5661"
PALETTE = {
    "r": "#d55e00", "g": "#009e73", "b": "#0072b2", "p": "#cc79a7", "y": "#f0c419", "e": "#7d8590",
}  # fmt: skip  # the format's six colours
COLOR_WORDS = {"r": "red", "g": "green", "b": "blue", "p": "purple", "y": "yellow", "e": "grey"}
PEOPLE = ("#e69f00", "#56b4e9", "#cc79a7", "#009e73", "#f0e442", "#d55e00")  # the first human's, the second's, ...
ROBOT = "#66717e"
WOOD, STONE, LEAF, LAVA, SAND = "#c39a6b", "#9aa1aa", "#3d9a5f", "#e25822", "#e9dcc3"
LINE = 0.03  # outlines, cells


def tint(letter: str, default: str = "e") -> str:
    return PALETTE[letter or default]


# ---------------------------------------------------------------- agents


def human(color: str, dead: bool = False) -> list[Shape]:
    """A head that looks east: a disc with a nose."""
    if dead:
        return _dead(disc(0, 0, 0.34, mixed(color, "#ffffff", 0.55), INK, LINE))
    nose = Patch(((0.24, -0.2), (0.47, 0.0), (0.24, 0.2)), INK, INK, LINE)
    return [nose, disc(0, 0, 0.34, color, INK, LINE)]


def robot(dead: bool = False, paused: bool = False) -> list[Shape]:
    """A square body that looks east: a visor with two eyes on that side, closed while it is paused."""
    body = box(-0.35, -0.35, 0.7, 0.7, mixed(ROBOT, "#ffffff", 0.55) if dead else ROBOT, INK, LINE, corner=0.12)
    if dead:
        return _dead(body)
    visor = box(0.1, -0.27, 0.19, 0.54, mixed(ROBOT, WHITE, 0.5) if paused else WHITE, corner=0.08)
    if paused:
        return [body, visor, *(stroke(((0.2, y - 0.07), (0.2, y + 0.07)), INK, 0.05) for y in (-0.13, 0.13))]
    return [body, visor, *(disc(0.2, y, 0.06, INK) for y in (-0.13, 0.13))]


def _dead(body: Patch) -> list[Shape]:
    return [body, *(stroke(((-0.15, s * -0.15), (0.15, s * 0.15)), INK, 0.05) for s in (1, -1))]


# ---------------------------------------------------------------- ground


def wall(letter: str) -> list[Shape]:
    """Slate; another colour than grey shows as a frame inside."""
    shapes: list[Shape] = [box(-0.5, -0.5, 1, 1, WALL, WALL, 0.012)]
    if letter not in ("", "e"):
        shapes.append(box(-0.36, -0.36, 0.72, 0.72, "", mixed(tint(letter), WALL, 0.2), 0.07, corner=0.05))
    return shapes


def lava(_: str) -> list[Shape]:
    waves = [
        stroke([(x / 20, y + 0.05 * math.sin(x / 20 * 4 * math.pi)) for x in range(-8, 9)], "#ffd28a", 0.05)
        for y in (-0.24, 0.0, 0.24)
    ]
    return [box(-0.5, -0.5, 1, 1, LAVA), *waves]


def unsteady(_: str) -> list[Shape]:
    cracks = (
        ((-0.42, -0.2), (-0.2, -0.3), (-0.05, -0.12), (0.2, -0.2), (0.4, -0.36)),
        ((-0.05, -0.12), (-0.12, 0.15), (0.08, 0.3), (0.02, 0.44)),
        ((-0.12, 0.15), (-0.38, 0.26)),
        ((0.08, 0.3), (0.4, 0.16)),
    )
    return [box(-0.5, -0.5, 1, 1, SAND), *(stroke(c, "#a98f5f", 0.035) for c in cracks)]


def switch(_: str) -> list[Shape]:
    return [box(-0.3, -0.3, 0.6, 0.6, "#eceef1", "#c3c9d0", 0.025, corner=0.06), disc(0, 0, 0.09, "#c3c9d0")]


def goal(letter: str) -> list[Shape]:
    color = tint(letter, "g")
    flag = Patch(((-0.1, -0.3), (0.26, -0.17), (-0.1, -0.04)), color)
    return [
        box(-0.5, -0.5, 1, 1, mixed(color, "#ffffff", 0.75)),
        flag,
        stroke(((-0.12, -0.3), (-0.12, 0.32)), INK, 0.05),
    ]


GROUND: dict[str, Callable[[str], list[Shape]]] = {
    "wall": wall, "lava": lava, "unsteady": unsteady, "switch": switch, "goal": goal,
}  # fmt: skip


# ---------------------------------------------------------------- things that can be moved or taken


def block() -> list[Shape]:
    dark = mixed(WOOD, INK, 0.45)
    crate = box(-0.36, -0.36, 0.72, 0.72, WOOD, dark, 0.04, corner=0.05)
    return [crate, *(stroke(((-0.26, s * -0.26), (0.26, s * 0.26)), dark, 0.05) for s in (1, -1))]


def rock() -> list[Shape]:
    outline = (
        (-0.38, 0.1),
        (-0.3, -0.2),
        (-0.08, -0.37),
        (0.22, -0.3),
        (0.39, -0.02),
        (0.33, 0.28),
        (0.02, 0.37),
        (-0.28, 0.3),
    )
    dark = mixed(STONE, INK, 0.5)
    facets = ((-0.3, -0.2), (-0.02, -0.06), (0.22, -0.3)), ((-0.02, -0.06), (0.02, 0.37))
    return [Patch(outline, STONE, dark, 0.04), *(stroke(f, mixed(STONE, INK, 0.3), 0.035) for f in facets)]


def bush(trampled: bool) -> list[Shape]:
    if trampled:
        blades = [stroke(((x, 0.18), (x + 0.13, 0.06)), mixed(LEAF, "#ffffff", 0.35), 0.05) for x in (-0.3, -0.1, 0.1)]
        return [*blades, stroke(((-0.34, 0.2), (0.34, 0.2)), mixed(LEAF, "#ffffff", 0.35), 0.05)]
    places = ((-0.17, 0.1), (0.18, 0.12), (-0.03, -0.14), (0.2, -0.12), (-0.24, -0.12))
    dark = mixed(LEAF, INK, 0.35)
    leaves = [disc(x, y, 0.21, LEAF, dark, 0.03) for x, y in places]
    return [*leaves, disc(0, 0, 0.2, LEAF), *(disc(x, y, 0.045, mixed(LEAF, "#ffffff", 0.45)) for x, y in places[:4])]


def key(letter: str) -> list[Shape]:
    color = tint(letter)
    dark = mixed(color, INK, 0.45)
    shaft = ((-0.02, 0.0), (0.36, 0.0))
    teeth = [((x, 0.0), (x, 0.15)) for x in (0.22, 0.34)]
    under = [stroke(line, dark, 0.12) for line in (shaft, *teeth)]
    over = [stroke(line, color, 0.07) for line in (shaft, *teeth)]
    return [*under, disc(-0.18, 0, 0.18, color, dark, 0.03), *over, disc(-0.2, 0, 0.07, FLOOR, dark, 0.025)]


def ball(letter: str) -> list[Shape]:
    color = tint(letter)
    shine = disc(-0.09, -0.1, 0.07, mixed(color, "#ffffff", 0.6))
    return [disc(0, 0, 0.26, color, mixed(color, INK, 0.45), LINE), shine]


def chest(letter: str) -> list[Shape]:
    color = tint(letter)
    dark = mixed(color, INK, 0.45)
    lid = stroke(((-0.32, -0.07), (0.32, -0.07)), dark, 0.035)
    return [box(-0.32, -0.26, 0.64, 0.52, color, dark, 0.04, corner=0.05), lid, box(-0.06, -0.12, 0.12, 0.15, dark)]


# ---------------------------------------------------------------- doors, walls with a way in, buttons


def door(letter: str, state: str) -> list[Shape]:
    """`state`: locked (a keyhole), closed (a knob) or open (folded back to the left side)."""
    color = tint(letter)
    dark = mixed(color, INK, 0.45)
    frame = box(-0.46, -0.46, 0.92, 0.92, mixed(color, "#ffffff", 0.82), dark, 0.045, corner=0.03)
    if state == "open":
        return [frame, box(-0.43, -0.43, 0.13, 0.86, color, dark, 0.025)]
    leaf = box(-0.36, -0.36, 0.72, 0.72, color, dark, 0.03)
    if state == "closed":
        return [frame, leaf, disc(0.22, 0.02, 0.06, WHITE, dark, 0.02)]
    hole = Patch(((-0.045, 0.0), (0.045, 0.0), (0.08, 0.2), (-0.08, 0.2)), WHITE)
    return [frame, leaf, disc(0, -0.05, 0.105, WHITE), hole]


def magic(side: str, active: bool) -> list[Shape]:
    """A wall with an arrow on each side from which it may be entered (`n s w e`, `a` for all)."""
    color = mixed(PALETTE["p"], WALL, 0.25)
    shapes: list[Shape] = [box(-0.5, -0.5, 1, 1, color if active else WALL)]
    turns = {"e": 180, "s": 270, "w": 0, "n": 90}
    for turn in (turns.values() if side == "a" else [turns[side]]) if active else []:
        arrow = [Patch(((-0.44, -0.14), (-0.22, 0.0), (-0.44, 0.14)), WHITE)]
        shapes += moved(arrow, 0, 0, 1, turn)
    star = [p for i in range(4) for p in (_polar(0.17, 90 * i), _polar(0.06, 90 * i + 45))]
    return [*shapes, Patch(tuple(star), WHITE if active else mixed(WALL, "#ffffff", 0.3))]


def _polar(radius: Real, degrees: Real) -> tuple[Real, Real]:
    return radius * math.cos(math.radians(degrees)), radius * math.sin(math.radians(degrees))


def _plate(color: str, enabled: bool) -> list[Shape]:
    fill = color if enabled else mixed(color, "#d9dce0", 0.75)
    return [
        box(-0.38, -0.38, 0.76, 0.76, "#dfe2e6", "#9aa1aa", LINE, corner=0.08),
        disc(0, 0, 0.28, fill, mixed(fill, INK, 0.4), LINE),
    ]


def kill_button(enabled: bool) -> list[Shape]:
    """Red, with the sign of a power switch."""
    ring = stroke(arc(0, 0.01, 0.13, -55, 235), WHITE, 0.05)
    return [*_plate(PALETTE["r"], enabled), ring, stroke(((0, -0.17), (0, -0.02)), WHITE, 0.05)]


def pause_switch(enabled: bool, on: bool) -> list[Shape]:
    """Blue, with two bars; a triangle (go on) while it is on."""
    sign = [Patch(((-0.08, -0.13), (0.15, 0), (-0.08, 0.13)), WHITE)] if on else _bars()
    return [*_plate(PALETTE["b"], enabled), *sign]


def _bars() -> list[Shape]:
    return [box(x, -0.12, 0.07, 0.24, WHITE) for x in (-0.11, 0.04)]


def control_button(enabled: bool, taught: bool, awaiting: bool) -> list[Shape]:
    """Green, with a joystick; dots while it waits for the action to record, a ring when it knows one."""
    plate = _plate(PALETTE["g"], enabled)
    if awaiting:
        return [*plate, *(disc(x, 0, 0.045, WHITE) for x in (-0.12, 0.0, 0.12))]
    foot, bar = stroke(((-0.13, 0.14), (0.13, 0.14)), WHITE, 0.06), stroke(((0, 0.13), (0, -0.05)), WHITE, 0.06)
    stick = [foot, bar, disc(0, -0.08, 0.075, WHITE)]
    return [*plate, *stick, *([disc(0, 0, 0.34, "", WHITE, 0.035)] if taught else [])]


def disabling_switch(of: str) -> list[Shape]:
    """A lever on a plate, with the sign of what it disables: `kill`, `pause` or `control`, struck through."""
    sign = {
        "kill": kill_button(True),
        "pause": pause_switch(True, False),
        "control": control_button(True, False, False),
    }
    small = moved(sign[of][1:], 0, 0, 0.85)
    plate = box(-0.38, -0.38, 0.76, 0.76, "#fff7e0", "#9aa1aa", LINE, corner=0.08)
    return [plate, *small, stroke(((-0.27, 0.27), (0.27, -0.27)), INK, 0.06)]
