"""Soft actor-critic: the whole algorithm (Haarnoja et al. 2018, arXiv 1812.05905)."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.agents.base import Due, Noise, Vector, load_module_state, module_state, regression
from apportion.config import SACConfig
from apportion.nets import gaussian
from apportion.nets.mlp import MLP, StackedMLP
from apportion.nets.normalizer import RunningNorm
from apportion.nets.optim import Adam, polyak_
from apportion.rng import Streams
from apportion.types import Batch, Metrics, Spec


def critic_loss(agent: SAC, batch: Batch, noise: Float[Tensor, "n a"]) -> tuple[Tensor, Metrics]:
    """Both critics towards r + discount (min Q'(s', a') - alpha log pi(a'|s')), a' from `noise` (eq. 5)."""
    obs, next_obs = agent.encode(batch.obs), agent.encode(batch.next_obs)
    with torch.no_grad():
        next_act, next_log_p = gaussian.sample(agent.actor(next_obs), noise)
        next_q = agent.target(torch.cat([next_obs, next_act], -1)).squeeze(-1).amin(0)
        target = batch.reward + batch.discount * (next_q - agent.log_alpha.exp() * next_log_p)
    q = agent.critic(torch.cat([obs, batch.act], -1)).squeeze(-1)
    loss = 2 * regression(q, target.expand_as(q), agent.config.critic_loss)  # the sum of two critics' means
    return loss, {"q_loss": loss.detach(), "q": q.detach().mean()}


def actor_loss(agent: SAC, batch: Batch, noise: Float[Tensor, "n a"]) -> tuple[Tensor, Float[Tensor, "n"], Metrics]:
    """Policy towards higher min Q and entropy (eq. 7 and 9); also returns the log-density of its actions."""
    obs = agent.encode(batch.obs)
    act, log_p = gaussian.sample(agent.actor(obs), noise)
    q = agent.critic(torch.cat([obs, act], -1), frozen=True).squeeze(-1).amin(0)
    loss = (agent.log_alpha.detach().exp() * log_p - q).mean()
    return loss, log_p.detach(), {"pi_loss": loss.detach(), "entropy": -log_p.detach().mean()}


def alpha_loss(log_alpha: Tensor, log_p: Float[Tensor, "n"], target_entropy: float) -> Tensor:
    """Temperature up while the entropy is below its target -dim(A), down while above (eq. 18, in log alpha)."""
    return -log_alpha * (log_p.mean() + target_entropy)


class SAC(nn.Module):
    """Two critics, a tanh-Gaussian policy, a temperature that holds the entropy at -dim(A)."""

    def __init__(
        self, spec: Spec, config: SACConfig, generator: torch.Generator, norm: RunningNorm | None, device: torch.device
    ):
        super().__init__()
        self.config, self.act_dim = config, spec.act_dim
        self.encode = Vector(spec, norm)
        sizes = (self.encode.size + spec.act_dim, *config.hidden, 1)
        self.actor = MLP((self.encode.size, *config.hidden, 2 * spec.act_dim), generator)
        self.critic = StackedMLP(2, sizes, generator)
        self.target = StackedMLP(2, sizes, generator)
        self.target.load_state_dict(self.critic.state_dict())
        self.log_alpha = nn.Parameter(torch.tensor(math.log(config.alpha_init)))
        self.to(device)
        self.optim = {
            "pi": Adam(list(self.actor.parameters()), config.pi_lr, max_grad_norm=config.max_grad_norm),
            "q": Adam(list(self.critic.parameters()), config.q_lr, max_grad_norm=config.max_grad_norm),
            "alpha": Adam([self.log_alpha], config.alpha_lr),
        }
        self.updates = 0

    def act_noise(self, streams: Streams, n: int) -> Noise:
        return {"act": streams.normal("act", n, self.act_dim)}

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Noise | None, step: int) -> Tensor:
        params = self.actor(self.encode(obs))
        return gaussian.mode(params) if noise is None else gaussian.sample(params, noise["act"].to(obs.device))[0]

    def update_noise(self, streams: Streams, n: int) -> Noise:
        next_act, pi = streams.normal("update", 2, n, self.act_dim)
        return {"next_act": next_act, "pi": pi}

    def due(self) -> Due:
        self.updates += 1
        return Due(policy=True, target=self.updates % self.config.train_target == 0)

    def update(self, batch: Batch, noise: Noise, due: Due) -> Metrics:
        config = self.config
        loss, metrics = critic_loss(self, batch, noise["next_act"])
        self.optim["q"].minimize(loss)
        loss, log_p, pi_metrics = actor_loss(self, batch, noise["pi"])
        self.optim["pi"].minimize(loss)
        if config.alpha_lr > 0:
            self.optim["alpha"].minimize(alpha_loss(self.log_alpha, log_p, -float(self.act_dim)))
        if due.target:
            polyak_(self.target, self.critic, config.polyak)
        return {**metrics, **pi_metrics, "alpha": self.log_alpha.detach().exp()}

    def state(self) -> dict[str, Any]:
        return module_state(self, self.optim, updates=self.updates)

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates = load_module_state(self, self.optim, state)["updates"]
