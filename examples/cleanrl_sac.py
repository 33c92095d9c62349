"""A single-file SAC in which three lines, marked (1) to (3), give it rewards learned from returns.

    python examples/cleanrl_sac.py --steps 10000
    python examples/cleanrl_sac.py --steps 10000 --method none     # the same script on the return at the last step

The rest is an ordinary script with networks and losses of its own; nothing in it knows about return decomposition.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn
from torch.nn import functional as F

from apportion.buffer import DecompositionBuffer
from apportion.config import RewardConfig
from apportion.envs.episodic import EpisodicReward
from apportion.envs.make import spec_of

BATCH, GAMMA, POLYAK, LR = 256, 0.99, 0.995, 3e-4


def mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, outputs))


class Actor(nn.Module):
    """A tanh-Gaussian policy with actions in [low, high]."""

    def __init__(self, obs: int, space: gym.spaces.Box):
        super().__init__()
        self.net = mlp(obs, 2 * space.shape[0])
        self.middle, self.half = (torch.tensor(x) for x in ((space.high + space.low) / 2, (space.high - space.low) / 2))

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A random action, its log-density, and the deterministic action."""
        mean, log_std = self.net(obs).chunk(2, -1)
        gauss = torch.distributions.Normal(mean, log_std.clamp(-5, 2).exp())
        x = gauss.rsample()
        # log(1 - tanh^2 x) = 2 (log 2 - x - softplus(-2 x))
        squash = 2 * (np.log(2) - x - F.softplus(-2 * x)) + self.half.log()
        action = self.middle + self.half * x.tanh()
        return action, (gauss.log_prob(x) - squash).sum(-1), self.middle + self.half * mean.tanh()


class Critics(nn.Module):
    """Two action values."""

    def __init__(self, inputs: int):
        super().__init__()
        self.first, self.second = mlp(inputs, 1), mlp(inputs, 1)

    def forward(self, obs: Tensor, act: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([obs, act], -1)
        return self.first(x).squeeze(-1), self.second(x).squeeze(-1)


def step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def evaluate(env_id: str, actor: Actor, episodes: int) -> float:
    """Mean true return of the deterministic policy."""
    env, total = gym.make(env_id), 0.0
    for episode in range(episodes):
        obs, _ = env.reset(seed=10_000 + episode)
        done = False
        while not done:
            with torch.no_grad():
                action = actor(torch.as_tensor(obs, dtype=torch.float32))[2].numpy()
            obs, reward, terminated, truncated, _ = env.step(action)
            total, done = total + float(reward), terminated or truncated
    return total / episodes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="Reacher-v5")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--warmup", type=int, default=1_000, help="random steps before the first update")
    parser.add_argument("--envs", type=int, default=1)
    parser.add_argument("--method", default="rrd", choices=("rrd", "rd", "ircr", "uniform", "none"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    makers = [lambda: EpisodicReward(gym.make(args.env))] * args.envs
    envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    envs.action_space.seed(args.seed)
    size, space = envs.single_observation_space.shape[0], envs.single_action_space
    actor, critics, targets = Actor(size, space), *(Critics(size + space.shape[0]) for _ in range(2))
    targets.load_state_dict(critics.state_dict())
    log_alpha = torch.zeros((), requires_grad=True)
    of_actor, of_critics = torch.optim.Adam(actor.parameters(), LR), torch.optim.Adam(critics.parameters(), LR)
    of_alpha = torch.optim.Adam([log_alpha], LR)

    config = RewardConfig(args.method, rrd_sample_size=32)
    buffer = DecompositionBuffer(spec_of(envs), config, num_envs=args.envs, gamma=GAMMA, seed=args.seed)  # (1)
    obs, _ = envs.reset(seed=args.seed)
    for now in range(0, args.steps, args.envs):
        act = envs.action_space.sample()
        if now >= args.warmup:
            with torch.no_grad():
                act = actor(torch.as_tensor(obs, dtype=torch.float32))[0].numpy()
        next_obs, reward, terminated, truncated, infos = envs.step(act)
        last_obs = next_obs.copy()  # where an episode ended, the vector has begun the next one already
        for i in np.flatnonzero(terminated | truncated):
            last_obs[i] = infos["final_obs"][i]
        buffer.add(obs, act, reward, terminated, truncated, last_obs)  # (2)
        obs = next_obs
        if now < args.warmup or not buffer.ready:
            continue

        batch = buffer.sample(BATCH)  # (3) batch.reward is learned; batch.discount is 0 where an episode terminated
        alpha = log_alpha.exp().detach()
        with torch.no_grad():
            next_act, next_log_prob, _ = actor(batch.next_obs)
            value = torch.minimum(*targets(batch.next_obs, next_act)) - alpha * next_log_prob
            target = batch.reward + batch.discount * value
        step(of_critics, sum(F.mse_loss(q, target) for q in critics(batch.obs, batch.act)))
        new_act, log_prob, _ = actor(batch.obs)
        step(of_actor, (alpha * log_prob - torch.minimum(*critics(batch.obs, new_act))).mean())
        step(of_alpha, -(log_alpha * (log_prob.detach() - space.shape[0])).mean())
        with torch.no_grad():
            for old, new in zip(targets.parameters(), critics.parameters(), strict=True):
                old.lerp_(new, 1 - POLYAK)
    print(f"{args.env}, {args.method}: mean true return {evaluate(args.env, actor, 10):.1f} after {args.steps} steps")


if __name__ == "__main__":
    main()
