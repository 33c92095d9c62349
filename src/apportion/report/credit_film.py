"""An episode's film with the learned reward of its steps running along below the picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from apportion.report.style import GRID, INK, LEARNED, running_mean, smoothing, styled

WIDE = 480  # pixels, at least, of a film: words below a smaller picture could not be read
HEIGHT = 0.29  # of the panel, in its widths


def enlarged(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
    """`frame`, each pixel as a square of so many that its width is WIDE or more."""
    times = -(-WIDE // frame.shape[1])
    return frame.repeat(times, 0).repeat(times, 1) if times > 1 else frame


def with_curve(frames: Iterable[np.ndarray], learned: Float[np.ndarray, "T"]) -> Iterator[np.ndarray]:
    """T frames (H, W, 3) of an episode, frame t as drawn before step t, enlarged and over the curve of `learned`.

    A cursor stands at step t; what is still to come is fainter. The curve is drawn once, whatever T is. Raises
    ValueError where the frames are not T.
    """
    panel: Panel | None = None
    for t, frame in zip(range(len(learned)), frames, strict=True):
        picture = enlarged(frame)
        panel = panel or Panel(learned, picture.shape[1])
        yield np.concatenate([picture, panel.at(t)])


class Panel:
    """The curve of an episode's learned reward (T,), `width` pixels wide: as it is behind and ahead of the cursor."""

    def __init__(self, learned: np.ndarray, width: int):
        drawn = [_panel(learned, width, ahead) for ahead in (False, True)]
        self.behind, self.ahead = map(_pixels, drawn)
        axes = drawn[0].axes[0]
        box = axes.bbox
        self.rows = slice(round(len(self.behind) - box.y1), round(len(self.behind) - box.y0))
        self.columns = box.x0 + box.width * (np.arange(len(learned)) + 0.5) / len(learned)
        self.stroke = max(2, round(width / 160))

    def at(self, t: int) -> UInt8[np.ndarray, "h w 3"]:
        """The panel while step t is about to be taken."""
        now = round(float(self.columns[t]))
        out = self.ahead.copy()
        out[:, :now] = self.behind[:, :now]
        left = now - self.stroke // 2
        out[self.rows, left : left + self.stroke] = np.rint(255 * np.array(to_rgb(INK))).astype(np.uint8)
        return out


@styled
def _panel(learned: np.ndarray, width: int, ahead: bool) -> Figure:
    """Both figures differ in nothing but the curve's strength; 4.8 inches wide, whatever that is in pixels."""
    steps, alpha = len(learned), 0.28 if ahead else 1.0
    window = smoothing(steps)
    fig = Figure(figsize=(4.8, round(HEIGHT * width) * 4.8 / width), dpi=width / 4.8)
    ax = fig.add_axes((0.105, 0.2, 0.875, 0.62))
    ax.axhline(0, color=GRID, lw=1.2, zorder=1)
    mark = {"marker": "o", "ms": 4} if steps == 1 else {}
    if window > 1:
        ax.plot(learned, color=LEARNED, lw=0.6, alpha=0.4 * alpha)
    ax.plot(running_mean(learned, window), color=LEARNED, lw=1.7, alpha=alpha, **mark)
    ax.set_xlim(-0.5, steps - 0.5)
    ax.margins(y=0.08)
    ax.set_title("learned reward per step", fontsize=9, fontweight="normal", color=INK, pad=5)
    ax.tick_params(labelsize=7.5, pad=2)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_locator(MaxNLocator(3))
    ax.grid(visible=False, axis="x")
    return fig


def _pixels(fig: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
