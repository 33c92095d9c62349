"""How near do the cheaper human priors come to exact Phase 1? Total variation on every shipped world.

    python benchmarks/power_priors.py                   # some minutes on one core

States are those of 40 episodes of people who follow the exact prior beside a robot that acts uniformly at random.
For each human and each goal that does not hold yet, the total variation between the exact pi_h and that of: shortest
paths; a learned prior (the default 5,000 training steps); uniform actions. Means over states, humans and goals.
Writes docs/results/power-priors.json.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apportion.power.grid.world import load_world, shipped_worlds
from apportion.power.learn.act import Actor
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.estimators import make_estimators
from apportion.power.learn.priors import make_prior
from apportion.run.files import write_json
from apportion.types import UserError
from figures import machine

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "power-priors.json"
PRIORS = ("shortest-path", "learned")
EPISODES = 40


def row(name: str) -> dict[str, Any]:
    world = load_world(name)
    config = Phase2Config(world=name, num_envs=EPISODES)
    exact = make_prior("exact", world, config.params, steps=0, seed=0, say=print)
    nets = make_estimators(world, config, torch.Generator().manual_seed(0))
    steps = Actor(world, exact, config, "0").collect(world.horizon or 50, nets, 0.0, 1.0)
    wanted = exact(steps.state, steps.t)
    open_goals = ~world.attained(steps.state)
    uniform = np.zeros_like(wanted)
    for h, agent in enumerate(world.humans):
        uniform[:, h, :, : len(world.actions[agent])] = 1 / len(world.actions[agent])

    def distance(found: np.ndarray) -> float:
        return round(float((np.abs(found - wanted).sum(-1) / 2)[open_goals].mean()), 4)

    out: dict[str, Any] = {"world": name, "states": len(steps.t), "uniform": distance(uniform)}
    for prior in PRIORS:
        start = time.process_time()
        try:
            made = make_prior(prior, world, config.params, steps=config.prior_steps, seed=0, say=lambda line: None)
            out[prior] = distance(made(steps.state, steps.t))
        except UserError as error:
            out[prior] = str(error)
        out[f"{prior}_cpu_seconds"] = round(time.process_time() - start, 1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", nargs="+", default=list(shipped_worlds()), metavar="WORLD")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in args.worlds:
        rows.append(row(name))
        print(rows[-1], flush=True)
    write_json(args.out, {"machine": machine() | {"threads": 1}, "torch": torch.__version__, "rows": rows})


if __name__ == "__main__":
    main()
