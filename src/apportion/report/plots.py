"""The pictures: learning curves, one episode's credit, credit over many episodes, small multiples of anything.

Functions of plain arrays that return a matplotlib Figure; nothing here reads a file or touches pyplot's global state.
Made for a width of about 830 pixels (a README column), light background, colours that colour-blind readers tell apart.
"""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from apportion.report.stats import bootstrap_ci, iqm
from apportion.report.strip import film_strip
from apportion.report.style import (
    BLUE,
    FAINT,
    INK,
    LEARNED,
    TRUE,
    WIDTH,
    Look,
    blues,
    looks,
    number,
    pretty,
    running_mean,
    save,
    short_number,
    smoothing,
    spread,
    styled,
    svg,
)  # fmt: skip
from apportion.stats import pearson, per_episode, r2, spearman

__all__ = [
    "Band", "Curve", "credit", "credit_scatter", "film_strip", "learning_curves", "save", "seeds_note",
    "small_multiples", "svg",
]  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """One line of a learning curve."""

    label: str
    steps: np.ndarray  # (p,) env steps
    values: np.ndarray  # (seeds, p)


class Band(NamedTuple):
    """A stretch of steps that is shaded, with a word at its top."""

    start: float
    end: float
    word: str
    color: str  # empty: none


@styled
def learning_curves(
    curves: Sequence[Curve],
    *,
    title: str,
    ylabel: str = "return",
    note: str | None = None,
    labels: Sequence[str] = (),
    bands: Sequence[Band] = (),
    marks: Mapping[str, float] | None = None,
) -> Figure:
    """One panel: the IQM over seeds with its 95 % bootstrap band for each curve, named at its right end.

    With one or two curves the seeds are drawn too, faintly. `note` replaces the line under the title. `labels`: all
    labels of a document, for the same colours in all of its pictures. `marks`: lines across, word -> height.
    """
    looks_of = looks([*labels, *(c.label for c in curves)])
    names = [textwrap.fill(pretty(c.label), 24) for c in curves]
    widest = max((len(line) for name in names for line in name.split("\n")), default=8)
    fig = Figure(figsize=(WIDTH, 4.3))
    ax = fig.add_axes((0.1, 0.125, 0.9 - (0.35 + 0.082 * widest) / WIDTH, 0.715))
    for curve in curves:
        _draw_curve(ax, curve, looks_of[curve.label], seeds=len(curves) <= 2)
    for word, height in (marks or {}).items():
        ax.axhline(height, color=FAINT, lw=1, dashes=(4, 3), zorder=1)
        ax.annotate(
            word, (0.4, height), (0, 3 if height <= 0 else -11), ax.get_yaxis_transform(), "offset points",
            color=FAINT, fontsize=8.5,
        )  # fmt: skip
    _step_axis(ax)
    _shade(ax, bands)
    ax.set_ylabel(ylabel)
    if note is None:
        note = seeds_note(curves)
    fig.text(0.1 - 0.062, 0.945, title, fontsize=13, fontweight="bold", va="center")
    fig.text(0.1 - 0.062, 0.889, note, fontsize=9, color=FAINT, va="center")
    _name_ends(ax, curves, names, looks_of)
    return fig


def seeds_note(curves: Sequence[Curve]) -> str:
    """What line and band are, in words."""
    counts = sorted({len(c.values) for c in curves})
    if not counts or counts == [1]:
        return "one seed"
    seeds = f"{counts[0]} seeds" if len(counts) == 1 else f"{counts[0]} to {counts[-1]} seeds"
    return f"interquartile mean of {seeds}, band: 95 % bootstrap interval"


