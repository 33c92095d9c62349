"""The film strip: frames of one episode at which the learned reward is highest and lowest, over its curve."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from apportion.report.style import FAINT, GRID, INK, LEARNED, ORANGE, WIDTH, brief, running_mean, smoothing, styled

HIGH, LOW = LEARNED, ORANGE
ACROSS = 4  # frames in a row
SIDE, TOP, GAP, CURVE = 0.08, 0.64, 0.09, 1.5  # inches: margins, the title's room, between frames, the curve's room
WORDS = 0.42  # inches over a frame: its step and its rewards


@styled
def film_strip(
    frames: UInt8[np.ndarray, "m ..."],
    step: np.ndarray,
    highest: np.ndarray,
    true: np.ndarray,
    learned: np.ndarray,
    *,
    title: str,
    note: str = "",
    kind: str = "learned",
) -> Figure:
    """Frames (m, H, W) or (m, H, W, 3), in order of time, each with its step and its two rewards; below, all rewards.

    step, highest: (m,); where `highest`, the frame has the learned reward's colour, else that of the lowest. true,
    learned: (T,), of the whole episode. kind: what to call the learned reward where no model learned it.
    """
    count = len(frames)
    columns = count if count <= ACROSS else -(-count // -(-count // ACROSS))
    rows = -(-count // columns)
    width = (WIDTH - 2 * SIDE - (columns - 1) * GAP) / columns
    width = min(width, 2.4)  # a single frame need not fill the page
    height = width * frames.shape[1] / frames.shape[2]
    tall = TOP + rows * (height + WORDS + GAP) + CURVE
    fig = Figure(figsize=(WIDTH, tall))
    fig.text(SIDE / WIDTH, 1 - 0.2 / tall, title, fontsize=13, fontweight="bold", va="center")
    fig.text(SIDE / WIDTH, 1 - 0.46 / tall, note, fontsize=9, color=FAINT, va="center")
    for i, (image, t, high) in enumerate(zip(frames, step.tolist(), highest.tolist(), strict=True)):
        row, column = divmod(i, columns)
        left, bottom = SIDE + column * (width + GAP), tall - TOP - row * (height + WORDS + GAP) - WORDS - height
        ax = fig.add_axes((left / WIDTH, bottom / tall, width / WIDTH, height / tall))
        _frame(ax, image, HIGH if high else LOW)
        _words(ax, t, f"{kind} {brief(float(learned[t]))}, true {brief(float(true[t]))}", high)
    ax = fig.add_axes((0.075, 0.4 / tall, 0.915, (CURVE - 0.82) / tall))
    _curve(ax, learned, step, highest, kind)
    return fig


def _frame(ax: Axes, image: np.ndarray, color: str) -> None:
    """Enlarged by a whole number first: pixels of a small picture stay squares of one size."""
    times = max(1, 480 // image.shape[1])
    image = image.repeat(times, 0).repeat(times, 1)
    ax.imshow(image if image.ndim == 3 else np.stack([image] * 3, -1), aspect="auto")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set(visible=True, color=color, linewidth=2.6)


def _words(ax: Axes, step: int, rewards: str, high: bool) -> None:
    color = "#00558a" if high else "#9a6a00"  # letters are thin: darker than the edge
    mark = "\N{BLACK UP-POINTING TRIANGLE}" if high else "\N{BLACK DOWN-POINTING TRIANGLE}"
    at = {"xy": (0, 1), "xycoords": "axes fraction", "textcoords": "offset points"}
    ax.annotate(f"{mark} step {step:,}", xytext=(0, 17.5), color=color, fontsize=9.5, fontweight="bold", **at)
    ax.annotate(rewards, xytext=(0, 5.5), color=FAINT, fontsize=8.5, **at)


def _curve(ax: Axes, learned: np.ndarray, step: np.ndarray, highest: np.ndarray, kind: str) -> None:
    steps = np.arange(len(learned))
    ax.axhline(0, color=GRID, lw=1, zorder=1)
    ax.plot(steps, learned, color=INK, lw=0.6, alpha=0.45)
    ax.plot(steps, running_mean(learned, smoothing(len(learned))), color=INK, lw=1.2)
    for which, color, mark in ((highest, HIGH, "^"), (~highest, LOW, "v")):
        ax.plot(
            step[which], learned[step[which]], mark, color=color, ms=7, mec="white", mew=0.8, clip_on=False, zorder=4
        )
    ax.set(xlim=(-0.5, max(len(learned) - 0.5, 0.5)), xlabel="step of the episode")
    ax.set_title(f"{kind} reward per step", fontsize=9, fontweight="normal", color=FAINT, pad=7)
    ax.margins(y=0.12)
    ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(3))
