"""What a user sees while training: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table

_WINDOW = 30.0  # seconds over which the speed is measured
_NAMES = {
    "return": "return",
    "evaluation/return": "evaluation return",
    "reward/R_loss": "R_loss",
    "reward/R_var": "R_var",
}
# what a plain line has room for
_SHORT = (
    "stage", "beta_r", "episodes", "return", "evaluation/return", "reward/R_loss", "agent/q_loss", "loss", "val/loss",
    "val/auroc", "loss/v_h_e", "loss/q_r", "exact/share", "exact/pi_r/tv_mean",
)  # fmt: skip


class Progress:
    """Steps, speed, time left and the latest values of a run; a context manager.

    `of_return` is said beside the return: what it is made of. `first_step` is where a resumed run starts. Before
    `warmup` steps nothing is learned, and the speed does not tell how long the rest will take. Plain lines come at
    most every `every` seconds (and at the end).
    """

    def __init__(
        self,
        total_steps: int,
        title: str,
        *,
        of_return: str = "",
        first_step: int = 0,
        warmup: int = 0,
        every: float | int = 5.0,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.total_steps, self.title = total_steps, title
        self._names = {**_NAMES, "return": f"return ({of_return})"} if of_return else _NAMES
        self._warmup = warmup
        self._console = console or Console()
        self._clock, self._every = clock, every
        self._step = first_step
        self._values: dict[str, float | int | str] = {}
        self._marks = deque([(clock(), first_step)])  # (time, step), to measure the speed
        self._printed = -float("inf")
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=2)

    def __enter__(self) -> Progress:
        self.begin()
        if self._live is not None:
            self._live.start()
        else:
            self.message(self.title)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, step: int, values: Mapping[str, float | int | str] | None = None) -> None:
        """Says where the run is; `values` replace the earlier ones of the same names."""
        now = self._clock()
        if self._step < self._warmup <= step:
            self._marks = deque([(now, step)])  # the speed counts anew
        self._step = step
        if now - self._marks[-1][0] >= 0.5:
            self._marks.append((now, step))
            while len(self._marks) > 2 and now - self._marks[1][0] >= _WINDOW:
                self._marks.popleft()
        if values:
            self._values.update(values)
        due = now - self._printed >= self._every or step >= self.total_steps
        if self._live is None and values and due:
            self._printed = now
            self.message(self._line())

    def begin(self) -> None:
        """The speed counts from now on, without what was made ready before."""
        self._marks = deque([(self._clock(), self._step)])

    def message(self, text: str) -> None:
        """One line of text, above the table."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @property
    def steps_per_second(self) -> float:
        """Over the last half minute; 0 before anything was measured."""
        (then, before), (now, step) = self._marks[0], self._marks[-1]
        return (step - before) / (now - then) if now > then else 0.0

    def _head(self) -> dict[str, str]:
        step = min(self._step, self.total_steps)  # several environments may step past the end
        head = {"steps": f"{step:,} of {self.total_steps:,} ({step / max(1, self.total_steps):.0%})"}
        speed = self.steps_per_second
        if speed > 0:
            head["steps/s"] = number(speed)
            if step < self._warmup:
                head["learning from step"] = f"{self._warmup:,}"
            else:
                head["time left"] = duration((self.total_steps - step) / speed)
        return head

    def _line(self) -> str:
        head = [f"{name} {text}" for name, text in self._head().items()]
        return "  ".join(head + [f"{_NAMES.get(n, n)} {number(self._values[n])}" for n in _SHORT if n in self._values])

    def _table(self) -> Table:
        table = Table(title=self.title, show_header=False, title_justify="left")
        table.add_column(style="bold", overflow="fold")
        table.add_column(justify="right", min_width=12, overflow="fold")
        for name, text in self._head().items():
            table.add_row(name, text)
        values = dict(self._values)  # the table is drawn by a thread, while update may add to it
        known = [n for n in ("episodes", "return", "evaluation/return") if n in values]
        for name in known + [n for n in values if n not in known]:
            table.add_row(self._names.get(name, name), number(values[name]))
        return table


def number(x: float | int | str) -> str:
    """A number as short as it can be read: 12,345 or 12 or 12.35 or 0.01235; words as they are."""
    if isinstance(x, str):
        return x
    if x == round(x, 0) or abs(x) >= 1000:
        return f"{x:,.0f}"
    return f"{x:.2f}" if abs(x) >= 10 else f"{x:.4g}"


def duration(seconds: float) -> str:
    """1:05:09 or 5:09."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02d}:{s:02d}" if hours else f"{m}:{s:02d}"
