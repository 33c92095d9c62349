"""Small made-up episodes of an arm, and stores of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from apportion.data.schema import Camera, Demo, SetInfo, Source
from apportion.data.store import DemoStore, StoreWriter

SIZE = 16


def demo(
    index: int,
    length: int = 12,
    success: bool | None = True,
    task: str = "lift the cup",
    after: bool = True,
    frames: bool = True,
) -> Demo:
    """An arm that moves as it is told; `after`: with the observation after the last action. No step is a no-op."""
    rng = np.random.default_rng(index)
    rows = length + after
    action = rng.uniform(0.1, 0.9, (length, 7)).astype(np.float32)
    action[:, 6] = np.where(np.arange(length) < length // 2, -1, 1)
    state = np.zeros((length + 1, 8), np.float32)
    state[1:, :3] = 0.05 * np.cumsum(action[:, :3], axis=0)
    state[:, 3:] = rng.normal(size=(length + 1, 5))
    reward = np.zeros(length, np.float32)
    reward[-1] = float(bool(success))
    images = {name: rng.integers(0, 256, (rows, SIZE, SIZE, 3), np.uint8) for name in ("image", "wrist_image")}
    return Demo(
        images=images if frames else {},
        proprio={"state": state[:rows], "joint_state": rng.normal(size=(rows, 7)).astype(np.float32)},
        action=action,
        reward=reward,
        terminated=bool(success),
        truncated=not success,
        success=success,
        language=task,
        task=task,
        source=Source("made-up", index, f"demo_{index}"),
        extra={"phase": np.arange(length, dtype=np.int16)},
    )


def info(first: Demo, name: str = "made_up", orientation: str = "opengl", fps: float | None = 20.0) -> SetInfo:
    """What a set of episodes like `first` is."""
    cameras = {k: Camera(x.shape[1], x.shape[2], orientation) for k, x in first.images.items()}  # type: ignore[arg-type]
    widths = {k: x.shape[1] for k, x in first.proprio.items()}
    return SetInfo(name, "store", name, cameras, widths, first.action.shape[1], fps)


def store(path: Path, demos: Sequence[Demo], orientation: str = "opengl", fps: float | None = 20.0) -> DemoStore:
    """`demos` written to `path` and opened."""
    with StoreWriter(path, info(demos[0], path.name, orientation, fps)) as out:
        for one in demos:
            out.add(one)
    return DemoStore(path)


def with_rewards(one: Demo, reward: Sequence[float], success: bool | None = True) -> Demo:
    """`one` with other rewards."""
    return replace(one, reward=np.array(reward, np.float32), success=success)


def same(one: Demo, other: Demo, rows: int | None = None) -> None:
    """Asserts that all but the source is equal; of the observations, the first `rows`."""
    for mine, theirs in ((one.images, other.images), (one.proprio, other.proprio), (one.extra, other.extra)):
        assert mine.keys() == theirs.keys()
        for name in mine:
            np.testing.assert_array_equal(mine[name][:rows], theirs[name][:rows], err_msg=name)
    np.testing.assert_array_equal(one.action, other.action)
    np.testing.assert_array_equal(one.reward, other.reward)
    for name in ("terminated", "truncated", "success", "language", "task"):
        assert getattr(one, name) == getattr(other, name), name
