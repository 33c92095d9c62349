"""Clips: an episode, the first steps of one, or one that is played forwards and then back. Pure NumPy.

A clip of episode e is a path through its rows: up from row 0 to row `top`, then down again, `length` steps in all.
A whole episode has top = length = its transitions. State i of the clip (0 <= i <= length) is row i on the way up and
2 top - i on the way down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from apportion.types import UserError

Kinds = tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """The episodes that may be drawn, (n,) each; `other_tasks` is needed for other tasks' instructions only."""

    episode: np.ndarray  # number in the store
    transitions: np.ndarray  # steps whose next observation exists, at least 1
    value: np.ndarray  # return, float64
    success: np.ndarray  # bool
    task: np.ndarray  # number of the condition
    tasks: int  # how many there are
    by_progress: bool = False  # do clips of successes return their progress, not 0?

    def __len__(self) -> int:
        return len(self.episode)


@dataclass(frozen=True)
class Clips:
    """(m,) each."""

    episode: np.ndarray  # number in the store
    full: np.ndarray  # transitions of the whole episode
    top: np.ndarray
    length: np.ndarray
    task: np.ndarray  # number of the condition under which it is shown
    value: np.ndarray  # its return
    success: np.ndarray  # does it succeed under this condition?
    credited: np.ndarray  # is it cut from a success, under its own condition?

    def part(self, low: int, high: int) -> Clips:
        """Clips `low` to `high`."""
        return Clips(**{name: x[low:high] for name, x in vars(self).items()})


def path(top: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Row, counted from the episode's first, of each state."""
    return np.where(state <= top, state, 2 * top - state)


def whole(pool: Pool, at: np.ndarray) -> Clips:
    """The whole episodes `at` (m,) of the pool."""
    length = pool.transitions[at]
    success = pool.success[at]
    return Clips(pool.episode[at], length, length, length, pool.task[at], pool.value[at], success, success)


def draw(pool: Pool, m: int, kinds: Kinds, share: float, rng: np.random.Generator, by: str = "length") -> Clips:
    """`m` episodes with replacement, by their length or uniformly; of the successes `share` become artificial failures.

    `kinds`, each with equal chance: "rewind", up to a random row and back to a random earlier one; "prefixes", cut
    before a random row; "other_instructions", the whole episode under another task's condition.
    """
    if by == "length":
        ends = np.cumsum(pool.transitions)
        at = np.searchsorted(ends, (rng.random(m) * ends[-1]).astype(np.int64), side="right")
    else:
        at = rng.integers(len(pool), size=m)
    clips = whole(pool, at)
    if not kinds:
        return clips
    kind = np.where((rng.random(m) < share) & clips.success, rng.integers(len(kinds), size=m), -1)
    noise = rng.random((2, m))
    for number, name in enumerate(kinds):
        clips = _MAKERS[name](clips, pool, kind == number, noise)
    return clips


def _cut(clips: Clips, pool: Pool, at: np.ndarray, noise: np.ndarray) -> Clips:
    at = at & (clips.full > 1)  # a single step has no shorter beginning
    top = np.where(at, 1 + (noise[0] * (clips.full - 1)).astype(np.int64), clips.top)  # 1 ... full - 1
    return _failed(clips, pool, at, top, np.where(at, top, clips.length))


def _rewound(clips: Clips, pool: Pool, at: np.ndarray, noise: np.ndarray) -> Clips:
    top = np.where(at, 1 + (noise[0] * clips.full).astype(np.int64), clips.top)  # 1 ... full
    back = 1 + (noise[1] * top).astype(np.int64)  # 1 ... top
    return _failed(clips, pool, at, top, np.where(at, top + back, clips.length))


def _failed(clips: Clips, pool: Pool, at: np.ndarray, top: np.ndarray, length: np.ndarray) -> Clips:
    progress = path(top, length) / clips.full if pool.by_progress else np.zeros(len(top))
    return Clips(
        clips.episode, clips.full, top, length, clips.task, np.where(at, progress, clips.value), clips.success & ~at,
        clips.credited,
    )  # fmt: skip


def _other(clips: Clips, pool: Pool, at: np.ndarray, noise: np.ndarray) -> Clips:
    if pool.tasks < 2:
        raise UserError("--other-instructions needs two tasks at least, and there is one to learn from")
    task = (clips.task + 1 + (noise[0] * (pool.tasks - 1)).astype(np.int64)) % pool.tasks
    return Clips(
        clips.episode, clips.full, clips.top, clips.length, np.where(at, task, clips.task),
        np.where(at, 0.0, clips.value), clips.success & ~at, clips.credited & ~at,
    )  # fmt: skip


_MAKERS: dict[str, Callable[[Clips, Pool, np.ndarray, np.ndarray], Clips]] = {
    "rewind": _rewound,
    "prefixes": _cut,
    "other_instructions": _other,
}


def progress_labels(clips: Clips, state: np.ndarray) -> np.ndarray:
    """t/T of the state (m, k) of each clip, in [0, 1], float32; falling while a clip runs back.

    0 for failures (their progress is not known, and no credit is the safe guess) and under another task's condition.
    """
    label = path(clips.top[:, None], state) / clips.full[:, None]
    return np.where(clips.credited[:, None], label, 0.0).astype(np.float32)


def success_labels(clips: Clips, state: np.ndarray) -> np.ndarray:
    """1 for every state (m, k) of a clip that succeeds, else 0, float32: its mean given a state is P(success | s)."""
    return np.broadcast_to(clips.success[:, None], state.shape).astype(np.float32)
