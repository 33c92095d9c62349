"""Multilayer perceptrons, several of one shape held in one stack of weights."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class StackedMLP(nn.Module):
    """e independent ReLU networks of one shape, evaluated by one batched matrix product a layer.

    Weights are Xavier-uniform (Glorot & Bengio 2010), biases 0, as in the RRD release. `sizes` lists the units from
    the input to the output layer.
    """

    def __init__(self, members: int, sizes: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = (6.0 / (fan_in + fan_out)) ** 0.5
            uniform = torch.rand(members, fan_in, fan_out, generator=generator)
            self.weights.append(nn.Parameter((2 * uniform - 1) * bound))
            self.biases.append(nn.Parameter(torch.zeros(members, 1, fan_out)))

    def forward(self, x: Float[Tensor, "n i"], frozen: bool = False) -> Float[Tensor, "e n out"]:
        """All members on one input. `frozen`: gradients reach x, not the weights (an actor looking at its critic)."""
        hidden = x.expand(self.weights[0].shape[0], *x.shape)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if frozen:
                weight, bias = weight.detach(), bias.detach()
            hidden = torch.baddbmm(bias, hidden, weight)
            if i + 1 < len(self.weights):
                hidden = F.relu(hidden)
        return hidden


class MLP(StackedMLP):
    """One ReLU network: (n, in) -> (n, out)."""

    def __init__(self, sizes: tuple[int, ...], generator: torch.Generator):
        super().__init__(1, sizes, generator)

    def forward(self, x: Float[Tensor, "n i"], frozen: bool = False) -> Float[Tensor, "n out"]:
        return super().forward(x, frozen)[0]
