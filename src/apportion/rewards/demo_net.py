"""The network behind a reward from demonstrations: vectors, frames, an action and a task in, one number out."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.data.batches import Inputs
from apportion.nets.mlp import MLP
from apportion.nets.normalizer import RunningNorm

CAMERA_UNITS = 128  # what one camera's frames become


class ConvTrunk(nn.Module):
    """Frames (n, c, h, w) of 84 to 128 pixels -> (n, CAMERA_UNITS): Nature's trunk (Mnih et al. 2015), pooled."""

    def __init__(self, channels: int, generator: torch.Generator):
        super().__init__()
        shapes = ((channels, 32, 8, 4), (32, 64, 4, 2), (64, 64, 3, 1))
        self.convs = nn.ModuleList(nn.Conv2d(i, o, size, stride) for i, o, size, stride in shapes)
        self.out = nn.Linear(64 * 16, CAMERA_UNITS)
        for layer in (*self.convs, self.out):
            nn.init.xavier_uniform_(layer.weight, generator=generator)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n u"]:
        for conv in self.convs:
            x = conv(x).relu_()
        x = nn.functional.adaptive_avg_pool2d(x, 4)
        return self.out(x.flatten(1)).relu_()


class DemoNet(nn.Module):
    """(this, this - other, action, task) -> one number for each of n.

    `other` is the next observation for a reward r(s, a, s'), as in the RRD release, and the one before for a potential
    phi(s). `norm` and `act_norm` hold the training set's statistics.
    """

    def __init__(
        self,
        inputs: Inputs,
        hidden: tuple[int, ...],
        *,
        action: bool,
        difference: bool,
        condition: int,  # entries of a task's vector, 0 for none
        embedding: int,
        generator: torch.Generator,
    ):
        super().__init__()
        self.difference = difference
        twice = 2 if difference else 1
        self.norm = RunningNorm((inputs.vector,), clip=10.0, floor=1e-4)
        self.act_norm = RunningNorm((inputs.action,), clip=10.0, floor=1e-4) if action else None
        self.trunks = nn.ModuleDict({_key(name): ConvTrunk(3 * twice, generator) for name in inputs.cameras})
        self.embed = nn.Linear(condition, embedding, bias=False) if condition else None
        if self.embed is not None:
            nn.init.normal_(self.embed.weight, generator=generator)
        size = twice * inputs.vector + CAMERA_UNITS * len(inputs.cameras)
        size += (inputs.action if action else 0) + (embedding if condition else 0)
        self.size = size
        self.head = MLP((size, *hidden, 1), generator)

    def forward(
        self,
        vector: Float[Tensor, "2 n v"],  # this, other
        images: dict[str, Tensor],  # camera -> (2, n, h, w, 3) uint8
        act: Float[Tensor, "n a"],
        condition: Float[Tensor, "n c"],
        keep: Float[Tensor, "n size"] | None = None,  # factors on the head's inputs: dropout
    ) -> Float[Tensor, "n"]:
        parts = []
        if vector.shape[-1]:
            this, other = self.norm(vector)
            parts += [this, this - other] if self.difference else [this]
        for name, frames in images.items():
            this, other = frames.permute(0, 1, 4, 2, 3).to(torch.float32) / 255 - 0.5
            parts.append(self.trunks[_key(name)](torch.cat([this, this - other], 1) if self.difference else this))
        if self.act_norm is not None:
            parts.append(self.act_norm(act))
        if self.embed is not None:
            parts.append(self.embed(condition))
        x = torch.cat(parts, -1)
        return self.head(x if keep is None else x * keep).squeeze(-1)


def _key(camera: str) -> str:
    return camera.replace(".", "/")  # a module's name may hold no dot
