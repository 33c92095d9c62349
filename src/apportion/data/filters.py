"""Pure functions from one episode to another: what `apportion data convert` does on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from apportion.data.schema import FLIPPED, ROTATED, BadDemo, Camera, Demo
from apportion.types import UserError

ARM = 6  # entries of an action that move the arm: 3 for position, 3 for rotation; one more is the gripper
NOOP = 1e-4  # openvla's threshold on their norm


def still(action: np.ndarray) -> np.ndarray:
    """Which steps are no-ops by openvla's rule, (T,) bool, for actions (T, 7): ||a[:6]|| < 1e-4, gripper unchanged.

    Unchanged since the last step that is kept. Before the first that is kept the gripper does not count: it has not
    been told anything yet (openvla's `is_noop` with no previous action).
    """
    quiet = np.linalg.norm(action[:, :ARM].astype(np.float64), axis=1) < NOOP
    same = np.ones(len(action), bool)
    same[1:] = action[1:, ARM] == action[:-1, ARM]
    if quiet.all():
        return quiet
    first = int(np.argmin(quiet))
    return quiet & (same | (np.arange(len(action)) < first))


def drop_noops(demo: Demo, sums: Sequence[str] = ()) -> Demo:
    """`demo` without its no-op steps. What a dropped step paid goes to the last kept step before it.

    So do its numbers in the extra columns `sums`; of the other extra columns the values at the kept steps stay. Raises
    BadDemo where nothing would be left, UserError for actions that the rule is not made for.
    """
    if demo.action.shape[1] != ARM + 1:
        width = demo.action.shape[1]
        raise UserError(
            f"--drop-noops is for actions of 6 arm deltas and a gripper; those of {demo.where} have {width} entries"
        )
    keep = ~still(demo.action)
    if not keep.any():
        raise BadDemo(f"{demo.where}: all {demo.length} steps are no-ops; leave out --drop-noops, or --skip-bad it")
    kept = np.flatnonzero(keep)
    group = np.maximum(np.cumsum(keep) - 1, 0)
    return _take(demo, kept, group, demo.action[kept], sums)


def downsample(demo: Demo, factor: int, sums: Sequence[str] = ()) -> Demo:
    """Every `factor`-th observation; the actions between two of them become one: deltas added up, last gripper.

    The extra columns `sums` are added up like rewards; of the others the value at each group's first step stays.
    An added-up delta may leave [-1, 1]: it says where the arm went, not what one control step can do. The last
    group may be shorter. Raises UserError for actions that are not 6 arm deltas and a gripper.
    """
    if demo.action.shape[1] != ARM + 1:
        width = demo.action.shape[1]
        raise UserError(f"--hz adds up 6 arm deltas and keeps a gripper; actions of {demo.where} have {width} entries")
    starts = np.arange(0, demo.length, factor)
    ends = np.minimum(starts + factor, demo.length) - 1
    action = np.add.reduceat(demo.action, starts, axis=0)
    action[:, ARM] = demo.action[ends, ARM]
    return _take(demo, starts, np.arange(demo.length) // factor, action, sums)


def _take(demo: Demo, steps: np.ndarray, group: np.ndarray, action: np.ndarray, sums: Sequence[str]) -> Demo:
    """The observations before `steps` (and the one after the last action, if there is one); rewards by `group` (T,)."""

    def seen(values: np.ndarray) -> np.ndarray:
        return values[np.append(steps, demo.length) if len(values) > demo.length else steps]

    return replace(
        demo,
        images={name: seen(x) for name, x in demo.images.items()},
        proprio={name: seen(x) for name, x in demo.proprio.items()},
        action=np.ascontiguousarray(action),
        reward=_merged(demo, group, len(steps)),
        extra={name: _added(x, group, len(steps)) if name in sums else x[steps] for name, x in demo.extra.items()},
    )


def _added(values: np.ndarray, group: np.ndarray, count: int) -> np.ndarray:
    """Sums (count, ...) of values (T, ...): whole numbers and booleans as int64, else of float32 at least."""
    exact = values.dtype.kind in "biu"
    out = np.zeros((count, *values.shape[1:]), np.int64 if exact else np.float64)
    np.add.at(out, group, values)
    return out if exact else out.astype(np.result_type(values.dtype, np.float32))


def changed_sums(before: Demo, after: Demo) -> set[str]:
    """The extra columns of one number per step that add up to something else in `after`: their return would change."""

    def total(values: np.ndarray) -> float:
        return float(np.sum(values, dtype=np.float64))

    changed = set()
    for name, values in before.extra.items():
        slack = 1e-6 * total(np.abs(values.astype(np.float64)))  # what rounding to float32 can do
        if values.ndim == 1 and not np.isclose(total(values), total(after.extra[name]), 0, slack, equal_nan=True):
            changed.add(name)
    return changed


def _merged(demo: Demo, group: np.ndarray, count: int) -> np.ndarray:
    """Rewards (count,): sums, so that the return stays; a flag "in success now" (0 or 1) is read at the group's end.

    A simulator's flag is 1 on every step in success: added up it would pay for staying there.
    """
    if demo.success is not None and np.isin(demo.reward, (0.0, 1.0)).all():
        last = np.full(count, -1)
        np.maximum.at(last, group, np.arange(demo.length))
        return demo.reward[last]
    return np.bincount(group, demo.reward, count).astype(np.float32)


def stop_at_success(demo: Demo) -> Demo:
    """`demo` up to the first step with a reward above 0, as the simulator would have ended it: a success.

    Raises UserError for graded rewards: there a reward above 0 is no success.
    """
    paid = demo.reward > 0
    if not paid.any():
        return demo
    if len(np.unique(demo.reward)) > 2:
        raise UserError(f"--stop-at-success: rewards of {demo.where} are graded: none of them says when it succeeded")
    steps = int(np.argmax(paid)) + 1
    rows = steps + 1  # the observation after it, where there was one
    return replace(
        demo,
        images={name: x[:rows] for name, x in demo.images.items()},
        proprio={name: x[:rows] for name, x in demo.proprio.items()},
        action=demo.action[:steps],
        reward=demo.reward[:steps],
        extra={name: x[:steps] for name, x in demo.extra.items()},
        success=True,
        terminated=True,
        truncated=False,
    )


def turned(camera: Camera, name: str, rotate: bool, flip: bool) -> Camera:
    """`camera` after a rotation by 180 degrees and then a flip upside down. UserError where that has no name."""
    for asked, flag, table in ((rotate, "--rotate-180", ROTATED), (flip, "--flip", FLIPPED)):
        if asked and camera.orientation not in table:
            raise UserError(f"{flag}: camera {name} is {camera.orientation}; it turns {' or '.join(table)} frames only")
        camera = replace(camera, orientation=table[camera.orientation]) if asked else camera
    return camera


def turn(demo: Demo, rotate: bool, flip: bool) -> Demo:
    """The pixels of `turned`."""
    rows = slice(None, None, -1 if rotate != flip else 1)
    columns = slice(None, None, -1 if rotate else 1)
    return replace(demo, images={name: np.ascontiguousarray(x[:, rows, columns]) for name, x in demo.images.items()})


def resize(demo: Demo, sizes: Mapping[str, tuple[int, int]]) -> Demo:
    """Frames of each camera at `sizes[camera]` = (height, width): bicubic, with antialiasing (Pillow)."""
    from PIL import Image

    def scaled(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        if frames.shape[1:3] == size:
            return frames
        out = np.empty((len(frames), *size, 3), np.uint8)
        for row, frame in zip(out, frames, strict=True):
            row[:] = np.asarray(Image.fromarray(frame).resize((size[1], size[0]), Image.Resampling.BICUBIC))
        return out

    return replace(demo, images={name: scaled(x, sizes[name]) for name, x in demo.images.items()})


def select(demo: Demo, cameras: Sequence[str], proprio: Sequence[str], extra: Sequence[str]) -> Demo:
    """Only these columns."""
    return replace(
        demo,
        images={name: demo.images[name] for name in cameras if name in demo.images},
        proprio={name: demo.proprio[name] for name in proprio},
        extra={name: demo.extra[name] for name in extra},
    )
