"""The five estimators as neural networks: each from the encoding of a state to its own range.

Source: Heitzig & Potham, arXiv 2508.00159. Letters: n states, E features, d units of the encoding, H humans, G goals,
R joint actions of the robots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int16
from torch import Tensor, nn
from torch.nn import functional as F

LARGEST = 1e8  # of -Q_r and -V_r: what is beyond has diverged
BOUND = 18.0  # of the exponent of outputs that are exponentials
NAMES = ("v_h_e", "x_h", "u_r", "q_r", "v_r")


Noise = Iterator[Tensor] | None  # for each layer with dropout: 16 random bits for each unit, (n, d) int16


@dataclass(frozen=True)
class Sizes:
    """What networks must know of a world."""

    features: int
    humans: int
    goals: int
    robot_actions: int


@runtime_checkable
class Estimators(Protocol):
    """Networks or tables behind one interface. `encode` comes first; its result is what the others take.

    `noise` is given while training: dropout takes its bits from it, and tables take new states in. Values are in their
    ranges: V_h^e and X_h in [0, 1], Q_r and V_r below 0, U_r at most -1 (of which the estimator gives
    y = (-U_r)^(1/eta), at least 1).
    """

    sizes: Sizes

    def encode(self, features: Float[Tensor, "n E"], noise: Noise = None) -> Tensor: ...
    def v_h_e(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n H G"]: ...
    def x_h(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n H"]: ...
    def u_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n"]: ...
    def q_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n R"]: ...
    def v_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n"]: ...


class Layers(nn.Module):
    """ReLU layers with dropout after each hidden one. Weights Xavier-uniform (Glorot & Bengio 2010), biases 0."""

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, dropout: float, open_end: bool = False):
        super().__init__()
        self.dropout, self.open_end = dropout, open_end  # open_end: the last layer is a hidden one as well
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in pairwise(sizes):
            bound = (6.0 / (fan_in + fan_out)) ** 0.5
            self.weights.append(nn.Parameter((2 * torch.rand(fan_out, fan_in, generator=generator) - 1) * bound))
            self.biases.append(nn.Parameter(torch.zeros(fan_out)))

    def noise(self, n: int, generator: torch.Generator) -> list[Int16[Tensor, "n _"]]:
        """Bits for a training step on n states, layer by layer."""
        hidden = self.biases if self.open_end else self.biases[:-1]
        return [_bits(n, len(bias), bias.device, generator) for bias in hidden] if self.dropout else []

    def forward(self, x: Float[Tensor, "n i"], noise: Noise = None) -> Float[Tensor, "n o"]:
        last = len(self.weights) - 1
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = F.linear(x, weight, bias)
            if layer < last or self.open_end:
                x = x.relu_()
                if self.dropout and noise is not None:
                    kept = next(noise) >= round(self.dropout * 2**16) - 2**15
                    x = x * (kept * (1 / (1 - self.dropout)))
        return x


def _bits(n: int, width: int, device: torch.device, generator: torch.Generator) -> Int16[Tensor, "{n} {width}"]:
    numbers = torch.empty(-(-n * width // 4), dtype=torch.int64, device=device)  # four in each
    return numbers.random_(-(2**63), None, generator=generator).view(torch.int16)[: n * width].view(n, width)


class Networks(nn.Module):
    """Five heads, on one shared encoder or (`shared` False) each on the features with layers of its own.

    A goal is encoded by its features `goals` (G, k); V_h^e of a human and a goal is the sigmoid of the inner product
    of the two encodings, so that all goals of a state cost one pass.
    """

    goals: Tensor

    def __init__(
        self,
        sizes: Sizes,
        goals: Float[Tensor, "G k"],
        *,
        hidden: tuple[int, ...],
        shared: bool,
        goal_features: int,
        dropout: float,
        q_output: Literal["softplus", "z", "log"],
        z_power: float,
        generator: torch.Generator,
    ):
        super().__init__()
        self.sizes, self.shared, self.q_output, self.z_power = sizes, shared, q_output, z_power
        self.register_buffer("goals", goals)
        # a shared encoder has all hidden layers but the last, which every head has as its own
        body = (sizes.features, *hidden[:-1]) if shared else (sizes.features,)
        head = (body[-1], hidden[-1]) if shared else (sizes.features, *hidden)
        self.encoder = Layers(body, generator, dropout, open_end=True) if shared and len(body) > 1 else None
        self.wide = goal_features
        self.goal_code = Layers((goals.shape[1], goal_features + 1), generator, 0.0)
        outputs = {
            "v_h_e": sizes.humans * goal_features,
            "x_h": sizes.humans,
            "u_r": 1,
            "q_r": sizes.robot_actions + 1,
            "v_r": 1,
        }
        self.heads = nn.ModuleDict({name: Layers((*head, out), generator, dropout) for name, out in outputs.items()})

    def encode(self, features: Float[Tensor, "n E"], noise: Noise = None) -> Float[Tensor, "n d"]:
        return features if self.encoder is None else self.encoder(features, noise)

    def v_h_e(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n H G"]:
        """(6), in [0, 1]."""
        states = self.heads["v_h_e"](code, noise).view(-1, self.sizes.humans, self.wide)
        goals = self.goal_code(self.goals)
        return torch.sigmoid(states @ goals[:, :-1].T / self.wide**0.5 + goals[:, -1])

    def x_h(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n H"]:
        """(7), in [0, 1]."""
        return torch.sigmoid(self.heads["x_h"](code, noise))

    def u_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n"]:
        """y = (-U_r)^(1/eta) of (8), at least 1: the network's output is log(y - 1)."""
        return 1 + torch.exp(_bounded(self.heads["u_r"](code, noise)[:, 0]))

    def q_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n R"]:
        """(4), below 0: a common part and what each action adds to it (Wang et al. 2016), through the output form."""
        raw = self.heads["q_r"](code, noise)
        own = raw[:, :-1]
        y = raw[:, -1:] + own - own.mean(1, keepdim=True)
        if self.q_output == "softplus":
            return -F.softplus(y).clamp(1e-8, LARGEST)
        if self.q_output == "log":
            return -torch.exp(_bounded(y))
        return from_z(torch.sigmoid(y), self.z_power)

    def v_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n"]:
        """(9), below 0."""
        return -F.softplus(self.heads["v_r"](code, noise)[:, 0]).clamp(1e-8, LARGEST)

    def parameters_of(self, name: str) -> list[nn.Parameter]:
        """What the loss of one estimator trains; the shared encoder (and the goals' code) belong to V_h^e."""
        own = list(self.heads[name].parameters())
        if name == "v_h_e":
            own += [*self.goal_code.parameters(), *(self.encoder.parameters() if self.encoder is not None else ())]
        return own

    def noise(self, n: int, names: Iterable[str], generator: torch.Generator) -> list[Int16[Tensor, "n _"]]:
        """For one training step on n states: what `encode` takes, then each of `names` in turn."""
        layers = [*([] if self.encoder is None else [self.encoder]), *(self.heads[name] for name in names)]
        return [bits for each in layers if isinstance(each, Layers) for bits in each.noise(n, generator)]

    def set_scale(self, q: float, v: float) -> None:
        """Moves the output biases of Q_r and V_r to where their targets are (values below 0)."""
        with torch.no_grad():
            start = {"softplus": _unsoftplus(-q), "log": torch.tensor(-q).log(), "z": _logit(to_z(q, self.z_power))}
            q_head, v_head = self.heads["q_r"], self.heads["v_r"]
            assert isinstance(q_head, Layers) and isinstance(v_head, Layers)
            q_head.biases[-1][-1] = start[self.q_output]
            v_head.biases[-1][0] = _unsoftplus(-v)


def _bounded(y: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Within what exp can take in float32; gradients pass beyond the bounds too, so that nothing stays there."""
    return y.clamp(-BOUND, BOUND).detach() + (y - y.detach())


def to_z(q: float | Tensor, z_power: float) -> Tensor:
    """z = (-Q_r)^(-1/(eta xi)), in (0, 1] for Q_r at most -1. `z_power`: eta xi."""
    return (-torch.as_tensor(q)).clamp(min=1.0) ** (-1 / z_power)


def from_z(z: Tensor, z_power: float) -> Tensor:
    """The inverse: Q_r, at most -1."""
    return -(z.clamp(min=LARGEST ** (-1 / z_power)) ** -z_power)


def _unsoftplus(y: float) -> Tensor:
    value = torch.tensor(float(y))
    return value + torch.log(-torch.expm1(-value))


def _logit(z: Tensor) -> Tensor:
    return torch.logit(z, eps=1e-4)
