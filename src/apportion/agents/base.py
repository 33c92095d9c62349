"""What the loop may ask of an agent, and the few lines that all four share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from apportion.nets.normalizer import RunningNorm
from apportion.nets.optim import Optimizer
from apportion.rng import Streams
from apportion.types import Batch, Metrics, Spec

Noise = dict[str, Tensor]


@dataclass(frozen=True)
class Due:
    """Which parts of an update that do not happen every time happen now."""

    policy: bool
    target: bool


@runtime_checkable
class Agent(Protocol):
    """An off-policy agent. Every random number it uses is handed to it."""

    def act_noise(self, streams: Streams, n: int) -> Noise:
        """Numbers for exploring in n environments (stream "act")."""
        ...

    def act(self, obs: Tensor, noise: Noise | None, step: int) -> Tensor:
        """Actions (n, a) in [-1, 1], or (n,) integers; deterministic without noise. `step`: env steps so far."""
        ...

    def update_noise(self, streams: Streams, n: int) -> Noise:
        """Numbers for one update on n transitions (stream "update")."""
        ...

    def due(self) -> Due:
        """Count one more update and say what it will contain."""
        ...

    def update(self, batch: Batch, noise: Noise, due: Due) -> Metrics:
        """One gradient step on `batch`, whose reward a RewardSource has filled in. Counts nothing: see `due`."""
        ...

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class Vector(nn.Module):
    """Observations of any shape as normalised float vectors. (Images: `nets.conv.Images`.)"""

    def __init__(self, spec: Spec, norm: RunningNorm | None):
        super().__init__()
        self.norm = norm
        self.size = int(np.prod(spec.seen_shape))

    def forward(self, obs: Tensor) -> Float[Tensor, "n o"]:
        x = obs if self.norm is None else self.norm(obs)
        return x.reshape(-1, self.size).to(torch.float32)


def regression(prediction: Tensor, target: Tensor, kind: str) -> Tensor:
    """Mean error of a critic: squared, or Huber's with threshold 1."""
    return F.mse_loss(prediction, target) if kind == "mse" else F.smooth_l1_loss(prediction, target)


def module_state(module: nn.Module, optimizers: Mapping[str, Optimizer], **counters: int) -> dict[str, Any]:
    """Networks, normaliser, optimisers and counters as one tree."""
    return {
        "net": dict(module.state_dict()),
        "optim": {name: o.state() for name, o in optimizers.items()},
        "count": dict(counters),
    }


def load_module_state(module: nn.Module, optimizers: Mapping[str, Optimizer], state: dict[str, Any]) -> dict[str, int]:
    """The inverse of `module_state`; returns the counters. Raises RuntimeError where names or shapes differ."""
    module.load_state_dict(state["net"])
    for name, optimizer in optimizers.items():
        optimizer.load_state(state["optim"][name])
    return state["count"]
