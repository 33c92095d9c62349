"""Which episodes a fit learned from and which it held out: split.json, and how they are known again in any set.

An episode is known by its actions. Its number means nothing once episodes were added or re-ordered, and neither does
the path of a set: others may lie there by now, and the same ones, copied or converted, elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apportion.data.schema import Demo, DemoSet, readable
from apportion.run.files import write_json
from apportion.types import UserError


@dataclass(frozen=True)
class Split:
    """Numbers of episodes in the fit's data."""

    train: list[int]  # learned from
    val: list[int]  # held out
    ids: dict[int, str]  # `episode_id` of each of them


@dataclass(frozen=True)
class Found:
    """The episodes of a fit, found again: numbers in the set that was searched."""

    train: list[int]  # learned from; empty: the set shares no episode with them
    held_out: list[int]  # all others
    changed: str  # one line where the set is not what the fit saw, else ""


def episode_id(demo: Demo) -> str:
    """16 hexadecimal digits of a hash over its actions (T, a)."""
    text = f"{demo.action.shape}".encode() + np.ascontiguousarray(demo.action, "<f4").tobytes()
    return hashlib.sha256(text).hexdigest()[:16]


def episode_ids(demos: DemoSet) -> dict[int, str]:
    """Number -> `episode_id` of the episodes of a set that can be read. Raises UserError where none can."""
    found = readable(range(len(demos)), lambda i: demos.read(i, "none"), {})
    return {number: episode_id(demo) for number, demo in found}


def write_split(run: Path, split: Split) -> None:
    """Writes split.json."""
    write_json(run / "split.json", {"train": split.train, "val": split.val, "ids": split.ids})


def read_split(run: Path) -> Split | None:
    """split.json of the run; None for a model without its run. Raises UserError."""
    file = run / "split.json"
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_bytes())
        train, val = ([int(i) for i in found[name]] for name in ("train", "val"))
        return Split(train, val, {int(i): str(x) for i, x in found["ids"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} cannot be read ({error!r}): is the run whole, and of this version?") from error


def find(split: Split, ids: Mapping[int, str], count: int) -> Found:
    """The episodes of `split` in a set of `count` episodes, of which `ids` can be read."""
    if ids.items() <= split.ids.items():  # by number, for two episodes may have the same actions
        train, held_out = ([i for i in side if i < count] for side in (split.train, split.val))
        lost = len(split.ids) - len(train) - len(held_out)
        changed = f"The last {lost} episodes of the fit are not in this data." if lost else ""
        return Found(train, held_out, changed)
    learned = {split.ids[i] for i in split.train}
    kept = {split.ids[i] for i in split.val} - learned
    train = [i for i in range(count) if ids.get(i) in learned]
    old = sum(x in kept for x in ids.values())
    new = count - len(train) - old
    changed = (
        f"The data is not what the fit saw: of its {count} episodes {len(train)} were learned from, {old} held out, "
        f"and {new} are new, going by their actions."
    )
    return Found(train, [i for i in range(count) if ids.get(i) not in learned], changed)
