"""How every picture looks: colours, fonts, names of curves, and how a figure becomes a file."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from apportion.run.files import write_atomic

P = ParamSpec("P")
WIDTH = 8.3  # inches
PNG_DPI = 200
INK, FAINT, GRID = "#22272e", "#6b7480", "#e6e8eb"
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY, BROWN = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7d8590", "#8c5a2b",
)  # fmt: skip  # Okabe and Ito's palette, its yellow (invisible on white) replaced by brown, and grey
TRUE, LEARNED = "#a4adb8", BLUE  # the truth wide and pale, what was learned thin and strong upon it
METHODS = {
    "rrd": BLUE, "rrd-l(rd)": PURPLE, "rd": GREEN, "ircr": ORANGE, "uniform": GREY, "episodic": RED, "dense": INK,
}  # fmt: skip
SPARE = (SKY, BROWN, GREEN, PURPLE, ORANGE, RED, BLUE, GREY)
DASHES: tuple[tuple[float, ...], ...] = ((), (5.0, 2.0), (1.5, 1.5), (6.0, 2.0, 1.5, 2.0))
STYLE: Any = {
    "font.size": 10,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#b6bcc4",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.titlepad": 8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.hashsalt": "apportion",  # the same data give the same bytes
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Look:
    color: str
    dashes: tuple[float, ...]


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    @functools.wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context(STYLE):
            fig = draw(*args, **kwargs)
            if fig.get_layout_engine() is not None:
                fig.draw_without_rendering()  # the layout is settled once, not again for each file written
                fig.set_layout_engine("none")
            return fig

    return inside


def looks(labels: Sequence[str]) -> dict[str, Look]:
    """A colour and dash pattern for each label; a method has its own colour in every picture.

    A second label of the same method (another agent, another setting) takes a free colour and the next dash pattern.
    """
    out: dict[str, Look] = {}
    taken: list[str] = []
    seen: dict[str, int] = {}
    known = {METHODS[m] for m in map(_method, labels) if m in METHODS}
    for label in dict.fromkeys(labels):
        method = _method(label)
        turn = seen.get(method, 0)
        seen[method] = turn + 1
        color = METHODS.get(method)
        if color is None or turn:
            free = [c for c in SPARE if c not in taken and c not in known]
            color = free[0] if free else SPARE[len(taken) % len(SPARE)]
        taken.append(color)
        dashes = (4.0, 1.5) if method == "dense" and not turn else DASHES[turn % len(DASHES)]
        out[label] = Look(color, dashes)
    return out


def pretty(label: str) -> str:
    """ "rrd sac" as "RRD + SAC"; "none sac (dense)" as "SAC, dense reward"; any other label unchanged."""
    head, comma, settings = label.partition(", ")
    words = head.split(" ")
    if words[0] == "none" and len(words) == 3:
        head = f"{words[1].upper()}, {words[2].strip('()')} reward"
    elif len(words) == 2 and words[0] in METHODS:
        head = f"{words[0] if words[0] == 'uniform' else words[0].upper()} + {words[1].upper()}"
    return head + comma + settings


def _method(label: str) -> str:
    return next((end for end in ("dense", "episodic") if f"({end})" in label), label.split(" ")[0].rstrip(","))


def save(fig: Figure, path: Path) -> Path:
    """Write `fig` to `path`, as its ending says (.png, .svg, .pdf); the same data give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _bytes(fig, path.suffix.lstrip(".").lower()))
    return path


def svg(fig: Figure) -> str:
    """`fig` as an SVG document that refers to nothing outside itself."""
    return _bytes(fig, "svg").decode()


def _bytes(fig: Figure, form: str) -> bytes:
    # without dates and versions in the file
    metadata = {"svg": {"Date": None}, "png": {"Software": None}, "pdf": {"CreationDate": None}}.get(form)
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        fig.savefig(buffer, format=form, dpi=PNG_DPI, metadata=metadata)
    return buffer.getvalue()


def short_number(x: float | int) -> str:
    """1500 as "1.5k", 2000000 as "2M"."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if abs(x) >= size:
            return f"{x / size:g}{unit}"
    return f"{x:g}"


def number(value: float) -> str:
    return f"{value:.2f}".replace("-", "\N{MINUS SIGN}") if np.isfinite(value) else "undefined"


def brief(value: float) -> str:
    """With up to three figures, a minus sign that is one, and no zeros at its end."""
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def smoothing(steps: int) -> int:
    """Over how many steps the bold line of an episode of so many is a mean; 1: it is short enough as it is."""
    return steps // 60 if steps > 150 else 1


def running_mean(x: np.ndarray, window: int) -> np.ndarray:
    """Centred mean over `window` entries, over fewer at the two ends."""
    if window < 2:
        return x
    ones = np.ones(window)
    return np.convolve(x, ones, "same") / np.convolve(np.ones(len(x)), ones, "same")


def spread(wanted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Centres as near to `wanted` (ascending) as they can be when intervals of `sizes` must not overlap in [0, 1].

    Overlapping neighbours are merged into blocks that sit at the mean of what their members want.
    """
    blocks: list[list[int]] = []
    offsets = np.cumsum(sizes) - sizes / 2  # centres when all are stacked from 0
    shift = wanted - offsets
    top = 1 - float(sizes.sum())

    def place(block: list[int]) -> float:
        return float(np.clip(shift[block].mean(), 0.0, max(0.0, top)))

    for i in range(len(wanted)):
        blocks.append([i])
        while len(blocks) > 1 and place(blocks[-2]) > place(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    places = np.array([place(block) for block in blocks for _ in block])
    return offsets + places


def blues() -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("apportion", ["#cfe3f1", "#5aa5d1", BLUE, "#00375a"])
