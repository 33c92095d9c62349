"""A reward network of your own: any nn.Module, taught by `rrd_loss`, paying somebody else's SAC.

    python examples/own_reward_net.py --steps 10000

A reward method is four verbs: what happens when an episode closes (`closed`), what to draw, how to learn, what to pay.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import SAC
from torch import Tensor, nn

from apportion import Batch, Subsets, rrd_loss
from apportion.envs.episodic import EpisodicReward
from apportion.nets.optim import Adam
from apportion.rewards.source import Drawn, Given
from apportion.rng import Streams
from apportion.sb3 import DecompositionReplayBuffer
from apportion.store import sample
from apportion.store.episodes import EpisodeStore
from apportion.types import Metrics


class Potential(nn.Module):
    """r = phi(s') - phi(s) - |w a|^2: what is gained, minus an effort of learned weights."""

    def __init__(self, obs: int, act: int):
        super().__init__()
        self.phi = nn.Sequential(nn.Linear(obs, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 1))
        self.effort = nn.Linear(act, act, bias=False)
        self.offset = nn.Parameter(torch.zeros(()))

    def forward(self, obs: Tensor, act: Tensor, next_obs: Tensor) -> Tensor:
        """(..., o), (..., a), (..., o) to (...)."""
        gained = (self.phi(next_obs) - self.phi(obs)).squeeze(-1)
        return gained - self.effort(act).square().sum(-1) + self.offset


class OwnNet(Given):
    """`net`, learned on m subsets of k steps."""

    def __init__(self, net: nn.Module, m: int = 8, k: int = 32):
        self.net, self.m, self.k = net, m, k
        self.optim = Adam(list(net.parameters()), lr=1e-3)

    def draws(self, store: EpisodeStore, updates: int, n: int, gamma: float, streams: Streams) -> Iterator[Drawn]:
        batches = sample.batches(store, updates, n, gamma, streams, "batch")
        return zip(batches, sample.subset_batches(store, updates, self.m, self.k, streams, "length"), strict=True)

    def learn(self, subsets: Subsets | None) -> Metrics:
        assert subsets is not None
        pred = self.net(subsets.obs, subsets.act, subsets.next_obs)  # (m, k)
        loss, metrics = rrd_loss(pred, subsets.episode_return, subsets.length, mask=subsets.mask)
        self.optim.minimize(loss)
        return metrics

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Tensor:
        return self.net(batch.obs, batch.act, batch.next_obs)

    def state(self) -> dict[str, Any]:
        return {"net": dict(self.net.state_dict()), "optim": self.optim.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.net.load_state_dict(state["net"])
        self.optim.load_state(state["optim"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    env = EpisodicReward(gym.make("Reacher-v5"))
    method = OwnNet(Potential(env.observation_space.shape[0], env.action_space.shape[0]))
    model = SAC(
        "MlpPolicy",
        env,
        learning_starts=200,
        seed=args.seed,
        device="cpu",
        replay_buffer_class=DecompositionReplayBuffer,
        replay_buffer_kwargs={"method": method, "seed": args.seed},
    )
    model.learn(args.steps)
    error = model.replay_buffer.core.metrics["R_rmse"]
    print(f"after {args.steps} steps the learned rewards miss an episode's return by {error:.2f}")


if __name__ == "__main__":
    main()
