"""Images into features: the network of Mnih et al. 2015 for frames, a small one for small images.

Pixels lie channel by channel in memory's innermost place ("channels last"), in weights too: on a CPU the gradients of
the first two layers take half of the time so.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from apportion.nets.mlp import MLP
from apportion.types import Spec, UserError

Shape = tuple[int, int, int]  # channels, height, width
Layers = tuple[tuple[int, int, int], ...]  # of each convolution: channels, side of its kernel, stride

NATURE: tuple[Layers, int] = (((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512)  # and the units of the dense layer after it
SMALL: tuple[Layers, int] = (((16, 3, 1),), 128)  # MinAtar's (Young & Tian 2019, arXiv 1903.03176)
SMALLEST_FOR_NATURE = 36  # pixels: below, its third layer would have nothing left to see


class Images(nn.Module):
    """Images as stored, uint8 (n, *seen_shape), as float32 (n, channels, height, width) in [0, 1].

    Stacks of frames (k, H, W) have their channels first already; single images (H, W, channels) have them last, and a
    single grey one (H, W) has none.
    """

    def __init__(self, spec: Spec):
        super().__init__()
        self.stacked, self.pixel_max = spec.frames > 1, spec.pixel_max
        shape = spec.seen_shape
        height, width, channels = (*shape, 1)[:3]
        self.shape: Shape = shape if self.stacked else (channels, height, width)  # type: ignore[assignment]

    def forward(self, obs: UInt8[Tensor, "n ..."]) -> Float[Tensor, "n c h w"]:
        return self._floats(self._planes(obs))

    def with_next(self, obs: UInt8[Tensor, "n ..."], next_obs: UInt8[Tensor, "n ..."]) -> Float[Tensor, "n c2 h w"]:
        """The images and those after them: c2 = 2 c channels, but k + 1 for stacks.

        For the next stack is this one moved on by a frame: what is seen in between is the same.
        """
        after = self._planes(next_obs)
        return self._floats(self._planes(obs), after[:, -1:] if self.stacked else after)

    def _planes(self, obs: Tensor) -> Tensor:
        if self.stacked:
            return obs
        return obs[:, None] if obs.ndim == 3 else obs.permute(0, 3, 1, 2)

    def _floats(self, *parts: Tensor) -> Tensor:
        """The parts' channels one after the other, written plane by plane: twice as fast as PyTorch's own copy."""
        n, (_, height, width) = len(parts[0]), self.shape
        planes = [part[:, i] for part in parts for i in range(part.shape[1])]
        out = torch.empty((n, height, width, len(planes)), device=parts[0].device)
        for i, plane in enumerate(planes):
            out[..., i].copy_(plane)
        return out.mul_(1 / self.pixel_max).permute(0, 3, 1, 2)


def check_size(shape: Shape) -> None:
    """Raises UserError for images that a convolution does not fit into."""
    _, height, width = shape
    if min(height, width) < 3:
        raise UserError(f"images of {height} x {width} are too small for a convolution: flatten them")


class Trunk(nn.Module):
    """(n, channels, height, width) -> (n, streams * out_features), ReLU after every layer, no padding.

    Weights are Xavier-uniform, biases 0, as in the RRD release (its convolutions pad; those of the paper, and these, do
    not). `streams` dense layers lie side by side on the same convolutions (Wang et al. 2016).
    Raises UserError for images of less than 3 pixels a side.
    """

    def __init__(self, shape: Shape, generator: torch.Generator, streams: int = 1):
        super().__init__()
        check_size(shape)
        channels, *sides = shape
        layers, self.out_features = NATURE if min(sides) >= SMALLEST_FOR_NATURE else SMALL
        self.strides = [stride for _, _, stride in layers]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()  # layer by layer, the dense one last
        for out, side, stride in layers:
            weight = _xavier((out, channels, side, side), generator)
            self._add(weight.contiguous(memory_format=torch.channels_last))
            sides, channels = [(s - side) // stride + 1 for s in sides], out
        size = channels * sides[0] * sides[1]
        self._add(torch.cat([_xavier((self.out_features, size), generator) for _ in range(streams)]))

    def _add(self, weight: Tensor) -> None:
        self.weights.append(nn.Parameter(weight))
        self.biases.append(nn.Parameter(torch.zeros(len(weight))))

    def forward(self, x: Float[Tensor, "n c h w"], first: Tensor | None = None) -> Float[Tensor, "n out"]:
        """`first`: in place of the first layer's weight."""
        weights = [*self.weights] if first is None else [first, *self.weights[1:]]
        *convolutions, dense = zip(weights, self.biases, strict=True)
        for (weight, bias), stride in zip(convolutions, self.strides, strict=True):
            x = F.conv2d(x, weight, bias, stride).relu_()
        x = x.permute(0, 2, 3, 1).flatten(1)  # as it lies in memory: no copy
        return F.linear(x, *dense).relu_().float()


class ChangeNets(nn.Module):
    """e independent networks on images s and their change s - s', one output per action, that of the action taken.

    As in the RRD release: the Nature trunk on 2 c channels. The first layer is linear, so it is applied to s and s' as
    they are, with its weights taken together: the same numbers from fewer channels (stacks: k + 1 instead of 2 k).
    """

    def __init__(self, members: int, spec: Spec, generator: torch.Generator):
        super().__init__()
        self.images = Images(spec)
        channels, height, width = self.images.shape
        self.trunks, self.heads = nn.ModuleList(), nn.ModuleList()
        for _ in range(members):
            trunk = Trunk((2 * channels, height, width), generator)
            self.trunks.append(trunk)
            self.heads.append(MLP((trunk.out_features, spec.act_dim), generator))

    def forward(
        self, obs: UInt8[Tensor, "n ..."], act: Int[Tensor, "n"], next_obs: UInt8[Tensor, "n ..."]
    ) -> Float[Tensor, "e n"]:
        x = self.images.with_next(obs, next_obs)
        members = zip(self.trunks, self.heads, strict=True)
        values = [head(trunk(x, self._together(trunk.weights[0]))) for trunk, head in members]  # type: ignore[index]
        return picked(torch.stack(values), act)

    def _together(self, weight: Float[Tensor, "out c_and_c side side"]) -> Float[Tensor, "out c2 side side"]:
        """a s + b (s - s') = (a + b) s - b s', summed frame by frame where s and s' share frames."""
        a, b = weight.chunk(2, 1)
        if self.images.stacked:
            joint = F.pad(a + b, (0, 0, 0, 0, 0, 1)) - F.pad(b, (0, 0, 0, 0, 1, 0))
        else:
            joint = torch.cat([a + b, -b], 1)
        return joint.contiguous(memory_format=torch.channels_last)


def picked(values: Float[Tensor, "*e n actions"], act: Int[Tensor, "n"]) -> Float[Tensor, "*e n"]:
    """The entry of the action taken, of each row."""
    return values.gather(-1, act[:, None].expand(*values.shape[:-1], 1)).squeeze(-1)


def _xavier(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform within the bound of Glorot & Bengio 2010; `shape` is (out, in) or (out, in, side, side)."""
    bound = math.sqrt(6.0 / ((shape[0] + shape[1]) * math.prod(shape[2:])))
    return (2 * torch.rand(*shape, generator=generator) - 1) * bound
