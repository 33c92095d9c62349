"""Does training come to every state? All reachable states of a world of 256, by env steps.

    python benchmarks/power_coverage.py                 # some minutes on one core

The world is `trivial` without a horizon: two agents, 256 states that can be reached. Runs have the specification's
default settings (epsilon 1 to .01 over 10,000 steps, the ramp of beta_r, networks), 16 environments side by side, and
a training step for every 50 environment steps, for what is asked here is where the policy goes, not how well it does.
A state counts once somebody was in it; looking ahead does not count. Earlier public work reports 75 % of the states of
a 256-state world after 250,000 steps. Writes docs/results/power-coverage.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from apportion.power.cache import compile_world
from apportion.power.grid.world import load_world
from apportion.power.learn.act import Actor
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.learner import Learner
from apportion.power.learn.priors import make_prior
from apportion.power.learn.stages import beta_r_at, epsilon_at
from apportion.power.learn.states import keys_of
from apportion.run.files import write_json
from figures import machine

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "power-coverage.json"
STEPS, ROUNDS, EVERY = 250_000, 50, 50  # env steps; steps of each environment at a time; env steps per training step


def run(curiosity: float, seed: int) -> dict[str, Any]:
    world = load_world("trivial").with_horizon(None)
    config = Phase2Config(world=world.name, seed=seed, num_envs=16, curiosity=curiosity, human_prior="shortest-path")
    prior = make_prior(config.human_prior, world, config.params, steps=0, seed=seed, say=print)
    learner, actor = Learner(world, prior, config), Actor(world, prior, config, "0")
    reachable = set(keys_of(compile_world(world, None).states))
    seen: set[bytes] = set()
    curve, step, done = [], 0, None
    while step < STEPS:
        steps = actor.collect(ROUNDS, learner.nets, beta_r_at(config, step), epsilon_at(config, step))
        learner.take(steps, step, step + len(steps.t))
        step += len(steps.t)
        for _ in range(len(steps.t) // EVERY):
            learner.update(step)
        seen.update(keys_of(steps.state), keys_of(steps.next_state))
        assert seen <= reachable
        curve.append({"step": step, "share": round(len(seen) / len(reachable), 4)})
        if done is None and len(seen) == len(reachable):
            done = step
    return {"curiosity": curiosity, "seed": seed, "states": len(reachable), "all_after": done, "curve": curve[::12]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--curiosity", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    runs = []
    for curiosity in args.curiosity:
        for seed in range(args.seeds):
            runs.append(run(curiosity, seed))
            print({k: v for k, v in runs[-1].items() if k != "curve"}, runs[-1]["curve"][-1], flush=True)
    write_json(args.out, {"machine": machine() | {"threads": 1}, "torch": torch.__version__, "runs": runs})


if __name__ == "__main__":
    main()
