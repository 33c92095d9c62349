"""A fitted reward model at work: which episodes it has not seen, and what it says of each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apportion.config import FitConfig
from apportion.data.as_store import open_any
from apportion.data.batches import read_demo
from apportion.data.returns import episode_return
from apportion.data.schema import BadDemo, Demo, DemoSet, Frames, readable, skipped
from apportion.rewards.demo_audit import Judged, Known, audit_demos
from apportion.rewards.demo_model import DemoReward
from apportion.train.split import Found, episode_ids, find, read_split
from apportion.types import UserError

Which = Literal["val", "all"]


@dataclass(frozen=True)
class Use:
    """A model, the set it is used on, and which of its episodes were learned from."""

    run: Path
    model: DemoReward
    demos: DemoSet
    own: bool  # it lies where the set of the fit lay
    bad: dict[int, BadDemo] | None = None  # the episodes that could not be read; None: the first one is an error

    @property
    def config(self) -> FitConfig:
        return self.model.config

    @cached_property
    def found(self) -> Found | None:
        """The episodes of the fit in this set; None for a model without its run. Reads all actions, once."""
        split = read_split(self.run)
        return None if split is None else find(split, episode_ids(self.demos), len(self.demos))

    @property
    def train(self) -> list[int] | None:
        """Learned from, as numbers in `demos`; None: none of them was."""
        return self.found.train or None if self.found else None

    @property
    def held_out(self) -> list[int] | None:
        """All others, where some were learned from; else None."""
        return self.found.held_out if self.found and self.found.train else None

    @property
    def changed(self) -> str:
        """One line where the fit's data is not what it was, or another set has some of its episodes; else ""."""
        return self.found.changed if self.found and (self.own or self.found.train) else ""

    def read(self, index: int, frames: Frames = "none") -> Demo:
        """Episode `index` with everything that the model needs, and `frames`, whichever is more."""
        return read_demo(self.demos, index, self.model.inputs, frames)

    def readable(self, numbers: Iterable[int], frames: Frames = "none") -> Iterator[tuple[int, Demo]]:
        """(number, episode) of each of `numbers`, as `read` has it; those that cannot be read go to `bad`."""
        return readable(numbers, lambda index: self.read(index, frames), self.bad)

    def episodes(self, which: Which | None) -> list[int]:
        """Numbers of the episodes not learned from, or of all; None: the former where some were learned from."""
        if which == "all" or (which is None and self.held_out is None):
            return list(range(len(self.demos)))
        if self.held_out is None:
            raise UserError(
                f"--episodes val: {self.run} was fitted to {self.config.data}, so that none of these episodes was held "
                "out, and none learned from: take --episodes all"
            )
        if not self.held_out:
            raise UserError(f"--episodes val: {self.run} held none out (--val-share 0): take --episodes all")
        return self.held_out


def open_use(
    run: Path,
    data: Path | None,
    device: str = "cpu",
    timing: Literal["auto", "before", "after"] = "auto",
    skip_bad: bool = False,
) -> Use:
    """The model of `run` on the set `data`, or on the one it was fitted to. Raises UserError.

    `timing`: how other HDF5 files align observations with actions; its own data is read as it was for the fit.
    """
    model, bad = DemoReward.load(run, device), dict[int, BadDemo]() if skip_bad else None
    config = model.config
    own = Path(config.data)
    if data is None and not own.exists():
        raise UserError(f"{run} was fitted to {own}, which is not there any more: say where with --data PATH")
    if data is not None and data.resolve() != own.resolve():
        return Use(run, model, open_any(str(data), "", timing), False, bad)
    if timing not in ("auto", config.timing):
        raise UserError(f"--timing {timing}: {run} was fitted to {own} with --timing {config.timing}: leave it out")
    return Use(run, model, open_any(str(own if data is None else data), config.suite, config.timing), True, bad)


def known(demo: Demo, kind: str) -> Known:
    """What the controls may look at. Raises UserError where the data does not hold the return of `kind`."""
    return Known(episode_return(demo, kind), demo.success, demo.task, demo.length)


def judge(use: Use, demo: Demo, truth: Sequence[str] = ()) -> Judged:
    """What the model says of one episode. `truth`: names of extra columns, or "reward", to compare with.

    Without the bonus of a success: that is the label itself, and would be counted as insight.
    """
    columns = {name: _truth(demo, name) for name in truth}
    reward = use.model.rewards(replace(demo, success=None))
    phi = use.model.potential(demo)
    return Judged(
        **vars(known(demo, use.config.return_)),
        terminated=demo.terminated,
        reward=reward,
        score=use.model.score(demo),
        potential=None if phi is None else phi[: demo.length],
        truth=columns,
    )


def _truth(demo: Demo, name: str) -> np.ndarray:
    found = demo.reward if name == "reward" else demo.extra.get(name)
    if found is None:
        raise UserError(f"--truth {name}: the data has no such column; it has {', '.join(['reward', *demo.extra])}")
    if found.ndim != 1:
        raise UserError(f"--truth {name}: a step of it holds {found.shape[1:]} numbers, and one is wanted")
    return found.astype(np.float64)


def audit_run(
    use: Use, which: Which | None, truth: Sequence[str], told: Callable[[int, int], None]
) -> tuple[dict[str, Any], list[Judged]]:
    """`audit_demos` of the episodes chosen, and what it was made from. `told(done, of)` hears of progress."""
    asked = use.episodes(which)
    chosen, judged = list[int](), list[Judged]()
    for index, demo in use.readable(asked):
        chosen.append(index)
        judged.append(judge(use, demo, truth))
        told(len(chosen) + len(use.bad or ()), len(asked))
    train, note = _controls_from(use, judged)
    found = audit_demos(judged, train, telescopes=use.config.is_potential)
    seen = len(set(chosen) & set(use.train or ()))
    if use.changed:
        note.append(use.changed)
    if seen:
        note.append(f"{seen} of these {len(chosen)} episodes were learned from: figures on them flatter the model.")
    about = {"held_out": len(chosen) - seen, "skipped": len(use.bad or ())}
    return {**found, **about, "warnings": [*note, *found["warnings"]]}, judged


def _controls_from(use: Use, judged: Sequence[Judged]) -> tuple[Sequence[Known], list[str]]:
    """The training episodes, without their frames; the audited ones, and a note, where those are not to be had."""
    split, demos, numbers = read_split(use.run), use.demos, use.train
    if split is None or numbers is None or len(numbers) < len(split.train):
        why = f"{use.config.data} holds none of the episodes that the model learned from"
        try:
            demos = open_any(use.config.data, use.config.suite, use.config.timing)
            numbers = [*range(len(demos))] if split is None else find(split, episode_ids(demos), len(demos)).train
        except UserError as error:
            numbers, why = [], f"The data the model was fitted to cannot be opened ({error})"
        if not numbers:
            return judged, [f"{why}: the controls are fitted to the audited episodes themselves, to their advantage."]
    bad = None if use.bad is None else dict[int, BadDemo]()
    found = [known(demo, use.config.return_) for _, demo in readable(numbers, lambda i: demos.read(i, "none"), bad)]
    return found, [f"Of the episodes learned from, the controls {skipped(bad)}"] if bad else []
