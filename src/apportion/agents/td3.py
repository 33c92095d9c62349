"""Twin delayed deep deterministic policy gradient: the whole algorithm (Fujimoto et al. 2018, arXiv 1802.09477)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.agents.base import Due, Noise, Vector, load_module_state, module_state, regression
from apportion.config import TD3Config
from apportion.nets.mlp import MLP, StackedMLP
from apportion.nets.normalizer import RunningNorm
from apportion.nets.optim import Adam, polyak_
from apportion.rng import Streams
from apportion.types import Batch, Metrics, Spec


def critic_loss(agent: TD3, batch: Batch, noise: Float[Tensor, "n a"]) -> tuple[Tensor, Metrics]:
    """Both critics towards r + discount min Q'(s', pi'(s') + clipped noise) (algorithm 1)."""
    obs, next_obs = agent.encode(batch.obs), agent.encode(batch.next_obs)
    with torch.no_grad():
        smoothing = (noise * agent.config.pi_t_std).clamp(-agent.config.pi_t_clip, agent.config.pi_t_clip)
        next_act = (torch.tanh(agent.actor_target(next_obs)) + smoothing).clamp(-1, 1)
        next_q = agent.target(torch.cat([next_obs, next_act], -1)).squeeze(-1).amin(0)
        target = batch.reward + batch.discount * next_q
    q = agent.critic(torch.cat([obs, batch.act], -1)).squeeze(-1)
    loss = 2 * regression(q, target.expand_as(q), agent.config.critic_loss)  # the sum of two critics' means
    return loss, {"q_loss": loss.detach(), "q": q.detach().mean()}


def actor_loss(agent: TD3, batch: Batch) -> tuple[Tensor, Metrics]:
    """Policy towards higher values of the first critic."""
    obs = agent.encode(batch.obs)
    loss = -agent.critic.member(0, torch.cat([obs, torch.tanh(agent.actor(obs))], -1), frozen=True).mean()
    return loss, {"pi_loss": loss.detach()}


class TD3(nn.Module):
    """Two critics, a deterministic policy that steps every second update, smoothed targets."""

    def __init__(
        self, spec: Spec, config: TD3Config, generator: torch.Generator, norm: RunningNorm | None, device: torch.device
    ):
        super().__init__()
        self.config, self.act_dim = config, spec.act_dim
        self.encode = Vector(spec, norm)
        q_sizes = (self.encode.size + spec.act_dim, *config.hidden, 1)
        pi_sizes = (self.encode.size, *config.hidden, spec.act_dim)
        self.actor, self.actor_target = MLP(pi_sizes, generator), MLP(pi_sizes, generator)
        self.critic, self.target = StackedMLP(2, q_sizes, generator), StackedMLP(2, q_sizes, generator)
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.target.load_state_dict(self.critic.state_dict())
        self.to(device)
        self.optim = {
            "pi": Adam(list(self.actor.parameters()), config.pi_lr, max_grad_norm=config.max_grad_norm),
            "q": Adam(list(self.critic.parameters()), config.q_lr, max_grad_norm=config.max_grad_norm),
        }
        self.updates = 0

    def act_noise(self, streams: Streams, n: int) -> Noise:
        return {"act": streams.normal("act", n, self.act_dim)}

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Noise | None, step: int) -> Tensor:
        act = torch.tanh(self.actor(self.encode(obs)))
        if noise is None:
            return act
        return (act + self.config.std_act * noise["act"].to(obs.device)).clamp(-1, 1)

    def update_noise(self, streams: Streams, n: int) -> Noise:
        return {"next_act": streams.normal("update", n, self.act_dim)}

    def due(self) -> Due:
        self.updates += 1
        return Due(
            policy=self.updates % self.config.pi_delay_freq == 0, target=self.updates % self.config.train_target == 0
        )

    def update(self, batch: Batch, noise: Noise, due: Due) -> Metrics:
        config = self.config
        loss, metrics = critic_loss(self, batch, noise["next_act"])
        self.optim["q"].minimize(loss)
        if due.policy:
            loss, pi_metrics = actor_loss(self, batch)
            self.optim["pi"].minimize(loss)
            metrics = {**metrics, **pi_metrics}
        if due.target:
            polyak_(self.target, self.critic, config.polyak)
            polyak_(self.actor_target, self.actor, config.polyak)
        return metrics

    def state(self) -> dict[str, Any]:
        return module_state(self, self.optim, updates=self.updates)

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates = load_module_state(self, self.optim, state)["updates"]
