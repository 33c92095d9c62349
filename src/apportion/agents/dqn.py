"""Deep Q-network on vectors or images, double and dueling on request: the whole algorithm.

Mnih et al. 2015 (Nature 518); double: van Hasselt et al. 2016, arXiv 1509.06461; dueling: Wang et al. 2016, 1511.06581.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from apportion.agents.base import Due, Noise, Vector, load_module_state, module_state, regression
from apportion.config import DQNConfig
from apportion.nets.conv import Images, Shape, Trunk, picked
from apportion.nets.mlp import MLP
from apportion.nets.normalizer import RunningNorm
from apportion.nets.optim import Adam, Optimizer, RMSProp, polyak_
from apportion.rng import Streams
from apportion.types import Batch, Metrics, Spec


def epsilon(config: DQNConfig, step: int) -> float:
    """Exploration after `step` env steps: linear from eps_l to eps_r over eps_decay, then constant."""
    return config.eps_l + (config.eps_r - config.eps_l) * min(1.0, step / max(1, config.eps_decay))


def duel(value: Float[Tensor, "n 1"], advantage: Float[Tensor, "n actions"]) -> Float[Tensor, "n actions"]:
    """One value and the advantages less their mean (Wang et al., eq. 9)."""
    return value + advantage - advantage.mean(-1, keepdim=True)


class QNetwork(nn.Module):
    """Vectors (n, o) -> (n, actions)."""

    def __init__(self, size: int, hidden: tuple[int, ...], actions: int, dueling: bool, generator: torch.Generator):
        super().__init__()
        self.dueling = dueling
        self.net = MLP((size, *hidden, actions + dueling), generator)

    def forward(self, x: Float[Tensor, "n o"]) -> Float[Tensor, "n actions"]:
        out = self.net(x)
        return duel(out[:, :1], out[:, 1:]) if self.dueling else out


class ImageQNetwork(nn.Module):
    """Images (n, c, h, w) -> (n, actions). Dueling: value and advantages have a dense layer each, and their layers."""

    def __init__(self, shape: Shape, actions: int, dueling: bool, generator: torch.Generator):
        super().__init__()
        self.trunk = Trunk(shape, generator, streams=1 + dueling)
        self.advantage = MLP((self.trunk.out_features, actions), generator)
        self.value = MLP((self.trunk.out_features, 1), generator) if dueling else None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n actions"]:
        if self.value is None:
            return self.advantage(self.trunk(x))
        first, second = self.trunk(x).chunk(2, -1)
        return duel(self.value(first), self.advantage(second))


def q_loss(agent: DQN, batch: Batch) -> tuple[Tensor, Metrics]:
    """Q(s, a) towards r + discount Q'(s', a'), a' greedy by the target network, or by the online one (double)."""
    with torch.no_grad():
        next_obs = agent.encode(batch.next_obs)
        next_q = agent.target(next_obs)
        chooser = agent.critic(next_obs) if agent.config.double else next_q
        best = picked(next_q, chooser.argmax(-1))
        target = batch.reward + batch.discount * best
    q = picked(agent.critic(agent.encode(batch.obs)), batch.act)
    loss = regression(q, target, agent.config.critic_loss)
    return loss, {"q_loss": loss.detach(), "q": q.detach().mean()}


class DQN(nn.Module):
    """One Q-network, epsilon-greedy, a hard target copy every `train_target` updates."""

    def __init__(
        self, spec: Spec, config: DQNConfig, generator: torch.Generator, norm: RunningNorm | None, device: torch.device
    ):
        super().__init__()
        self.config, self.actions = config, spec.act_dim
        self.encode = Images(spec) if spec.is_image else Vector(spec, norm)
        self.critic, self.target = (self._network(spec, generator) for _ in range(2))
        self.target.load_state_dict(self.critic.state_dict())
        self.to(device)
        self.optim = {"q": self._optimizer()}
        self.updates = 0

    def _network(self, spec: Spec, generator: torch.Generator) -> nn.Module:
        if isinstance(self.encode, Images):
            return ImageQNetwork(self.encode.shape, spec.act_dim, self.config.dueling, generator)
        return QNetwork(self.encode.size, self.config.hidden, spec.act_dim, self.config.dueling, generator)

    def _optimizer(self) -> Optimizer:
        config, params = self.config, list(self.critic.parameters())
        if config.optimizer == "rmsprop":
            return RMSProp(params, config.q_lr, max_grad_norm=config.max_grad_norm)
        return Adam(params, config.q_lr, config.adam_eps, config.max_grad_norm)

    def act_noise(self, streams: Streams, n: int) -> Noise:
        draw = streams.generator("act")
        return {
            "uniform": torch.from_numpy(draw.random(n)),
            "action": torch.from_numpy(draw.integers(self.actions, size=n)),
        }

    @torch.no_grad()
    def act(self, obs: Tensor, noise: Noise | None, step: int) -> Tensor:
        if noise is None:
            return self._greedy(obs)
        explore, action = noise["uniform"] < epsilon(self.config, step), noise["action"]
        if not bool(explore.all()):  # else the network would be asked in vain
            action = torch.where(explore.to(obs.device), action.to(obs.device), self._greedy(obs))
        return action.to(obs.device)

    def _greedy(self, obs: Tensor) -> Tensor:
        return self.critic(self.encode(obs)).argmax(-1)

    def update_noise(self, streams: Streams, n: int) -> Noise:
        return {}

    def due(self) -> Due:
        self.updates += 1
        return Due(policy=True, target=self.updates % self.config.train_target == 0)

    def update(self, batch: Batch, noise: Noise, due: Due) -> Metrics:
        loss, metrics = q_loss(self, batch)
        self.optim["q"].minimize(loss)
        if due.target:
            polyak_(self.target, self.critic, 0.0)
        return metrics

    def state(self) -> dict[str, Any]:
        return module_state(self, self.optim, updates=self.updates)

    def load_state(self, state: dict[str, Any]) -> None:
        self.updates = load_module_state(self, self.optim, state)["updates"]
