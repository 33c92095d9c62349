"""A film strip's frames: those of an evaluated episode at which the learned reward is highest and lowest."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from apportion.stats import median_episode
from apportion.types import Spec

HIGHEST, LOWEST = 5, 3  # frames of each kind, at most
APART = 30  # two of them are at least a 30th of the episode apart: else all might show one event
# one colour per plane of a binary image; Okabe and Ito's, without black, which is the ground
PLANES = ((240, 240, 240), (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0),
          (0, 114, 178), (140, 90, 43), (125, 133, 144))  # fmt: skip


def moments(learned: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Steps (m,) of highest and of lowest learned reward (T,), in order of time; and which are the highest, (m,) bool.

    They are taken one by one, the highest before the lowest, each no nearer than T / APART steps to any other; of equal
    rewards the earlier one. An episode of few steps has fewer of them, at most half of it the highest.
    """
    steps = len(learned)
    apart = max(1, math.ceil(steps / APART))
    taken: dict[int, bool] = {}
    for highest, order in ((True, np.argsort(-learned, kind="stable")), (False, np.argsort(learned, kind="stable"))):
        left = min(HIGHEST, math.ceil(steps / 2)) if highest else LOWEST
        for step in map(int, order):
            if left and all(abs(step - other) >= apart for other in taken):
                taken[step], left = highest, left - 1
    chosen = sorted(taken)
    return np.array(chosen, np.int64), np.array([taken[step] for step in chosen], np.bool_)


def shown(frames: np.ndarray, pixel_max: int) -> UInt8[np.ndarray, "m ..."]:
    """Single observations (m, H, W) or (m, H, W, C), uint8 up to `pixel_max`, as grey (m, H, W) or RGB (m, H, W, 3).

    One channel is grey, three of more than two values are RGB. Any others are planes that each show one kind of thing
    (MinAtar): each gets a colour, and the first one lies on top.
    """
    share = frames.astype(np.float32) / pixel_max
    if frames.ndim == 4 and frames.shape[-1] == 1:
        share = share[..., 0]
    elif frames.ndim == 4 and (frames.shape[-1] != 3 or pixel_max == 1):
        over = np.zeros((*frames.shape[:3], 3), np.float32)
        for plane in reversed(range(frames.shape[-1])):
            there = share[..., plane, None]
            over = over * (1 - there) + there * np.array(PLANES[plane % len(PLANES)], np.float32) / 255
        share = over
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def strip(
    observations: Sequence[np.ndarray], true: np.ndarray, learned: np.ndarray, length: np.ndarray, spec: Spec
) -> dict[str, np.ndarray]:
    """Columns of a credit file: the strip of the episode of median true return. Empty where nothing is an image.

    observations: those of each episode, (T + 1, *obs_shape); true, learned: (sum of lengths,), as the file has them;
    length: (episodes,). `frames` (m, H, W) or (m, H, W, 3) uint8, to be shown as they are, each as it was before its
    step; `frame_step` (m,): the steps; `frame_highest` (m,): is it one of the highest rewards, or of the lowest?
    """
    if not spec.is_image:
        return {}
    number, part = median_episode(true, length)
    steps, highest = moments(learned[part])
    frames = shown(observations[number][steps], spec.pixel_max)
    return {"frames": frames, "frame_step": steps, "frame_highest": highest}
