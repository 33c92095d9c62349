"""An environment of grey frames, episodes of them, an oracle for what is seen, and a process that can be killed."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from apportion.run.checkpoint import extras, newest, save, steps
from apportion.store.episodes import EpisodeStore
from apportion.store.log import ReplayLog
from apportion.store.ring import ObsRing
from apportion.types import Episode, Spec

SIDE = 3
SPEC = Spec((SIDE, SIDE), "uint8", "discrete", 4, frames=3)


class Dots(gym.Env):
    """Frames of 12 x 12: noise from the seeded stream, in the corner the step t. 4 to 12 steps; reward by action."""

    observation_space = spaces.Box(0, 255, (12, 12), np.uint8)
    action_space = spaces.Discrete(3)

    def __init__(self, render_mode: str | None = None):
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.t, self.end = 0, int(self.np_random.integers(4, 13))
        return self._frame(), {}

    def step(self, action: Any):
        self.t += 1
        reward = float(self.np_random.integers(3) == action)
        return self._frame(), reward, self.t >= self.end and self.end % 2 == 0, self.t >= self.end, {}

    def render(self):
        return np.full((16, 16, 3), self.t, np.uint8)

    def _frame(self) -> np.ndarray:
        frame = self.np_random.integers(256, size=(12, 12)).astype(np.uint8)
        frame[0, 0] = self.t
        return frame


def made(number: int, length: int, terminated: bool = False) -> Episode:
    """Frame t of episode `number` is like no other: it shows the number and t; action t is t mod 4, reward t + 1."""
    obs = np.zeros((length + 1, SIDE, SIDE), np.uint8)
    obs[:, 0] = number // 256, number % 256, 7
    obs[:, 1, 0] = np.arange(length + 1)
    return Episode(obs, np.arange(length) % 4, 1 + np.arange(length, dtype=np.float32), terminated, number % 3, number)


def played(obs: Sequence[np.ndarray] | np.ndarray, frames: int) -> list[np.ndarray]:
    """What somebody who plays the episode sees at each step, kept in a deque."""
    last = deque([obs[0]] * frames, maxlen=frames)
    out = [np.stack(list(last))]
    for frame in obs[1:]:
        last.append(frame)
        out.append(np.stack(list(last)))
    return out


def length_of(number: int) -> int:
    return 1 + number * 7 % 12


def work(root: Path, told: int) -> None:
    """Takes up the newest checkpoint, checks all that it promised, and goes on for ever; a line to `told` for each."""
    ring = ObsRing(root / "replay", 100, SPEC, print)
    store, log, step = EpisodeStore(100, SPEC, ring=ring), ReplayLog(root / "replay"), 0
    if steps(root / "checkpoints"):
        _, _, extra = newest(root / "checkpoints", _fail, lambda extra: log.verify(extra["replay"]))
        log.read(extra["replay"], store)
        step = extra["step"]
        assert store.next_id == step
        for number in range(store.first_id, store.next_id):
            episode, expected = store.episode(number), made(number, length_of(number))
            assert np.array_equal(episode.obs, expected.obs) and np.array_equal(episode.reward, expected.reward)
    os.write(told, b"ready\n")
    while True:
        for _ in range(1 + step % 5):  # up to half of the rows between two checkpoints
            store.add(made(step, length_of(step)))
            step += 1
        extra = {"step": step, "replay": log.write(store)}
        save(root / "checkpoints", step, {"agent": {"step": step}}, extra, keep=2)
        store.promise()
        needed = {e["file"] for kept in extras(root / "checkpoints") for e in kept["replay"]}
        log.prune(needed | set(store.files))
        os.write(told, b"%d\n" % step)


def _fail(line: str) -> None:
    raise AssertionError(line)
