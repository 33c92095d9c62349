"""Running mean and deviation of everything seen, exact in float64."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class RunningNorm(nn.Module):
    """Normalises by the mean and deviation of all data given to `observe` (Chan et al. 1983, parallel update).

    The statistics are buffers, so they travel with the model. They change only through `observe`: evaluation never
    moves them. Output is clipped to [-clip, clip]; before any data the input passes unchanged.
    """

    mean: Tensor
    m2: Tensor
    count: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, shape: tuple[int, ...], clip: float = 5.0, floor: float = 1e-2):
        super().__init__()
        self.clip, self.floor = clip, floor
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("m2", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(shape))  # float32 copies for the forward pass
        self.register_buffer("scale", torch.ones(shape))

    @torch.no_grad()
    def observe(self, x: Float[Tensor, "n ..."]) -> None:
        """Merge n rows into the statistics."""
        rows = x.to(self.mean.device, torch.float64)
        n, mean = rows.shape[0], rows.mean(0)
        total = self.count + n
        delta = mean - self.mean
        self.m2 += (rows - mean).square().sum(0) + delta.square() * (self.count * n / total)
        self.mean += delta * (n / total)
        self.count.copy_(total)
        self.shift.copy_(self.mean)
        self.scale.copy_((self.m2 / self.count).sqrt().clamp(min=self.floor))

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        return ((x - self.shift) / self.scale).clamp(-self.clip, self.clip)
