"""stable-baselines3's own agents on returns alone: one argument more, and their replay buffer learns the rewards.

pip install 'apportion[sb3]'
python examples/sb3_agents.py --agent sac --steps 10000          # or td3, ddpg, tqc (Reacher-v5), dqn (CartPole-v1)
python examples/sb3_agents.py --agent sac --steps 10000 --plain  # the same agent on the return at the last step
"""

from __future__ import annotations

import argparse

import gymnasium as gym
from sb3_contrib import TQC
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from apportion import RewardConfig
from apportion.envs.episodic import EpisodicReward
from apportion.sb3 import DecompositionReplayBuffer

AGENTS = {"sac": SAC, "td3": TD3, "ddpg": DDPG, "tqc": TQC, "dqn": DQN}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agent", choices=AGENTS, default="sac")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--envs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plain", action="store_true", help="their own buffer: no reward is learned")
    args = parser.parse_args()
    name = "CartPole-v1" if args.agent == "dqn" else "Reacher-v5"
    # the rewards of the steps are withheld: each episode pays its return at its end
    envs = make_vec_env(name, args.envs, seed=args.seed, wrapper_class=EpisodicReward)
    buffer = {}
    if not args.plain:
        # Reacher's episodes have 50 steps: K = 32 of them leave something out
        method = RewardConfig("rrd", rrd_sample_size=32)
        buffer = {
            "replay_buffer_class": DecompositionReplayBuffer,
            "replay_buffer_kwargs": {"method": method, "seed": args.seed},
        }
    # learning_starts lies behind the end of the first episode
    model = AGENTS[args.agent](
        "MlpPolicy", envs, learning_starts=200 * args.envs, seed=args.seed, device="cpu", **buffer
    )
    model.learn(args.steps)
    score, _ = evaluate_policy(model, Monitor(gym.make(name)), n_eval_episodes=10)
    print(f"{args.agent}: mean true return {score:.1f}")
    if not args.plain:
        print(f"reward model: {model.replay_buffer.core.metrics}")


if __name__ == "__main__":
    main()
