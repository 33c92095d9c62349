"""How fast is the learner of human power? Training steps, environment steps, and actors beside the learner.

    python benchmarks/power_training.py                 # some minutes on 2 quiet cores

With the specification's default settings (batch 64, hidden layers of 256, one thread) on `trivial` and on a world of
our own of the size of the earlier implementation's other one (10 x 9 cells, two humans, a robot): training steps per
CPU second in stage 0, stage 3 and full training, after a warm-up, the median of `--repeats`. Then environment steps,
many side by side, each with the exact successor distribution of the joint action taken, and with those of every joint
action, kept by state, as training asks for them. Then whole runs, sync and async, in
turns: environment steps a second with the same number of training steps for each. The earlier public implementation's
figures (2 cores, one thread, per CPU second) are its own measurements, from another machine: ratios to them are not
from the same run. Writes docs/results/power-training.json.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apportion.power.grid.world import GridWorld, load_world
from apportion.power.learn.act import Actor
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.fit import compiled_fit
from apportion.power.learn.learner import Learner
from apportion.power.learn.priors import make_prior
from apportion.power.learn.states import StateTable, joint_actions
from apportion.run.files import write_json
from apportion.run.metrics import read_lines
from apportion.train.power import train_power
from figures import machine

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "power-training.json"
LARGER = """\
We We We We We We We We We We
We Ay .. .. We .. .. .. .. We
We .. .. .. We .. .. .. .. We
We .. Ro .. .. .. Ro .. .. We
We We We Ae We We We We .. We
We .. .. .. .. .. .. We .. We
We .. Ro .. We .. .. We .. We
We .. .. .. We .. .. .. Ay We
We We We We We We We We We We
"""
STAGES = {"stage 0": 500, "stage 3": 2500, "full": 100_000}  # an environment step in each
EARLIER = {
    "trivial": {"stage 0": 13.8, "stage 3": 5.2, "full": 6.5},
    "10x9": {"stage 0": 4.2, "stage 3": 1.6, "full": 1.6},
}
EARLIER_STEPS = (1400, 4500)  # environment steps a CPU second, without its actor


def worlds() -> dict[str, GridWorld]:
    goals = [f"{x},{y}" for y, row in enumerate(LARGER.splitlines()) for x, c in enumerate(row.split()) if c != "We"]
    config = {"map": LARGER, "max_steps": 50, "possible_goals": goals}
    return {"trivial": load_world("trivial"), "10x9": GridWorld.from_config(config, "10x9")}


def training(world: GridWorld, repeats: int, steps: int) -> dict[str, float]:
    """Training steps per CPU second in each stage, and in full training compiled, after the compiler's minute."""
    config = Phase2Config(world=world.name, human_prior="shortest-path", num_envs=16)
    prior = make_prior(config.human_prior, world, config.params, steps=0, seed=0, say=print)
    learner, actor = Learner(world, prior, config), Actor(world, prior, config, "0")
    learner.take(actor.collect(5_000 // config.num_envs, learner.nets, 0.0, 1.0), 0, 1)
    out = {}
    for stage, at in {**STAGES, "full, compiled": STAGES["full"]}.items():
        if stage not in STAGES:
            learner.fit = compiled_fit(learner.device, print)
        for _ in range(steps):
            learner.update(at)
        speeds = []
        for _ in range(repeats):
            start = time.process_time()
            for _ in range(steps):
                learner.update(at)
            speeds.append(steps / (time.process_time() - start))
        out[stage] = round(statistics.median(speeds), 1)
    return out


def stepping(world: GridWorld, repeats: int, envs: int = 4096, rounds: int = 50) -> float:
    """Environment steps per CPU second, uniformly random, each drawn from its exact successor distribution."""
    joints = joint_actions(world)
    speeds = []
    for repeat in range(repeats + 1):
        rng, start = np.random.default_rng(0), time.process_time()
        for step in range(rounds):
            if step % (world.horizon or rounds) == 0:
                states = np.repeat(world.initial()[None], envs, 0)
            after = world.successors(states, joints[rng.integers(len(joints), size=envs)])
            states = after.states[_drawn(after.probs, after.offsets[:-1], after.offsets[1:], rng)]
        if repeat:  # the first one compiles and fills caches
            speeds.append(envs * rounds / (time.process_time() - start))
    return round(statistics.median(speeds))


def _drawn(probs: np.ndarray, first: np.ndarray, last: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An entry of each [first, last), as likely as it says."""
    reached = np.concatenate([np.zeros(1), np.cumsum(probs, dtype=np.float64)])
    wanted = reached[first] + rng.random(len(first)) * (reached[last] - reached[first])
    return np.clip(np.searchsorted(reached, wanted, "right") - 1, first, last - 1)


def stepping_all(world: GridWorld, repeats: int, envs: int = 4096, rounds: int = 50) -> dict[str, float]:
    """The same with the exact successors of every joint action at hand, worked out once for each state."""
    joints = joint_actions(world)
    speeds = []
    for repeat in range(repeats + 1):
        rng, table = np.random.default_rng(0), StateTable(world)
        ids = np.repeat(table.intern(world.initial()[None]), envs)
        start = time.process_time()
        for step in range(rounds):
            t = np.full(envs, step % (world.horizon or 1))
            if t[0] == 0:
                ids = np.repeat(table.intern(world.initial()[None]), envs)
            ahead = table.ahead(ids, t)
            row = np.arange(envs) * len(joints) + rng.integers(len(joints), size=envs)
            entry = _drawn(ahead.probs, ahead.indptr[row], ahead.indptr[row + 1], rng)
            ids = ahead.ids[ahead.indices[entry]]
        if repeat:  # the first one compiles and fills caches
            speeds.append(envs * rounds / (time.process_time() - start))
    speed = round(statistics.median(speeds))
    return {"steps_per_cpu_second": speed, "joint_actions": len(joints), "states": len(table)}


def whole_runs(repeats: int) -> dict[str, Any]:
    """Wall-clock seconds of the same training, sync and async, in turns."""
    base = Phase2Config(
        world="trivial",
        num_episodes=160,
        num_envs=8,
        updates_per_step=0.125,
        check="never",
        num_actors=2,
        save_freq=10**9,
    )
    kinds = {"sync": replace(base, actor_steps=1), "async": replace(base, use_async=True, actor_steps=16)}
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(repeats):
        for name, config in kinds.items():
            folder = Path(tempfile.mkdtemp(prefix="power-training-"))
            try:
                train_power(config, folder / "run", progress=False)
                lines = read_lines(folder / "run" / "timing.jsonl")
            finally:
                shutil.rmtree(folder)
            first, last = lines[3], lines[-1]  # processes have started by then
            rates[name].append((last["step"] - first["step"]) / (last["seconds"] - first["seconds"]))
    ratios = sorted(a / s for a, s in zip(rates["async"], rates["sync"], strict=True))
    return {
        **{name: round(statistics.median(found), 1) for name, found in rates.items()},
        "async_over_sync": {"median": round(statistics.median(ratios), 2), "all": [round(r, 2) for r in ratios]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40, help="training steps of each measurement")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    result: dict[str, Any] = {
        "machine": machine() | {"threads": 1},
        "torch": torch.__version__,
        "training_steps_per_cpu_second": {},
        "environment_steps": {},
        "earlier": {"training_steps_per_cpu_second": EARLIER, "environment_steps_per_cpu_second": EARLIER_STEPS},
    }
    for name, world in worlds().items():
        found = training(world, args.repeats, args.steps)
        ratio = {stage: round(speed / EARLIER[name][stage.split(",")[0]], 1) for stage, speed in found.items()}
        result["training_steps_per_cpu_second"][name] = {**found, "times_the_earlier": ratio}
        result["environment_steps"][name] = {
            "steps_per_cpu_second": stepping(world, args.repeats),
            "with every joint action": stepping_all(world, args.repeats),
        }
        print(name, found, ratio, result["environment_steps"][name], flush=True)
    result["whole_runs_steps_per_second"] = whole_runs(args.repeats)
    print(result["whole_runs_steps_per_second"])
    write_json(args.out, result)


if __name__ == "__main__":
    main()
