"""One schema for recorded episodes of every format: what a reader yields, and what a set says about itself.

Shape letters, beside those of `apportion.types`: O observations of an episode (T or T + 1), h and w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from apportion.types import UserError

Frames = Literal["all", "ends", "none"]  # which images to decode: every one; first, middle and last; none
Orientation = Literal["upright", "opengl", "rotated", "unknown"]
# opengl: the simulator's raw buffer, upside down; rotated: that buffer turned by 180 degrees, upright but MIRRORED
ROTATED: dict[Orientation, Orientation] = {"opengl": "rotated", "rotated": "opengl", "unknown": "unknown"}
FLIPPED: dict[Orientation, Orientation] = {"opengl": "upright", "upright": "opengl", "unknown": "unknown"}
# what frames are after a turn by 180 degrees, and after one upside down; what is not there has no name


class BadDemo(UserError):
    """An episode, or a file, that cannot be used: the message names file, episode and, where there is one, step."""


@dataclass(frozen=True)
class Camera:
    """Pixels of one camera, and how they lie."""

    height: int
    width: int
    orientation: Orientation = "unknown"


@dataclass(frozen=True)
class SetInfo:
    """What a whole set is."""

    name: str  # libero_spatial, or whatever the files call it
    format: Literal["libero", "rlds", "lerobot", "minari", "store"]
    path: str
    cameras: dict[str, Camera]
    proprio: dict[str, tuple[str, ...] | int]  # low-dimensional observations: name -> names of entries, or how many
    action: int  # entries of an action
    fps: float | None = None  # recorded frames per second; None: the format does not say
    obs_timing: str = "before"  # how the FILES align observation t with action t; a Demo is always "before"


@dataclass(frozen=True)
class Source:
    """Where an episode came from: enough to find it again."""

    path: str  # of its file, relative to the set's path
    index: int  # of the episode in that file
    name: str = ""  # what the file calls it: demo_10


@dataclass(frozen=True)
class Demo:
    """One recorded episode of T steps. Observation t is what was seen BEFORE action t.

    Formats differ in whether the observation after the last action exists: observations have O = T + 1 rows, or O = T
    and the last action leads nowhere that was seen. Usable transitions: O - 1.
    """

    images: dict[str, np.ndarray]  # camera -> (O, h, w, 3) uint8; with frames="ends" 3 rows, with "none" no entries
    proprio: dict[str, np.ndarray]  # name -> (O, d) float32
    action: np.ndarray  # (T, a) float32
    reward: np.ndarray  # (T,) float32, as recorded
    terminated: bool
    truncated: bool
    success: bool | None  # at the end; None: the format does not say
    language: str  # instruction; "" if there is none
    task: str
    source: Source
    extra: dict[str, np.ndarray] = field(default_factory=dict)  # other columns: name -> (T, ...), numbers or booleans

    @property
    def length(self) -> int:
        """T."""
        return len(self.action)

    @property
    def where(self) -> str:
        """Its file and episode, as every message about it begins."""
        return f"{self.source.path}, episode {self.source.name or self.source.index}"

    @property
    def observations(self) -> int:
        """O, from whatever observations there are; T if there are none but frames that were not read."""
        columns = [*self.proprio.values()]
        return len(columns[0]) if columns else self.length


@runtime_checkable
class DemoSet(Protocol):
    """A set of recorded episodes on disk, read one at a time: `for i in range(len(demos)): demos.read(i)`."""

    @property
    def info(self) -> SetInfo: ...

    def __len__(self) -> int: ...

    def read(self, index: int, frames: Frames = "all") -> Demo:
        """Episode `index`. Raises BadDemo where it cannot be read, is cut short, or holds what no episode can."""
        ...

    def close(self) -> None: ...


def checked(demo: Demo, frames: Frames = "all") -> Demo:
    """`demo` itself; every reader ends here. Raises BadDemo for columns of unequal lengths, no steps, NaN, infinity."""
    where, steps, seen = demo.where, demo.length, demo.observations
    if steps == 0:
        raise BadDemo(f"{where}: it has no steps")
    if seen not in (steps, steps + 1):
        raise BadDemo(f"{where}: {seen} observations for {steps} actions")
    lengths = {"reward": (demo.reward, (steps,))}
    lengths |= {f"extra {name}": (x, (steps,)) for name, x in demo.extra.items()}
    lengths |= {f"proprio {name}": (x, (seen,)) for name, x in demo.proprio.items()}
    if frames == "all":
        allowed = (seen,) if demo.proprio else (steps, steps + 1)
        lengths |= {f"camera {name}": (x, allowed) for name, x in demo.images.items()}
    for name, (values, allowed) in lengths.items():
        if len(values) not in allowed:
            raise BadDemo(f"{where}: {name} has {len(values)} rows for {steps} actions")
    for name, values in {"action": demo.action, "reward": demo.reward, **demo.proprio}.items():
        finite = np.isfinite(values.reshape(len(values), -1)).all(1)
        if not finite.all():
            raise BadDemo(f"{where}, step {int(np.argmin(finite))}: {name} is not finite")
    return demo


def episodes(
    demos: DemoSet, frames: Frames = "all", skip_bad: Callable[[BadDemo], None] | None = None
) -> Iterator[Demo]:
    """All episodes in order. `skip_bad` is told of each that cannot be used; where it is None the first is raised."""
    for index in range(len(demos)):
        try:
            demo = demos.read(index, frames)
        except BadDemo as error:
            if skip_bad is None:
                raise
            skip_bad(error)
        else:
            yield demo


def readable(
    numbers: Iterable[int], read: Callable[[int], Demo], bad: dict[int, BadDemo] | None
) -> Iterator[tuple[int, Demo]]:
    """(number, episode) of each of `numbers` that `read` can read; `bad` receives the others, and the reason.

    Where `bad` is None the first BadDemo is raised. Raises UserError where no episode can be read at all.
    """
    good, lost = False, list[BadDemo]()
    for number in numbers:
        try:
            demo = read(number)
        except BadDemo as error:
            if bad is None:
                raise
            bad[number] = error
            lost.append(error)
        else:
            good = True
            yield number, demo
    if lost and not good:
        raise UserError(f"all {len(lost)} episodes are bad, the first: {lost[0]}")


def skipped(bad: dict[int, BadDemo], which: str = "") -> str:
    """One line about episodes that `readable` passed over: how many, and what was wrong with the first."""
    return f"skipped {len(bad)} bad episode{'s' if len(bad) > 1 else ''}{which}, the first: {next(iter(bad.values()))}"


def success_of(reward: np.ndarray) -> bool | None:
    """What (T,) rewards of 0 and 1 say of the end, where nothing else says it; None for graded rewards."""
    if len(reward) == 0 or not np.isin(reward, (0, 1)).all():
        return None
    return bool(reward[-1] > 0)


def end_rows(observations: int) -> list[int]:
    """The rows of `frames="ends"`: first, middle, last."""
    return [0, observations // 2, observations - 1]
