"""What inspect and doctor keep of an episode once its arrays are gone: a few hundred bytes each."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from apportion.data.filters import ARM, still
from apportion.data.schema import Demo


@dataclass(frozen=True)
class Summary:
    """One episode, without its arrays."""

    where: str  # file and episode
    suite: str  # folder of its file, "" if it lies at the top
    task: str
    language: str
    success: bool | None
    length: int  # T
    value: float  # the return that would be decomposed; NaN where nobody asked
    reward_sum: float
    reward_last: float
    rewarded: int  # steps whose reward is above 0
    first_reward: int  # the first of them, -1: none
    falls: int  # how often the reward goes from above 0 back to 0
    flag: bool  # rewards are 0 and 1 only
    still: int  # no-op steps by openvla's rule; -1: the rule does not apply to these actions
    still_end: int  # of them, in one run at the end
    action_low: np.ndarray  # (a,)
    action_high: np.ndarray  # (a,)
    gripper: tuple[float, ...]  # up to 4 different values of the last entry
    start: dict[str, np.ndarray]  # first observation: name -> (d,) float32
    digest: bytes  # of the actions: equal for copies of an episode
    response: np.ndarray  # (3, 5, 5) moments, see `response_moments`

    @property
    def after_success(self) -> int:
        """Steps after the one that reached success first; 0 if none did."""
        return self.length - 1 - self.first_reward if self.first_reward >= 0 else 0


def summarise(demo: Demo, value: float = float("nan")) -> Summary:
    """The summary of `demo`; `value` is its return of whatever kind the caller chose."""
    paid = demo.reward > 0
    idle = still(demo.action) if demo.action.shape[1] == ARM + 1 else None
    parents = PurePath(demo.source.path).parts[:-1]
    return Summary(
        where=demo.where,
        suite=parents[0] if parents and not PurePath(demo.source.path).is_absolute() else "",
        task=demo.task,
        language=demo.language,
        success=demo.success,
        length=demo.length,
        value=value,
        reward_sum=float(demo.reward.sum(dtype=np.float64)),
        reward_last=float(demo.reward[-1]),
        rewarded=int(paid.sum()),
        first_reward=int(np.argmax(paid)) if paid.any() else -1,
        falls=int((paid[:-1] & ~paid[1:]).sum()),
        flag=bool(np.isin(demo.reward, (0.0, 1.0)).all()),
        still=-1 if idle is None else int(idle.sum()),
        still_end=0 if idle is None else int(np.argmin(idle[::-1])) if not idle.all() else demo.length,
        action_low=demo.action.min(0),
        action_high=demo.action.max(0),
        gripper=tuple(float(x) for x in np.unique(demo.action[:, -1])[:4]),
        start={name: np.array(x[0], np.float32) for name, x in demo.proprio.items()},
        digest=hashlib.sha1(np.ascontiguousarray(demo.action).tobytes(), usedforsecurity=False).digest(),
        response=response_moments(demo),
    )


def summaries(demos: Iterable[Demo], value: Callable[[Demo], float] | None = None) -> list[Summary]:
    """One summary per episode; one episode in memory at a time."""
    return [summarise(demo, float("nan") if value is None else value(demo)) for demo in demos]


def response_moments(demo: Demo) -> np.ndarray:
    """Sums of z z' over steps, z = (1, a[t-1], a[t], a[t+1], s[t+1] - s[t]), for x, y, z of the arm: (3, 5, 5).

    Zeros where there is no `state` to move, or where the actions are not 6 deltas and a gripper.
    """
    moments = np.zeros((3, 5, 5))
    state = demo.proprio.get("state")
    if state is None or state.shape[1] < 3 or demo.action.shape[1] != ARM + 1 or len(state) < 5:
        return moments
    moved = np.diff(state[:, :3].astype(np.float64), axis=0)
    acts = demo.action[: len(moved), :3].astype(np.float64)
    for axis in range(3):
        past, now, coming = acts[:-2, axis], acts[1:-1, axis], acts[2:, axis]
        z = np.stack([np.ones_like(now), past, now, coming, moved[1:-1, axis]])
        moments[axis] = z @ z.T
    return moments
