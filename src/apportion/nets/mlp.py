"""Multilayer perceptrons, alone or several of one shape side by side."""

from __future__ import annotations

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class StackedMLP(nn.Module):
    """e independent ReLU networks of one shape.

    Weights are Xavier-uniform (Glorot & Bengio 2010), biases 0, as in the RRD release. `sizes` lists the units from
    the input to the output layer. Each member's layers are parameters of their own, not slices of one stack: a batched
    product of two small layers is slower on a CPU than two plain ones.
    """

    def __init__(self, members: int, sizes: tuple[int, ...], generator: torch.Generator):
        super().__init__()
        self.members, self.layers = members, len(sizes) - 1
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()  # member by member, layer by layer
        for _ in range(members):
            for fan_in, fan_out in pairwise(sizes):
                bound = (6.0 / (fan_in + fan_out)) ** 0.5
                uniform = torch.rand(fan_out, fan_in, generator=generator)
                self.weights.append(nn.Parameter((2 * uniform - 1) * bound))
                self.biases.append(nn.Parameter(torch.zeros(fan_out)))

    def forward(self, x: Float[Tensor, "n i"], frozen: bool = False) -> Float[Tensor, "e n out"]:
        """All members on one input. `frozen`: gradients reach x, not the weights (an actor looking at its critic)."""
        return torch.stack([self.member(i, x, frozen) for i in range(self.members)])

    def member(self, i: int, x: Float[Tensor, "n i"], frozen: bool = False) -> Float[Tensor, "n out"]:
        """The i-th member alone."""
        for layer in range(self.layers):
            weight, bias = self.weights[i * self.layers + layer], self.biases[i * self.layers + layer]
            x = F.linear(x, weight.detach(), bias.detach()) if frozen else F.linear(x, weight, bias)
            if layer + 1 < self.layers:
                x = x.relu_()
        return x.float()  # under autocast too, values and losses are float32


class MLP(StackedMLP):
    """One ReLU network: (n, in) -> (n, out)."""

    def __init__(self, sizes: tuple[int, ...], generator: torch.Generator):
        super().__init__(1, sizes, generator)

    def forward(self, x: Float[Tensor, "n i"], frozen: bool = False) -> Float[Tensor, "n out"]:
        return self.member(0, x, frozen)