@styled
def small_multiples(
    panels: Mapping[str, Sequence[Curve]],
    *,
    title: str = "",
    columns: int = 3,
    ylabel: str = "",
    limits: Mapping[str, tuple[float, float]] | None = None,
    labels: Sequence[str] = (),
    bands: Sequence[Band] = (),
    log: Collection[str] = (),
) -> Figure:
    """One panel for each name (a task, a metric), one line for each curve, one legend below for all.

    limits: name -> (lowest, highest) value worth showing; the axis is cut there, never stretched to it.
    labels: all labels of a document, for the same colours in all of its pictures.
    log: the panels whose axis is logarithmic.
    """
    here = list(dict.fromkeys(c.label for curves in panels.values() for c in curves))
    looks_of = looks([*labels, *here])
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    widest = max((len(pretty(label)) for label in here), default=0)
    abreast = max(1, min(4, len(here), int(WIDTH / (0.7 + 0.075 * widest))))
    legend_rows = -(-len(here) // abreast) if len(here) > 1 else 0
    fig = Figure(figsize=(WIDTH, 2.3 * rows + 0.24 * legend_rows + (0.4 if title else 0.1)), layout="constrained")
    fig.get_layout_engine().set(h_pad=0.07, w_pad=0.07, rect=(0, 0, 0.99, 1))  # type: ignore[union-attr]
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for ax, (name, curves) in zip(axes, panels.items(), strict=False):
        for curve in curves:
            _draw_curve(ax, curve, looks_of[curve.label], seeds=False, width=1.7)
        ax.set_title(name)
        _step_axis(ax, ticks=4, log=name in log)
        _shade(ax, bands)
        if limits and name in limits:
            _cut(ax, *limits[name])
    for ax in axes[len(panels) :]:
        ax.remove()
    for ax in axes[: len(panels) : columns]:
        ax.set_ylabel(ylabel)
    for ax in axes[: max(0, len(panels) - columns)]:
        ax.set_xlabel("")
    if legend_rows:
        handles = [_handle(looks_of[label]) for label in here]
        fig.legend(
            handles,
            [pretty(x) for x in here],
            loc="outside lower center",
            ncols=abreast,
            handlelength=2.4,
        )
    if title:
        fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return fig


@styled
def credit(true: np.ndarray, learned: np.ndarray, *, title: str, note: str = "", kind: str = "learned") -> Figure:
    """One episode: the true per-step reward (T,) beside the learned one (T,).

    Above, the whole episode (running means over raw values where it is long); below, a close-up of a long one, the
    sums so far, and learned against true. kind: what to call the learned reward where no model learned it.
    """
    steps = len(true)
    window = smoothing(steps)
    long = window > 1
    fig = Figure(figsize=(WIDTH, 5.7), layout="constrained")
    fig.get_layout_engine().set(h_pad=0.07, w_pad=0.07, hspace=0.06, wspace=0.04)  # type: ignore[union-attr]
    mosaic: Any = [["whole"] * 3, ["close" if long else "sums", "sums", "against"]]
    axes = fig.subplot_mosaic(mosaic, height_ratios=(1.15, 1), width_ratios=(1.15, 1, 1))
    pair = ((true, TRUE, 3.2, "true reward, hidden from the learner"), (learned, LEARNED, 1.6, f"{kind} reward"))
    ax = axes["whole"]
    for values, color, width, name in pair:
        if long:
            ax.plot(np.arange(steps), values, color=color, lw=0.5, alpha=0.35)
        ax.plot(np.arange(steps), running_mean(values, window), color=color, lw=width, label=name)
    ax.set(xlabel="step of the episode", ylabel="reward per step", xlim=(0, steps))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 0.99), ncols=2, handlelength=1.5, borderaxespad=0, borderpad=0.4)
    smooth = f"bold: running mean over {window} steps, thin: raw" if long else ""
    ax.set_title("; ".join(x for x in (note, smooth) if x), fontsize=9, fontweight="normal", color=FAINT, pad=26)
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    if long:
        _close_up(axes["close"], pair)
    _running_sums(axes["sums"], pair)
    _against(axes["against"], true, learned)
    axes["against"].set_ylabel(kind)
    return fig


@styled
def credit_scatter(
    true: np.ndarray, learned: np.ndarray, length: np.ndarray, *, title: str, kind: str = "learned"
) -> Figure:
    """Many episodes: learned against true reward of every step, and predicted against true return of every episode.

    true, learned: (sum of lengths,), the episodes one after the other; length: (episodes,); kind: as for `credit`.
    """
    starts = np.cumsum(length) - length
    returns, predicted = (np.add.reduceat(np.asarray(x, np.float64), starts) for x in (true, learned))
    fig = Figure(figsize=(WIDTH, 4.1), layout="constrained")
    fig.get_layout_engine().set(w_pad=0.12, h_pad=0.07)  # type: ignore[union-attr]
    left, right = fig.subplots(1, 2)
    within = per_episode(pearson, true, learned, length)
    rank = per_episode(spearman, true, learned, length)
    _diagonal(left, true, learned)
    if len(true) > 3000:
        left.hexbin(true, learned, gridsize=46, bins="log", mincnt=1, cmap=blues(), linewidths=0.1, rasterized=True)
    else:
        left.plot(true, learned, ".", color=BLUE, ms=4, alpha=0.35, mew=0, rasterized=True)
    _titles(left, f"Reward of {len(true):,} steps", f"within episodes: Pearson {_mean(within)}, Spearman {_mean(rank)}")
    left.set(xlabel="true", ylabel=kind)
    _diagonal(right, returns, predicted)
    right.plot(returns, predicted, "o", color=BLUE, ms=6, alpha=0.7, mec="white", mew=0.6)
    _titles(right, "Return of each episode", f"R² {number(r2(returns, predicted))}")
    right.set(xlabel="true", ylabel="predicted")
    fig.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
    return fig


def _draw_curve(ax: Axes, curve: Curve, look: Look, *, seeds: bool, width: float = 2.1) -> None:
    middle = iqm(curve.values)
    low, high = bootstrap_ci(curve.values)
    if seeds and len(curve.values) > 1:
        ax.plot(curve.steps, curve.values.T, color=look.color, lw=0.7, alpha=0.35)
    if len(curve.values) > 1:
        ax.fill_between(curve.steps, low, high, color=look.color, alpha=0.16, lw=0)
    (line,) = ax.plot(curve.steps, middle, color=look.color, lw=width)
    if len(curve.steps) == 1:
        line.set_marker("o")
    if look.dashes:
        line.set_dashes(look.dashes)


