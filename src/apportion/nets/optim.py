"""Adam whose whole step is one kernel and one traceable call, and target copies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam as functional_adam


class Adam:
    """Adam (Kingma & Ba 2015), PyTorch's fused kernel through its functional form.

    `torch.optim.Adam.step` is opaque to the compiler; the functional form lets a whole learner update compile into
    one graph. Same numbers: see the tests.
    """

    def __init__(
        self,
        params: Sequence[nn.Parameter],
        lr: float,
        eps: float = 1e-8,
        max_grad_norm: float = 0.0,
        weight_decay: float = 0.0,  # decoupled (Loshchilov & Hutter 2019)
    ):
        self.params, self.lr, self.eps, self.max_grad_norm = list(params), lr, eps, max_grad_norm
        self.weight_decay = weight_decay
        self.mean = [torch.zeros_like(p, requires_grad=False) for p in self.params]
        self.square = [torch.zeros_like(p, requires_grad=False) for p in self.params]
        self.steps = [torch.zeros((), device=p.device) for p in self.params]

    def minimize(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`; gradients of nothing but these parameters are computed."""
        self.step(list(torch.autograd.grad(loss, self.params)))

    def step(self, grads: list[Tensor]) -> None:
        """One step down `grads`, one for each parameter, in their order."""
        compiling = torch.compiler.is_compiling()  # the compiler fuses the plain form by itself
        too_long: Tensor | None = None
        with torch.no_grad():
            if self.max_grad_norm > 0:
                norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
                too_long = ((norm + 1e-6) / self.max_grad_norm).clamp(min=1.0)
                if compiling:
                    grads = [g / too_long for g in grads]
            functional_adam(
                self.params,  # type: ignore[arg-type]
                grads,
                self.mean,
                self.square,
                [],
                self.steps,
                foreach=compiling,
                capturable=compiling,
                fused=not compiling,
                grad_scale=None if compiling else too_long,  # the kernel divides by it
                amsgrad=False,
                beta1=0.9,
                beta2=0.999,
                lr=self.lr,
                weight_decay=self.weight_decay,
                decoupled_weight_decay=self.weight_decay > 0,
                eps=self.eps,
                maximize=False,
            )

    def state(self) -> dict[str, Any]:
        """Moments and step counts by the parameter's position."""
        zipped = zip(self.mean, self.square, self.steps, strict=True)
        return {str(i): {"mean": m, "square": s, "step": t} for i, (m, s, t) in enumerate(zipped)}

    def load_state(self, state: dict[str, Any]) -> None:
        if len(state) != len(self.params):
            raise ValueError(f"the state is of {len(state)} parameters, this optimiser has {len(self.params)}")
        for i, (mean, square, steps) in enumerate(zip(self.mean, self.square, self.steps, strict=True)):
            mean.copy_(state[str(i)]["mean"])
            square.copy_(state[str(i)]["square"])
            steps.copy_(state[str(i)]["step"])


@torch.no_grad()
def polyak_(target: nn.Module, online: nn.Module, keep: float) -> None:
    """target <- keep * target + (1 - keep) * online, in place; keep = 0 is a hard copy."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, 1.0 - keep)
