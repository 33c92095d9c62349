"""Rewards of a fitted model, written back into a copy of the data, in the data's own format."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apportion.data.columns import add_column, check_place
from apportion.data.open import JoinedSet
from apportion.data.schema import Source
from apportion.train.use import Use
from apportion.types import UserError

_NAME = re.compile(r"[A-Za-z][\w-]*")


@dataclass(frozen=True)
class Labelled:
    """What was written."""

    episodes: int
    steps: int
    where: list[str]  # in words


def label(use: Use, source: Path, out: Path, name: str, told: Callable[[int, int], None]) -> Labelled:
    """Writes the model's reward of every step of the set at `source` into a copy of it at `out`.

    Every reward is computed, and checked, before anything is written. Episodes that cannot be read get none, and are
    in `use.bad`, where they may be skipped. `told(done, of)` hears of progress. Raises
    UserError for a name that no column can have, an episode that cannot be used, a reward that is not finite, and
    whatever `add_column` refuses.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"--name {name}: a letter, then letters, digits, _ and -")
    check_place(source, out)
    if isinstance(use.demos, JoinedSet):
        raise UserError(f"{source} holds several sets ({', '.join(use.demos.paths)}): label one at a time, --data SET")
    values: dict[Source, np.ndarray] = {}
    progress: dict[Source, np.ndarray] = {}  # phi, or the predicted return so far, 1 where it is highest in the set
    for index, demo in use.readable(range(len(use.demos))):
        reward = use.model.rewards(demo).astype(np.float32)
        if reward.shape != (demo.length,) or not np.isfinite(reward).all():
            raise UserError(f"{demo.where}: the model's rewards are not finite: was it fitted to data of this scale?")
        if demo.source in values:
            raise UserError(f"{demo.where}: two episodes call themselves so; convert the data to a new store")
        values[demo.source], phi = reward, use.model.potential(demo)
        progress[demo.source] = np.cumsum(reward) if phi is None or use.config.decomposes else phi[: demo.length]
        told(index + 1, len(use.demos))
    top = max((float(x[-1]) for x in progress.values()), default=0.0) if use.config.decomposes else 1.0
    progress = {source: np.clip(x / (top if top > 0 else 1.0), 0, 1) for source, x in progress.items()}
    info = use.demos.info
    use.demos.close()  # the copy is made from files that nobody holds open
    about = f"per-step reward of {use.run.name} ({use.config.method}), by apportion label"
    where = add_column(info, source, out, name, values, progress, about)
    return Labelled(len(values), sum(map(len, values.values())), where)