def _handle(look: Look) -> Line2D:
    line = Line2D([], [], color=look.color, lw=2)
    if look.dashes:
        line.set_dashes(look.dashes)
    return line


def _name_ends(ax: Axes, curves: Sequence[Curve], names: Sequence[str], looks_of: Mapping[str, Look]) -> None:
    """Each curve's name right of the axes at the height of its end, pushed apart where they would overlap."""
    drawn = [(c, n, float(iqm(c.values)[-1])) for c, n in zip(curves, names, strict=True)]
    drawn = sorted((d for d in drawn if np.isfinite(d[2])), key=lambda d: d[2])
    low, high = ax.get_ylim()
    line = 13.5 / (ax.get_position().height * ax.figure.get_figheight() * 72)  # type: ignore[union-attr]
    sizes = np.array([line * (1 + n.count("\n")) for _, n, _ in drawn])
    wanted = np.array([(y - low) / (high - low) for _, _, y in drawn])
    for (curve, name, y), height in zip(drawn, spread(wanted, sizes), strict=True):
        color = looks_of[curve.label].color
        ink = tuple(0.78 * c for c in to_rgb(color))  # letters are thin: darker than the line
        ax.annotate(
            name, (float(curve.steps[-1]), y), xytext=(1.035, height), textcoords="axes fraction", va="center",
            color=ink, fontsize=10, linespacing=1.15, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.7, "alpha": 0.6, "shrinkA": 2, "shrinkB": 1},
        )  # fmt: skip


def _cut(ax: Axes, lowest: float, highest: float) -> None:
    low, high = ax.get_ylim()
    margin = 0.02 * (highest - lowest)  # else a line at the limit is cut in half
    if low < highest and high > lowest:  # where nothing is worth showing, better show it than an empty panel
        ax.set_ylim(max(low, lowest - margin), min(high, highest + margin))


def _shade(ax: Axes, bands: Sequence[Band]) -> None:
    """Behind what is drawn; the axis stays as long as it is."""
    low, high = ax.get_xlim()
    for band in bands:
        start, end = max(band.start, low), min(band.end, high)
        if start >= end:
            continue
        if band.color:
            ax.axvspan(start, end, color=band.color, lw=0, zorder=0)
        if (end - start) / (high - low) > 0.012 * len(band.word) + 0.02:
            middle = (start + end) / 2
            ax.text(
                middle, 0.985, band.word, transform=ax.get_xaxis_transform(), ha="center", va="top", color=FAINT,
                fontsize=7.5,
            )  # fmt: skip
    ax.set_xlim(low, high)


def _step_axis(ax: Axes, ticks: int = 7, log: bool = False) -> None:
    ax.margins(x=0)
    ax.set_xlabel("environment steps")
    ax.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: short_number(x)))
    if log:
        ax.set_yscale("log")
        ax.yaxis.set_minor_locator(NullLocator())
    else:
        ax.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))


def _close_up(ax: Axes, pair: Sequence[tuple[np.ndarray, str, float, str]]) -> None:
    middle = len(pair[0][0]) // 2
    part = np.arange(middle - 40, middle + 40)
    for values, color, width, _ in pair:
        ax.plot(part, values[part], color=color, lw=width)
    ax.set_title("80 steps in its middle")
    ax.set(xlabel="step of the episode", ylabel="reward per step", xlim=(part[0], part[-1]))
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _running_sums(ax: Axes, pair: Sequence[tuple[np.ndarray, str, float, str]]) -> None:
    for values, color, width, _ in pair:
        ax.plot(np.arange(1, len(values) + 1), np.cumsum(values, dtype=np.float64), color=color, lw=width)
    ax.set_title("Sum so far")
    ax.set(xlabel="step of the episode", xlim=(0, len(pair[0][0])))
    ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))


def _against(ax: Axes, true: np.ndarray, learned: np.ndarray) -> None:
    _diagonal(ax, true, learned)
    ax.plot(true, learned, ".", color=BLUE, ms=4.5, alpha=0.4, mew=0, rasterized=len(true) > 500)
    ax.set_title(f"Correlation {number(pearson(true, learned))}")
    ax.set(xlabel="true")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(4))


def _diagonal(ax: Axes, x: np.ndarray, y: np.ndarray) -> None:
    ax.plot(*(2 * [[min(np.min(x), np.min(y)), max(np.max(x), np.max(y))]]), color=INK, lw=1, dashes=(4, 3), zorder=3)


def _titles(ax: Axes, title: str, below: str) -> None:
    ax.set_title(title, pad=21)
    ax.text(0, 1.025, below, transform=ax.transAxes, fontsize=9, color=FAINT).set_in_layout(False)


def _mean(values: np.ndarray) -> str:
    finite = values[np.isfinite(values)]
    return number(float(finite.mean())) if len(finite) else "undefined"
