"""How fast is the whole loop on an Atari game? Ours, with RRD, against stable-baselines3's DQN without a reward model.

    python benchmarks/atari_speed.py                  # on a quiet machine with 2 cores: about 40 minutes

In one process, turn by turn: so many steps of one, then of the other, each with a batch of 32 after every 4 steps, the
Nature network, a buffer of as many frames, epsilon .1. Both play the same environment (`apportion.envs.atari`), so
that the emulator counts alike; stable-baselines3 stacks frames by its own VecFrameStack. With 2 threads, PyTorch's
operations take both for stable-baselines3, as by default, and ours learns the reward beside the agent. A reward model
like the released one doubles the multiplications, so ours is measured without it as well, and with `--bf16`. Steps per
second of wall time, in the median, and the ratio pair by pair. Writes docs/results/atari-speed.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import torch
from stable_baselines3 import DQN as PeerDQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack

from apportion.config import AtariConfig, OnlineConfig, RewardConfig, to_json
from apportion.envs.atari import make_atari
from apportion.presets import PRESETS
from apportion.run.rundir import RunDir
from apportion.train.online import iteration, learner, sides
from apportion.train.process import use_threads
from apportion.train.session import make_session
from figures import machine, quartiles

OUT = Path(__file__).parent.parent / "docs" / "results" / "atari-speed.json"
WARMUP, BUFFER, EPSILON = 3_000, 20_000, 0.1
Steps = Callable[[int], None]  # so many steps of the loop


def settings(game: str, threads: int) -> OnlineConfig:
    """The released RRD settings, but for what the peer is given in the same way."""
    config = PRESETS["rrd-dqn"].config(game)
    agent = replace(config.agent, eps_l=EPSILON, eps_r=EPSILON)  # type: ignore[call-arg]
    return replace(config, agent=agent, warmup=WARMUP, buffer_size=BUFFER, threads=threads)


def ours(config: OnlineConfig, stack: ExitStack) -> Steps:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    session = make_session(config, RunDir.create(Path(folder) / "run", to_json(config), []), print)
    stack.callback(session.collector.close)
    learn = learner(session.policy, stack, print)

    def run(steps: int) -> None:
        use_threads(config.threads // sides(config))
        end = session.step + steps
        while session.step < end:
            iteration(session, learn)

    run(WARMUP)
    return run


def peer(game: str, threads: int) -> Steps:
    def environment() -> gym.Env:
        return gym.wrappers.ReshapeObservation(make_atari(game, AtariConfig(), clip=False), (84, 84, 1))

    envs = VecFrameStack(DummyVecEnv([environment]), 4)
    model = PeerDQN(
        "CnnPolicy", envs, buffer_size=BUFFER, batch_size=32, train_freq=4, learning_starts=WARMUP, seed=0,
        target_update_interval=32_000, exploration_initial_eps=EPSILON, exploration_final_eps=EPSILON, device="cpu",
    )  # fmt: skip

    def run(steps: int) -> None:
        use_threads(threads)
        model.learn(steps, reset_num_timesteps=False, log_interval=10**9)

    run(WARMUP)
    return run


def speed(run: Steps, steps: int) -> float:
    """Steps per second of wall time."""
    start = time.perf_counter()
    run(steps)
    return steps / (time.perf_counter() - start)


def measured(game: str, threads: int, pairs: int, steps: int) -> dict[str, Any]:
    config = settings(game, threads)
    with ExitStack() as stack:
        loops = {
            "rrd": ours(config, stack),
            "rrd, bfloat16": ours(replace(config, bf16=True), stack),
            "no reward model": ours(replace(config, reward=RewardConfig("none")), stack),
        }
        against = peer(game, threads)
        for run in (*loops.values(), against):
            run(400)
        found: dict[str, list[float]] = {name: [] for name in (*loops, "stable-baselines3")}
        ratios: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(pairs):
            for name, run in loops.items():
                mine = speed(run, steps)
                theirs = speed(against, steps)
                found[name].append(mine)
                found["stable-baselines3"].append(theirs)
                ratios[name].append(mine / theirs)
    return {
        "steps_per_second": {name: quartiles(values) for name, values in found.items()},
        "relative_to_stable_baselines3": {name: quartiles(values) for name, values in ratios.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Assault")
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--steps", type=int, default=800, help="per side of a pair")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    by_threads: dict[str, dict[str, Any]] = {}
    result = {
        "machine": machine(),
        "torch": torch.__version__,
        "game": args.game,
        "pairs": args.pairs,
        "steps_per_side": args.steps,
        "threads": by_threads,
    }
    for threads in args.threads:
        found = by_threads[str(threads)] = measured(args.game, threads, args.pairs, args.steps)
        for name, ratio in found["relative_to_stable_baselines3"].items():
            low, middle, high = (ratio[part] for part in ("quartile1", "median", "quartile3"))
            print(f"{threads} threads, {name}: {middle:.2f} ({low:.2f} to {high:.2f}) times as fast", flush=True)
        args.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
