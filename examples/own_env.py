"""An environment of your own: a Gymnasium class that pays only when an episode is over.

python examples/own_env.py --steps 6000                 # trains from Python
cd examples && apportion check own_env:Thermostat       # will it work?
apportion train --env own_env:Thermostat --alg rrd --basis-alg sac --steps 6000 --warmup 1000
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from apportion import OnlineConfig, RewardConfig, SACConfig, train_online

STEPS = 40


class Thermostat(gym.Env):
    """Heat or cool a room to 20 degrees; the bill, known after 40 steps, adds up distance and energy."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)  # distance to 20 degrees, time left
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.distance, self.step_count, self.bill = float(self.np_random.uniform(-1, 1)), 0, 0.0
        return self._obs(), {}

    def step(self, action: np.ndarray):
        power = float(np.clip(action[0], -1, 1))
        drift = 0.02 * float(self.np_random.normal())
        self.distance = float(np.clip(self.distance + 0.1 * power + drift, -1, 1))
        self.step_count += 1
        self.bill += abs(self.distance) + 0.1 * power**2
        over = self.step_count == STEPS
        return self._obs(), -self.bill if over else 0.0, False, over, {}  # a time limit is a truncation

    def _obs(self) -> np.ndarray:
        return np.array([self.distance, 1 - self.step_count / STEPS], np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6_000)
    parser.add_argument("--out", type=Path, default=Path("runs/own-env"), help="run directory, must not exist")
    args = parser.parse_args()
    config = OnlineConfig(
        "own_env:Thermostat",  # module:Class, so that `apportion resume` finds it again
        reward=RewardConfig("rrd", rrd_sample_size=16),
        agent=SACConfig(hidden=(64, 64)),
        steps=args.steps,
        warmup=min(1_000, args.steps // 2),
        eval_every=args.steps // 2,
        log_every=args.steps // 2,
    )
    train_online(config, args.out, progress=False)
    for line in (args.out / "evaluations.jsonl").read_text().splitlines():
        found = json.loads(line)
        print(f"step {found['step']}: mean return {np.mean(found['returns']):.1f}")


if __name__ == "__main__":
    main()
