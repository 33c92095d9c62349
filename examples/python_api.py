"""Train, evaluate, report, and take the learned reward elsewhere: the whole of it from Python.

python examples/python_api.py --steps 10000 --out runs/python-api
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym

from apportion import (
    LearnedReward,
    OnlineConfig,
    RewardConfig,
    RewardModel,
    TD3Config,
    evaluate_run,
    train_online,
    write_report,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("runs/python-api"), help="run directory, must not exist")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = OnlineConfig(
        "Reacher-v5",  # its rewards are withheld until an episode's end: env_type="ep_rews" is the default
        reward=RewardConfig("rrd", rrd_sample_size=32, rrd_bias_correction=True),
        agent=TD3Config(),
        steps=args.steps,
        seed=args.seed,
        warmup=min(1_000, args.steps // 2),
        eval_every=args.steps // 2,
        log_every=args.steps // 2,
    )
    train_online(config, args.out, progress=False)
    found = evaluate_run(args.out, episodes=5)
    print(f"mean true return of five episodes: {sum(found['returns']) / 5:.1f}")
    print(f"page: {write_report([args.out], args.out / 'report.html')}")

    model = RewardModel.load(args.out)  # safetensors and JSON
    env = LearnedReward(gym.make("Reacher-v5"), model)  # for any agent anywhere
    env.reset(seed=args.seed)
    _, reward, _, _, info = env.step(env.action_space.sample())
    print(f"one step pays {reward:.3f}; the environment would have paid {info['env_reward']:.3f}")


if __name__ == "__main__":
    main()
