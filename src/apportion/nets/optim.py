"""Adam whose whole step is one kernel and one traceable call; RMSProp as DQN was first trained; target copies."""

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

    def step(self, grads: list[Tensor], factor: float | Tensor = 1.0) -> None:
        """One step down `grads`, one for each parameter, in their order; `factor` scales lr and max_grad_norm."""
        compiling = torch.compiler.is_compiling()  # the compiler fuses the plain form by itself
        grads = grads if compiling else _laid_out(grads, self.params)
        too_long: Tensor | None = None
        with torch.no_grad():
            if self.max_grad_norm > 0:
                too_long = _too_long(grads, self.max_grad_norm * factor)
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
                lr=self.lr * factor,
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


class RMSProp:
    """RMSProp as Mnih et al. 2015 trained with: g / sqrt(mean g^2 - (mean g)^2 + eps), both means decaying by .95.

    The paper's "gradient momentum" is the decay of (mean g), its "minimum squared gradient" is `eps`, inside the root;
    in the authors' code no step is carried over to the next one. PyTorch's RMSprop (centered=True) adds its eps outside
    the root; where eps is 0 the numbers are the same.
    """

    def __init__(
        self,
        params: Sequence[nn.Parameter],
        lr: float = 2.5e-4,
        eps: float = 1e-2,
        max_grad_norm: float = 0.0,
        decay: float = 0.95,
    ):
        self.params, self.lr, self.eps, self.max_grad_norm, self.decay = list(params), lr, eps, max_grad_norm, decay
        self.sums = {
            name: [torch.zeros_like(p, requires_grad=False) for p in self.params] for name in ("mean", "square")
        }

    def minimize(self, loss: Tensor) -> None:
        """One step down the gradient of `loss`; gradients of nothing but these parameters are computed."""
        self.step(list(torch.autograd.grad(loss, self.params)))

    @torch.no_grad()
    def step(self, grads: list[Tensor]) -> None:
        """One step down `grads`, one for each parameter, in their order."""
        if self.max_grad_norm > 0:
            too_long = _too_long(grads, self.max_grad_norm)
            grads = [g / too_long for g in grads]
        for i, (param, g) in enumerate(zip(self.params, grads, strict=True)):
            mean, square = self.sums["mean"][i], self.sums["square"][i]
            mean.lerp_(g, 1 - self.decay)
            square.mul_(self.decay).addcmul_(g, g, value=1 - self.decay)
            variance = torch.addcmul(square, mean, mean, value=-1).clamp_(min=0)  # rounding may leave it below 0
            root = variance.add_(self.eps).sqrt_()
            param.addcdiv_(g, root, value=-self.lr)

    def state(self) -> dict[str, Any]:
        """The running means by the parameter's position."""
        return {str(i): {name: column[i] for name, column in self.sums.items()} for i in range(len(self.params))}

    def load_state(self, state: dict[str, Any]) -> None:
        if len(state) != len(self.params):
            raise ValueError(f"the state is of {len(state)} parameters, this optimiser has {len(self.params)}")
        for name, column in self.sums.items():
            for i, tensor in enumerate(column):
                tensor.copy_(state[str(i)][name])


Optimizer = Adam | RMSProp


def _too_long(grads: list[Tensor], max_norm: float | Tensor) -> Tensor:
    """By how much the gradients together are longer than `max_norm`; 1 where they are not."""
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
    return ((norm + 1e-6) / max_norm).clamp(min=1.0)


def _laid_out(grads: list[Tensor], params: list[nn.Parameter]) -> list[Tensor]:
    """The gradients in their parameters' order in memory: the fused kernel walks both without looking."""
    return [
        g if p.ndim < 4 or g.stride() == p.stride() else torch.empty_like(p).copy_(g)
        for g, p in zip(grads, params, strict=True)
    ]


@torch.no_grad()
def polyak_(target: nn.Module, online: nn.Module, keep: float) -> None:
    """target <- keep * target + (1 - keep) * online, in place; keep = 0 is a hard copy."""
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.lerp_(new, 1.0 - keep)
