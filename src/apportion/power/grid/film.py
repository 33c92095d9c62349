"""A course of events as a film: bodies turn and slide from state to state, the humans' power in bits runs below."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from apportion.power.course import Course
from apportion.power.grid import curves
from apportion.power.grid.draw import PAPER, scene
from apportion.power.grid.scene import Scene, actors, between, floor
from apportion.power.grid.shapes import Label, Real, Shape, box, disc, moved, pixels
from apportion.power.grid.world import GridWorld
from apportion.power.world import World
from apportion.report.style import FAINT, INK
from apportion.report.video import write_mp4
from apportion.run.files import write_atomic
from apportion.types import UserError

FPS = 20
STILL, MOVING = 8, 8  # frames: a state, and the way to the next one
PANEL, HEAD, EDGE = 3.0, 0.75, 0.25  # cells: the curves below, the words above, the paper around
NARROW = 7.0  # cells: no film is narrower
CELL = 64  # pixels
LINE = 0.42  # cells: a line of words about one human
OWN = 9 * CELL  # pixels: the longer side of a world's own picture


def check_film(path: Path) -> None:
    """Raises UserError if `write_film` could not write such a film."""
    kind = path.suffix.lower()
    if kind not in (".gif", ".mp4"):
        raise UserError(f"{path}: a film's name ends in .gif or .mp4")
    if kind == ".mp4" and importlib.util.find_spec("av") is None:
        raise UserError("writing a video needs PyAV: pip install 'apportion[video]'")


def write_film(world: World, course: Course, path: Path) -> Path:
    """Writes the film as the ending says: .gif, or .mp4 (needs PyAV). Raises UserError for other endings.

    Worlds that are no grids are shown by their own `render`.
    """
    check_film(path)
    found = frames(world, course) if isinstance(world, GridWorld) else rendered(world, course)
    if path.suffix.lower() == ".mp4":
        return write_mp4((f for frame, count in found for f in [frame] * count), path, FPS)
    return _write_gif(found, path)


def frames(world: GridWorld, course: Course) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], int]]:
    """Pictures, and for how many frames each of them stays."""
    scenes = [scene(world, state) for state in course.states]
    powers = curves.powers(world, course.bits)
    for t in range(course.steps):
        words, goals = _words(world, course, t), _goals(world, course, t)
        yield _frame(world, scenes[t], words, goals, powers, t, course.steps), STILL
        for k in range(1, MOVING):
            share = k / MOVING
            at = between(scenes[t], scenes[t + 1], share)
            yield _frame(world, at, words, goals, powers, t + share, course.steps), 1
    yield _frame(world, scenes[-1], f"t = {course.steps}", [], powers, course.steps, course.steps), 3 * STILL


def _words(world: World, course: Course, t: int) -> str:
    acts = [f"{world.agents[r]}: {world.actions[r][course.joint[t, r]]}" for r in world.robots]
    return "   ".join([f"t = {t}", *acts])


def _goals(world: GridWorld, course: Course, t: int) -> list[tuple[int, tuple[int, int, int, int]]]:
    """(human, rectangle) of what each human wants."""
    wanted = zip(world.humans, course.goals[t], strict=True)
    return [(human, world.goal_rectangles[goal]) for human, goal in wanted]


def _frame(
    world: GridWorld,
    at: Scene,
    words: str,
    goals: list[tuple[int, tuple[int, int, int, int]]],
    powers: curves.Powers,
    now: Real,
    steps: int,
) -> UInt8[np.ndarray, "h w 3"]:
    wide, high = at.seen
    width = max(wide, NARROW)
    left = EDGE + (width - wide) / 2
    shapes: list[Shape] = [Label(EDGE, HEAD / 2, words, 0.3, INK, bold=True, anchor="left")]
    shapes += moved(floor(at), left, HEAD)
    for i, (human, (x1, y1, x2, y2)) in enumerate(goals):
        inset = 0.05 + 0.05 * i
        frame = box(
            x1 + inset, y1 + inset, x2 + 1 - x1 - 2 * inset, y2 + 1 - y1 - 2 * inset, "", at.colors[human], 0.07
        )
        shapes += moved([frame], left - at.trim, HEAD - at.trim)
    shapes += moved(actors(at), left, HEAD)
    shapes += moved(curves.panel(powers, steps, width, PANEL, now), EDGE, HEAD + high + 0.3)
    note = "frame: what the human wants" if len(world.humans) == 1 else "frames: what the humans want"
    shapes.append(Label(EDGE + width, HEAD + high + 0.5, note, 0.22, FAINT, anchor="right"))
    return pixels(shapes, width + 2 * EDGE, HEAD + high + 0.3 + PANEL, CELL, PAPER)


# ---------------------------------------------------------------- worlds that are no grids


def rendered(world: World, course: Course) -> Iterator[tuple[UInt8[np.ndarray, "h w 3"], int]]:
    """As `frames`, from the world's own pictures: below them words and curves."""
    powers = curves.powers(world, course.bits)
    for t in range(course.steps):
        yield _rendered(world, course, powers, t), STILL + MOVING
    yield _rendered(world, course, powers, course.steps), 3 * STILL


def _rendered(world: World, course: Course, powers: curves.Powers, t: int) -> UInt8[np.ndarray, "h w 3"]:
    picture = Image.fromarray(world.render(course.states[t]))
    scale = min(OWN / picture.width, OWN / picture.height)
    size = max(1, round(scale * picture.width)), max(1, round(scale * picture.height))
    picture = picture.resize(size, Image.Resampling.NEAREST if scale >= 4 else Image.Resampling.LANCZOS)
    width = max(picture.width / CELL, NARROW)
    shapes: list[Shape] = []
    acting = t < course.steps
    head = _words(world, course, t) if acting else f"t = {t}"
    shapes.append(Label(EDGE, HEAD / 2, head, 0.3, INK, bold=True, anchor="left"))
    for i, (human, color) in enumerate(zip(world.humans, powers.colors, strict=True)):
        y = HEAD + LINE * i
        shapes.append(disc(EDGE + 0.1, y, 0.1, color, INK, 0.02))
        if acting:
            wants = f"{world.agents[human]}: {world.actions[human][course.joint[t, human]]}"
            wants += f", wants {world.goals[course.goals[t, i]]}"
            shapes.append(Label(EDGE + 0.35, y, wants, 0.25, INK, anchor="left"))
    top = HEAD + LINE * len(world.humans)
    below = top + picture.height / CELL + 0.3
    shapes += moved(curves.panel(powers, course.steps, width, PANEL, t), EDGE, below)
    page = Image.fromarray(pixels(shapes, width + 2 * EDGE, below + PANEL, CELL, PAPER))
    page.paste(picture, ((page.width - picture.width) // 2, round(CELL * top)))
    return np.asarray(page)


# ---------------------------------------------------------------- files


def _write_gif(found: Iterator[tuple[np.ndarray, int]], path: Path) -> Path:
    """Frames with one palette for all, so that nothing flickers."""
    pictures, stays = zip(*((Image.fromarray(frame), count) for frame, count in found), strict=True)
    middle = pictures[len(pictures) // 2]
    palette = middle.quantize(128, Image.Quantize.MEDIANCUT)
    small = [p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    data = io.BytesIO()
    durations = [round(1000 * count / FPS) for count in stays]
    small[0].save(data, "GIF", save_all=True, append_images=small[1:], duration=durations, loop=0, optimize=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data.getvalue())
    return path
