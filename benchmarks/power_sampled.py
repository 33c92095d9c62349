"""Where the learner sees only what happens: sampled mode, against an exact solution and against simulation.

    python benchmarks/power_sampled.py --jobs 2       # some minutes a seed; goes on where it was stopped

`train_power` with the preset `sampled`, in two worlds that are no grids. Tag-along, a PettingZoo parallel environment,
is small enough to be solved, though nothing of that is shown to the learner: its values and policy are held against
the exact solution, as in power_learning.py. The point masses move in a continuum of states. There every robot is
simulated: people follow the run's own prior, each for each of their goals, and how often they come to it (discounted)
is V_h^e of that robot, from which follow X_h and U_r. The learned robot is put beside others at the start of the
world, and the learned V_h^e beside the simulated one, in states of episodes that it played. Seeds are 0, 1, ...; no
run is left out. Writes docs/results/power-sampled.json after every run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apportion.config import to_json
from apportion.power import equations as eq
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.goals import draw
from apportion.power.learn.opened import Opened, open_trained
from apportion.power.learn.play import play
from apportion.power.learn.presets import PRESETS
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from apportion.train.power import train_power
from side_by_side import into_file

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "power-sampled.json"
TAG_ALONG, POINT_MASS = "apportion.power.tag_along:world", "apportion.power.point_mass:PointMass"
EPISODES = 1_000  # simulated for each human and goal at the start
AGAIN, COURSES, TIMES = 200, 10, (0, 5, 10, 15)  # the same in each of these states
Robot = Callable[[np.ndarray, int], np.ndarray]  # states (n, F), steps so far -> probabilities (n, R)


def settings(world: str, seed: int) -> Phase2Config:
    config = replace(PRESETS["sampled"].config(), world=world, seed=seed, save_freq=10**9, compile=True)
    if world == POINT_MASS:  # nobody can say what the robot's worst would be
        return replace(config, human_prior="learned", params=replace(config.params, robot_belief="mean"))
    return config


def trained(world: str, seed: int) -> dict[str, Any]:
    """One run, and how right it is."""
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="power-sampled-") as place:
        run = Path(place) / "run"
        train_power(settings(world, seed), run, progress=False)
        if not RunDir(run).info().get("finished"):
            raise SystemExit("stopped: this run does not count; the same command makes it anew")
        took = {"seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
        right = simulated(open_trained(run), seed) if world == POINT_MASS else read_lines(run / "evaluations.jsonl")[-1]
    return {"world": world, "seed": seed, **took, **right}


def simulated(run: Opened, seed: int) -> dict[str, Any]:
    """X_h in bits and U_r at the start under five robots; the root of the mean squared error of the learned V_h^e."""
    rng, params = np.random.default_rng(seed), run.config.params
    first = run.world.initial()[None]
    robots: dict[str, Robot] = {"learned": run.policy, "its most probable actions": greedy(run)}
    for name, pi in (("at random", [1 / 3, 1 / 3, 1 / 3]), ("still", [1, 0, 0]), ("always opens", [0, 1, 0])):
        robots[name] = always(pi)
    weights = torch.as_tensor(run.world.goal_weights)
    found: dict[str, Any] = {}
    for name, robot in robots.items():
        values = torch.from_numpy(attainment(run, robot, first, 0, EPISODES, rng)[0])
        x = eq.power(values, weights, params.zeta)
        found[name] = {"bits": torch.log2(x)[0].tolist(), "U_r": float(eq.robot_reward(x, params.xi, params.eta))}
    courses = [play(run, seed=i).course.states for i in range(COURSES)]
    squares = []
    for t in TIMES:
        states = np.stack([course[t] for course in courses])
        values, chance = attainment(run, run.policy, states, t, AGAIN, rng)
        learned = run.values(states, np.full(len(states), t)).v_e.numpy()
        squares.append((learned - values) ** 2 - chance)  # what simulation adds by itself is taken off
    return {"robots": found, "v_h_e/rmse": float(np.sqrt(max(np.mean(squares), 0)))}


def greedy(run: Opened) -> Robot:
    return lambda states, t: np.eye(len(run.world.actions[run.world.robots[0]]))[run.policy(states, t).argmax(1)]


def always(pi: Sequence[float]) -> Robot:
    return lambda states, t: np.tile(pi, (len(states), 1))


def attainment(
    run: Opened, robot: Robot, states: np.ndarray, t: int, episodes: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """V_h^e (n, H, G) of `states` (n, F) after `t` steps by simulation, and the variance of that estimate.

    As in equation (6): one human follows a goal, the others act as people do of whom nobody knows the goal.
    """
    world, prior, params = run.world, run.prior(), run.config.params
    people, goals = len(world.humans), len(world.goals)
    rows = len(states) * people * goals * episodes
    which, human, goal, _ = (x.ravel() for x in np.indices((len(states), people, goals, episodes)))
    at, worth, still_on = states[which], np.zeros(rows), np.ones(rows, bool)
    every = np.arange(rows)
    for now in range(t, world.horizon or 0):
        pi = prior(at, np.full(rows, now))
        joint = np.zeros((rows, len(world.agents)), np.int64)
        for h, agent in enumerate(world.humans):
            unknown = np.einsum("nga,g->na", pi[:, h], world.goal_weights)
            joint[:, agent] = draw(np.where((human == h)[:, None], pi[every, h, goal], unknown), rng.random(rows))
        joint[:, world.robots[0]] = draw(robot(at, now), rng.random(rows))
        at = world.sample(at, joint, rng.random(rows))
        there = still_on & world.attained(at)[every, human, goal]
        worth[there] = params.gamma_h ** (now - t)
        still_on &= ~there
    each = worth.reshape(len(states), people, goals, episodes)
    return each.mean(-1), each.var(-1, ddof=1) / episodes


def line(run: dict[str, Any]) -> str:
    if run["world"] == TAG_ALONG:
        says = f"share {run['share']:.3f}, TV {run['pi_r/tv_mean']:.3f}, V_h^e {run['v_h_e/relative_mean']:.1%} off"
    else:
        bits = (f"{name} {' '.join(f'{b:.2f}' for b in at['bits'])}" for name, at in run["robots"].items())
        says = f"bits: {', '.join(bits)}; V_h^e {run['v_h_e/rmse']:.3f} off"
    return f"{run['world']} seed {run['seed']}: {says}; {run['cpu_seconds']:.0f} CPU seconds"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="of each world")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, in processes of one thread each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    used = {world: to_json(settings(world, 0)) for world in (TAG_ALONG, POINT_MASS)}
    wanted = [(world, seed) for seed in range(args.seeds) for world in used]
    into_file(args.out, used, trained, wanted, ("world", "seed"), line, args.jobs)


if __name__ == "__main__":
    main()
