"""A fitted reward model at work: which episodes it has not seen, and what it says of each."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apportion.config import FitConfig
from apportion.data.as_store import open_any
from apportion.data.batches import read_demo
from apportion.data.returns import episode_return
from apportion.data.schema import Demo, DemoSet, Frames
from apportion.rewards.demo_audit import Judged, Known, audit_demos
from apportion.rewards.demo_model import DemoReward
from apportion.types import UserError

Which = Literal["val", "all"]


@dataclass(frozen=True)
class Use:
    """A model, the set it is used on, and which of its episodes were learned from."""

    run: Path
    model: DemoReward
    demos: DemoSet
    train: list[int] | None  # learned from, as numbers in `demos`; None: the set is not the one of the fit
    held_out: list[int] | None

    @property
    def config(self) -> FitConfig:
        return self.model.config

    def read(self, index: int, frames: Frames = "none") -> Demo:
        """Episode `index` with everything that the model needs, and `frames`, whichever is more."""
        return read_demo(self.demos, index, self.model.inputs, frames)

    def episodes(self, which: Which | None) -> list[int]:
        """Numbers of the held-out episodes, or of all; None: held out where the set is the model's own, else all."""
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


def open_use(run: Path, data: Path | None, device: str = "cpu") -> Use:
    """The model of `run` on the set `data`, or on the one it was fitted to. Raises UserError."""
    model = DemoReward.load(run, device)
    own = Path(model.config.data)
    if data is None and not own.exists():
        raise UserError(f"{run} was fitted to {own}, which is not there any more: say where with --data PATH")
    if data is not None and data.resolve() != own.resolve():
        return Use(run, model, open_any(str(data)), None, None)
    demos, split = open_any(str(own if data is None else data), model.config.suite), _split(run)
    if split is not None and max(split["train"] + split["val"], default=0) >= len(demos):
        raise UserError(f"{own} has {len(demos)} episodes, fewer than when {run} was fitted to it: give what it was")
    train, held_out = (None, None) if split is None else (split["train"], split["val"])
    return Use(run, model, demos, train, held_out)


def _split(run: Path) -> dict[str, list[int]] | None:
    """split.json of the run; None for a model without its run."""
    file = run / "split.json"
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_bytes())
        return {name: [int(i) for i in found[name]] for name in ("train", "val")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read ({error}): is the run whole?") from error


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
    chosen = use.episodes(which)
    judged = []
    for done, index in enumerate(chosen):
        judged.append(judge(use, use.read(index), truth))
        told(done + 1, len(chosen))
    train, note = _controls_from(use, judged)
    found = audit_demos(judged, train, telescopes=use.config.is_potential)
    seen = len(set(chosen) & set(use.train or ()))
    if seen:
        note.append(f"{seen} of these {len(chosen)} episodes were learned from: figures on them flatter the model.")
    return {**found, "held_out": len(chosen) - seen, "warnings": [*note, *found["warnings"]]}, judged


def _controls_from(use: Use, judged: Sequence[Judged]) -> tuple[Sequence[Known], list[str]]:
    """The training episodes, without their frames; the audited ones, and a note, where those are not to be had."""
    demos, split = use.demos, {"train": use.train}
    if use.train is None:
        try:
            demos, split = open_any(use.config.data, use.config.suite), _split(use.run) or {"train": None}
        except UserError as error:
            why = f"The data the model was fitted to cannot be opened ({error})"
            return judged, [f"{why}: the controls are fitted to the audited episodes themselves, to their advantage."]
    numbers: Iterable[int] = range(len(demos)) if split["train"] is None else split["train"]
    return [known(demos.read(i, "none"), use.config.return_) for i in numbers], []
