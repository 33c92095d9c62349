"""One gradient step of the networks: a pure function of what they are to be fitted to, which can be compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from apportion.fast.compile import accelerate
from apportion.nets.optim import Adam
from apportion.power.learn import losses
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.networks import Networks


@dataclass(frozen=True)
class Part:
    """n states and what some of the estimators are to say of them: target and weight (None: all alike) by name."""

    features: Float[Tensor, "n E"]
    noise: list[Tensor]  # of Networks.noise
    want: dict[str, tuple[Tensor, Tensor | None]]


Fit = Callable[[Networks, dict[str, Adam], list[Part], Phase2Config, float], dict[str, Tensor]]


def fit_networks(
    nets: Networks, adams: dict[str, Adam], parts: list[Part], config: Phase2Config, factor: float | Float[Tensor, ""]
) -> dict[str, Float[Tensor, ""]]:
    """Each estimator one step down its loss, which is returned. `factor`: of the step sizes, 0 to 1."""
    found: dict[str, Tensor] = {}
    for part in parts:
        noise = iter(part.noise)
        code = nets.encode(part.features, noise)
        for name, (target, weight) in part.want.items():
            found[name] = _loss(name, getattr(nets, name)(code, noise), target, weight, nets.z_power, config)
    params = [p for name in found for p in adams[name].params]
    grads = list(torch.autograd.grad(torch.stack(list(found.values())).sum(), params))
    for name in found:
        own, grads = grads[: len(adams[name].params)], grads[len(adams[name].params) :]
        adams[name].step(own, factor)
    return {name: loss.detach() for name, loss in found.items()}


def compiled_fit(device: torch.device, say: Callable[[str], None]) -> Fit:
    """`fit_networks` as one graph, which is made in its first call. Raises UserError where that is not possible."""
    fast = accelerate(fit_networks, True, False, device, say)

    def fit(
        nets: Networks, adams: dict[str, Adam], parts: list[Part], config: Phase2Config, factor: float
    ) -> dict[str, Tensor]:
        # a number would be part of the graph
        return fast(nets, adams, parts, config, torch.tensor(factor, dtype=torch.float64, device=device))

    return fit


def _loss(
    name: str, prediction: Tensor, target: Tensor, weight: Tensor | None, z_power: float, config: Phase2Config
) -> Float[Tensor, ""]:
    if name == "q_r":
        form, sampled = config.q_r_output, config.targets == "sampled"
        return losses.q_loss(prediction, target, weight, form, z_power, config.difference_weight, sampled)
    if name in ("v_h_e", "x_h"):
        return losses.share_loss(prediction, target, weight, config.v_h_e_loss)
    return losses.squared(prediction, target, weight)
