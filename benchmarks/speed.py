"""How fast is one learner update? Ours with a reward model against stable-baselines3's SAC without one.

    python benchmarks/speed.py

In one process and on one thread, pair by pair: our whole update (draw 256 transitions and 4 subsets of 64 steps, step
the reward model, relabel, step SAC, move the targets) against `SAC.train()` of stable-baselines3 with the same network
and batch sizes, for obs 17, act 6 (HalfCheetah). CPU seconds, so that a busy machine weighs less. Ours does about 25 %
more arithmetic. Writes docs/results/speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import SAC as PeerSAC
from stable_baselines3.common.logger import configure

from apportion.agents import make_agent
from apportion.config import RewardConfig, SACConfig
from apportion.fast.compile import accelerate
from apportion.rewards import make_method
from apportion.rng import Streams
from apportion.run.rundir import cpu_name
from apportion.store.episodes import EpisodeStore
from apportion.train.update import learner_update
from apportion.types import Episode, Spec
from figures import quartiles

OBS, ACT, BATCH, EPISODE = 17, 6, 256, 1000
UPDATES = 100  # per iteration
SPEC = Spec((OBS,), "float32", "box", ACT, (-1.0,) * ACT, (1.0,) * ACT)
CPU = torch.device("cpu")


def filled_store(rng: np.random.Generator) -> EpisodeStore:
    """100 episodes of noise."""
    store = EpisodeStore(200_000, SPEC)
    for seed in range(100):
        obs = rng.normal(size=(EPISODE + 1, OBS)).astype(np.float32)
        act = rng.uniform(-1, 1, (EPISODE, ACT)).astype(np.float32)
        store.add(Episode(obs, act, rng.normal(size=EPISODE).astype(np.float32), False, 0, seed))
    return store


def ours(store: EpisodeStore, alg: str, compiled: bool, bf16: bool) -> Callable[[int], None]:
    """A function that takes n updates."""
    streams = Streams(0)
    agent = make_agent(SPEC, SACConfig(), streams.torch_generator("init"), None, CPU)
    method = make_method(SPEC, RewardConfig(alg=alg), streams.torch_generator("init"), None, CPU)  # type: ignore[arg-type]
    update = accelerate(learner_update, compiled, bf16, CPU)

    def run(n: int) -> None:
        for batch, subsets in method.draws(store, n, BATCH, 0.99, streams):
            update(method, agent, batch, subsets, agent.update_noise(streams, BATCH), agent.due())

    return run


def peer(rng: np.random.Generator) -> Callable[[int], None]:
    """stable-baselines3's SAC, its buffer filled with noise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeerSAC("MlpPolicy", gym.make("HalfCheetah-v5"), batch_size=BATCH, device="cpu", buffer_size=200_000)
    model.set_logger(configure(None, []))
    for _ in range(20_000):
        obs, next_obs = rng.normal(size=(2, 1, OBS))
        model.replay_buffer.add(obs, next_obs, rng.uniform(-1, 1, (1, ACT)), np.zeros(1), np.zeros(1, bool), [{}])
    return lambda n: model.train(n, BATCH)


def cpu_ms(run: Callable[[int], None], n: int) -> float:
    """CPU milliseconds per update of this process, over n updates."""
    start = time.process_time()
    run(n)
    return (time.process_time() - start) / n * 1e3


def sampling_us(store: EpisodeStore, pairs: int) -> float:
    """Median microseconds per update of drawing 256 transitions and 4 subsets of 64 steps for an iteration."""
    streams, times = Streams(0), []
    method = make_method(SPEC, RewardConfig(), streams.torch_generator("init"), None, CPU)
    for _ in range(pairs):
        start = time.perf_counter()
        drawn = sum(1 for _ in method.draws(store, UPDATES, BATCH, 0.99, streams))
        times.append((time.perf_counter() - start) / drawn * 1e6)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=25)
    parser.add_argument("--updates", type=int, default=40, help="per side of a pair")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "results" / "speed.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    store = filled_store(rng)
    variants: dict[str, Callable[[int], None]] = {
        "eager": ours(store, "rrd", False, False),
        "eager without reward model": ours(store, "none", False, False),
        "bf16": ours(store, "rrd", False, True),
        "compile": ours(store, "rrd", True, False),
        "compile bf16": ours(store, "rrd", True, True),
    }
    against = peer(rng)
    compile_seconds = {}
    for name, run in {**variants, "peer": against}.items():
        start = time.perf_counter()
        run(1)
        compile_seconds[name] = time.perf_counter() - start
        run(args.updates)
    ms: dict[str, list[float]] = {name: [] for name in (*variants, "peer")}
    ratios: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(args.pairs):
        for name, run in variants.items():
            mine, theirs = cpu_ms(run, args.updates), cpu_ms(against, args.updates)
            ms[name].append(mine)
            ms["peer"].append(theirs)
            ratios[name].append(theirs / mine)
    share = [1 - without / whole for whole, without in zip(ms["eager"], ms["eager without reward model"], strict=True)]
    result = {
        "machine": {
            "cpu": cpu_name(),
            "platform": platform.platform(),
            "cores": os.cpu_count(),
            "threads": args.threads,
        },
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "bf16_hardware": torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported(),
        "setting": {"obs": OBS, "act": ACT, "batch": BATCH, "subsets": "4 x 64", "pairs": args.pairs},
        "speed_relative_to_stable_baselines3": {name: quartiles(values) for name, values in ratios.items()},
        "cpu_ms_per_update": {name: quartiles(values) for name, values in ms.items()},
        "first_call_seconds": compile_seconds,
        "reward_model_share_of_eager_update": quartiles(share),
        "sampling_us": sampling_us(store, args.pairs),
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    for name, value in result["speed_relative_to_stable_baselines3"].items():
        print(f"{name:28s} {value['median']:.2f}x  ({value['quartile1']:.2f} to {value['quartile3']:.2f})")
    print(
        f"reward model: {100 * statistics.median(share):.0f} % of the eager update; "
        f"sampling {result['sampling_us']:.0f} us"
    )


if __name__ == "__main__":
    main()
