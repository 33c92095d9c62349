"""What is seen of an episode that is kept as single observations: the newest k, oldest first.

Before an episode's start its first observation repeats; nothing of another episode is ever seen (Mnih et al. 2015).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor


def seen(obs: np.ndarray, t: np.ndarray, frames: int) -> np.ndarray:
    """(n, *seen_shape): what is seen at steps `t` (n,) of the one episode `obs` (T + 1, *obs_shape).

    That is observations max(t - frames + 1, 0) to t, stacked (n, frames, *obs_shape), or observation t alone, (n,
    *obs_shape), where `frames` is 1. A copy.
    """
    index = t if frames == 1 else np.maximum(t[:, None] + np.arange(1 - frames, 1), 0)
    return obs[index]


def seen_now(obs: Sequence[np.ndarray] | np.ndarray, frames: int) -> np.ndarray:
    """(*seen_shape): what is seen at the end of `obs`, an episode's observations so far."""
    if frames == 1:
        return obs[-1]
    last = len(obs) - 1
    return np.stack([obs[max(last - back, 0)] for back in reversed(range(frames))])


def window(row: np.ndarray, step: np.ndarray, frames: int, size: int) -> np.ndarray:
    """(..., frames + 1) rows, in a ring of `size`, of all that is seen at steps `step` (...) and right after them.

    `row` (...) are those steps' own rows. The first `frames` of the last axis are seen at the step, the last `frames`
    after it: each observation is fetched once for both.
    """
    back = np.maximum(np.arange(1 - frames, 2), -step[..., None])
    rows = row[..., None] + back
    np.subtract(rows, size, out=rows, where=rows >= size)
    np.add(rows, size, out=rows, where=rows < 0)
    return rows


def both(stack: Tensor, axis: int) -> Tensor:
    """(2, ..., frames, *obs): the first and the last `frames` of `stack` (..., frames + 1, *obs) along `axis`.

    The two are views that overlap: for reading only.
    """
    shape, stride = list(stack.shape), list(stack.stride())
    shape[axis] -= 1
    return stack.as_strided([2, *shape], [stride[axis], *stride])
