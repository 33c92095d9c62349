"""The data that passes between rooms: environment spec, batches, subsets, one closed episode.

Shape letters used everywhere: n transitions, m subsets (or episodes), k steps per subset, T steps of an
episode, e members of an ensemble, o observation features, a action features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Metrics = dict[str, Tensor]  # name -> scalar, still on the device


class UserError(Exception):
    """A slip of the user's: shown as one line that says what to do, with exit code 2."""


@dataclass(frozen=True)
class Spec:
    """What an agent must know of an environment.

    `act_kind` "box": actions are `act_dim` floats which agents and store hold in [-1, 1]; the collector maps them to
    [`act_low`, `act_high`]. "discrete": one integer in [0, `act_dim`).
    """

    obs_shape: tuple[int, ...]
    obs_dtype: str  # of the stored column: "float32" or "uint8"
    act_kind: Literal["box", "discrete"]
    act_dim: int
    act_low: tuple[float, ...] = ()
    act_high: tuple[float, ...] = ()
    act_start: int = 0  # "discrete": what the environment calls action 0
    frames: int = 1  # so many observations, the newest last, are what agents and reward models see at once
    pixel_max: int = 255  # of uint8 observations: the largest value that occurs

    @property
    def seen_shape(self) -> tuple[int, ...]:
        """What agents and reward models see: (frames, *obs_shape), or obs_shape where that is one observation."""
        return (self.frames, *self.obs_shape) if self.frames > 1 else self.obs_shape

    @property
    def is_image(self) -> bool:
        """A stack of grey images (frames, H, W), an image (H, W, channels), or a grey one (H, W) of 36 pixels a side.

        Smaller tables (H, W) of bytes may hold anything, and are taken for vectors.
        """
        sides = self.seen_shape
        return self.obs_dtype == "uint8" and (len(sides) == 3 or (len(sides) == 2 and min(sides) >= 36))

    @property
    def act_shape(self) -> tuple[int, ...]:
        return (self.act_dim,) if self.act_kind == "box" else ()

    @property
    def act_dtype(self) -> str:
        return "float32" if self.act_kind == "box" else "int64"


class _Tensors:
    def to(self, device: torch.device | str):
        """The same data on `device`."""
        return replace(self, **{f.name: getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)})  # type: ignore[type-var]

    def split(self, parts: int) -> Iterator[Self]:
        """Views of `parts` equally long runs of the first dimension."""
        for columns in zip(*(getattr(self, f.name).chunk(parts) for f in fields(self)), strict=True):  # type: ignore[type-var]
            yield type(self)(*columns)


@dataclass(frozen=True)
class Batch(_Tensors):
    """n transitions drawn from closed episodes."""

    obs: Tensor  # (n, *obs)
    act: Tensor  # (n, act_dim) float32 in [-1, 1], or (n,) int64
    next_obs: Tensor  # (n, *obs)
    reward: Float[Tensor, "n"]  # what the learner was shown: in `ep_rews` 0 but for the last step
    discount: Float[Tensor, "n"]  # gamma * (1 - terminated); a truncation does not end the value
    episode_return: Float[Tensor, "n"]  # undiscounted return of the transition's episode
    length: Int[Tensor, "n"]  # number of steps T of that episode
    episode: Int[Tensor, "n"]  # running number of that episode, from 0, never reused


@dataclass(frozen=True)
class Subsets(_Tensors):
    """k distinct steps of each of m episodes; where an episode is shorter than k, `mask` is False in the rest."""

    obs: Tensor  # (m, k, *obs)
    act: Tensor  # (m, k, act_dim) or (m, k)
    next_obs: Tensor  # (m, k, *obs)
    mask: Bool[Tensor, "m k"]
    episode_return: Float[Tensor, "m"]
    length: Int[Tensor, "m"]


@dataclass(frozen=True)
class Episode:
    """One closed episode of T steps, in NumPy arrays."""

    obs: np.ndarray  # (T + 1, *obs)
    act: np.ndarray  # (T, act_dim) float32 in [-1, 1], or (T,) int64
    reward: np.ndarray  # (T,) float32, as shown to the learner
    terminated: bool  # False: truncated
    env: int  # index of the environment that made it
    seed: int  # of its reset

    @property
    def length(self) -> int:
        return len(self.act)

    @property
    def episode_return(self) -> float:
        return float(np.sum(self.reward, dtype=np.float64))


@runtime_checkable
class RewardSource(Protocol):
    """Where a per-step reward comes from; the one meeting point of agents and reward methods."""

    def __call__(self, batch: Batch) -> Float[Tensor, "n"]: ...
