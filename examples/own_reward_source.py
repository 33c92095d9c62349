"""A reward source of your own: a rule instead of a model, and an agent of this package that trains on it.

    python examples/own_reward_source.py --steps 5000

Whatever maps a batch of transitions to (n,) rewards is a reward source; here it reads the observation of Reacher-v5.
"""

from __future__ import annotations

import argparse

import gymnasium as gym
import torch
from torch import Tensor

from apportion import Batch, SACConfig
from apportion.agents import make_agent
from apportion.buffer import DecompositionBuffer
from apportion.envs.collect import ActionMap, random_actions
from apportion.envs.episodic import EpisodicReward
from apportion.envs.make import spec_of
from apportion.rewards.source import Given
from apportion.rng import Streams


class Near(Given):
    """Minus the distance of the fingertip to the target (entries 8 and 9), minus a tenth of the squared effort."""

    def __call__(self, batch: Batch) -> Tensor:
        return -batch.next_obs[:, 8:10].norm(dim=1) - 0.1 * batch.act.square().sum(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--warmup", type=int, default=200, help="random steps before the first update")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    env = EpisodicReward(gym.make("Reacher-v5"))
    spec, streams, cpu = spec_of(env), Streams(args.seed), torch.device("cpu")
    to_env = ActionMap(env.action_space)
    agent = make_agent(spec, SACConfig(), streams.torch_generator("init"), None, cpu)
    buffer = DecompositionBuffer(spec, Near(), seed=args.seed, actions="unit")  # our agents act in [-1, 1]
    obs, _ = env.reset(seed=args.seed)
    returns: list[float] = []
    for now in range(args.steps):
        if now < args.warmup:
            act = random_actions(spec, 1, streams.generator("warmup"))
        else:
            seen = torch.as_tensor(obs, dtype=torch.float32)[None]
            act = agent.act(seen, agent.act_noise(streams, 1), now).numpy()
        next_obs, reward, terminated, truncated, _ = env.step(to_env(act)[0])
        returns += [e.episode_return for e in buffer.add(obs, act, reward, terminated, truncated, next_obs)]
        obs = env.reset()[0] if terminated or truncated else next_obs
        if now >= args.warmup:
            agent.update(buffer.sample(256), agent.update_noise(streams, 256), agent.due())
    first, last = sum(returns[:5]) / 5, sum(returns[-5:]) / 5
    print(f"true return of the first five episodes {first:.1f}, of the last five {last:.1f}")


if __name__ == "__main__":
    main()
