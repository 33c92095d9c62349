"""Flat shapes in units of one cell (x to the right, y downwards), and their two ways onto paper: pixels and SVG.

A picture is a list of shapes, painted in its order. What things look like is said once (glyphs.py), for both.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt8

SMOOTH = 3  # pixels are painted so many times larger, then made small: no ragged edges
Real = float | int  # a number of cells, where it need not be whole
Point = tuple[Real, Real]


@dataclass(frozen=True)
class Patch:
    """A filled polygon, or with `fill` empty a line along its points; `edge` is empty where it has no outline."""

    points: tuple[Point, ...]
    fill: str = ""
    edge: str = ""
    width: Real = 0.0  # of the outline, cells
    closed: bool = True


@dataclass(frozen=True)
class Label:
    """Text of height `size` cells, centred (or as `anchor` says) on (x, y)."""

    x: Real
    y: Real
    text: str
    size: Real
    color: str
    bold: bool = False
    anchor: Literal["left", "centre", "right"] = "centre"


Shape = Patch | Label


# ---------------------------------------------------------------- making


def disc(x: Real, y: Real, radius: Real, fill: str = "", edge: str = "", width: Real = 0.0) -> Patch:
    return Patch(arc(x, y, radius, 0, 360), fill, edge, width)


def arc(x: Real, y: Real, radius: Real, start: Real, end: Real) -> tuple[Point, ...]:
    """Points along a circle; degrees, clockwise from east (y grows downwards)."""
    count = max(2, round(abs(end - start) / 9) + 1)
    angles = [math.radians(start + (end - start) * i / (count - 1)) for i in range(count)]
    return tuple((x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles)


def box(
    x: Real,
    y: Real,
    width: Real,
    height: Real,
    fill: str,
    edge: str = "",
    line: Real = 0.0,
    *,
    corner: Real = 0.0,
) -> Patch:
    """A rectangle from its upper left corner, its corners rounded with radius `corner`."""
    if corner <= 0:
        points = ((x, y), (x + width, y), (x + width, y + height), (x, y + height))
        return Patch(points, fill, edge, line)
    right, low = x + width - corner, y + height - corner
    left, top = x + corner, y + corner
    points = (
        *arc(right, top, corner, -90, 0),
        *arc(right, low, corner, 0, 90),
        *arc(left, low, corner, 90, 180),
        *arc(left, top, corner, 180, 270),
    )
    return Patch(points, fill, edge, line)


def stroke(points: Sequence[Point], color: str, width: Real) -> Patch:
    return Patch(tuple(points), "", color, width, closed=False)


def moved(shapes: Iterable[Shape], x: Real, y: Real, scale: Real = 1.0, turn: Real = 0.0) -> list[Shape]:
    """The shapes scaled about (0, 0), turned there by `turn` degrees clockwise, and carried to (x, y)."""
    cos, sin = math.cos(math.radians(turn)) * scale, math.sin(math.radians(turn)) * scale

    def place(p: Point) -> Point:
        return x + p[0] * cos - p[1] * sin, y + p[0] * sin + p[1] * cos

    out: list[Shape] = []
    for shape in shapes:
        if isinstance(shape, Label):
            px, py = place((shape.x, shape.y))
            out.append(Label(px, py, shape.text, shape.size * scale, shape.color, shape.bold, shape.anchor))
        else:
            points = tuple(place(p) for p in shape.points)
            out.append(Patch(points, shape.fill, shape.edge, shape.width * scale, shape.closed))
    return out


def mixed(color: str, other: str, share: Real) -> str:
    """`color` with `share` of `other` in it, both #rrggbb."""
    a, b = ([int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (color, other))
    return "#" + "".join(f"{round(x + (y - x) * share):02x}" for x, y in zip(a, b, strict=True))


# ---------------------------------------------------------------- pixels


@functools.cache
def font(height: Real, bold: bool) -> Any:
    """The font that comes with matplotlib, so that a picture is the same everywhere; `height` in pixels."""
    # not at the top: whoever only solves a world paints nothing
    from matplotlib.font_manager import FontProperties, findfont
    from PIL import ImageFont

    path = findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal"))
    return ImageFont.truetype(path, height)


def pixels(shapes: Iterable[Shape], width: Real, height: Real, cell: int, paper: str) -> UInt8[np.ndarray, "h w 3"]:
    """The picture of width x height cells, `cell` pixels each."""
    from PIL import Image, ImageDraw

    scale = cell * SMOOTH
    image = Image.new("RGB", (round(width * scale), round(height * scale)), paper)
    brush = ImageDraw.Draw(image)
    for shape in shapes:
        if isinstance(shape, Label):
            place = (shape.x * scale, shape.y * scale)
            anchor = {"left": "lm", "centre": "mm", "right": "rm"}[shape.anchor]
            brush.text(place, shape.text, shape.color, font(shape.size * scale, shape.bold), anchor)
            continue
        points = [(x * scale, y * scale) for x, y in shape.points]
        if shape.fill:
            brush.polygon(points, fill=shape.fill)
        if shape.edge:
            line = max(1, round(shape.width * scale))
            _line(brush, [*points, *points[:2]] if shape.closed else points, shape.edge, line, shape.closed)
    small = image.resize((round(width * cell), round(height * cell)), Image.Resampling.BOX)
    return np.asarray(small).copy()


def _line(brush: Any, points: list[Point], color: str, width: int, closed: bool) -> None:
    brush.line(points, fill=color, width=width, joint="curve")
    if not closed:  # round ends
        for x, y in (points[0], points[-1]):
            brush.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=color)


# ---------------------------------------------------------------- SVG


def svg(shapes: Iterable[Shape], width: Real, height: Real, paper: str, title: str) -> str:
    """The picture as an SVG document of width x height units that refers to nothing outside itself.

    `paper` is the colour of the ground; with "" there is none.
    """
    under = f'<rect width="{width:g}" height="{height:g}" fill="{paper}"/>' if paper else ""
    body = "".join(_element(shape) for shape in shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img" '
        f'stroke-linejoin="round" stroke-linecap="round"><title>{escape(title)}</title>'
        f"{under}{body}</svg>"
    )


def _element(shape: Shape) -> str:
    if isinstance(shape, Label):
        anchor = {"left": "start", "centre": "middle", "right": "end"}[shape.anchor]
        weight = ' font-weight="bold"' if shape.bold else ""
        # dominant-baseline is not honoured everywhere: .36 of the size below the middle is the base line
        return (
            f'<text x="{shape.x:.3g}" y="{shape.y + 0.36 * shape.size:.4g}" font-size="{shape.size:.3g}" '
            f'fill="{shape.color}" text-anchor="{anchor}" font-family="DejaVu Sans, Verdana, sans-serif"{weight}>'
            f"{escape(shape.text)}</text>"
        )
    points = " ".join(f"{x:.4g},{y:.4g}" for x, y in shape.points)
    edge = f' stroke="{shape.edge}" stroke-width="{shape.width:.3g}"' if shape.edge else ""
    kind = "polygon" if shape.closed else "polyline"
    return f'<{kind} points="{points}" fill="{shape.fill or "none"}"{edge}/>'
