"""Where the learner sees only what happens: sampled mode, against an exact solution and against simulation.

    python benchmarks/power_sampled.py --jobs 2       # some minutes a seed; goes on where it was stopped

`train_power` with the preset `sampled`, in two worlds that are no grids. Tag-along, a PettingZoo parallel environment,
is small enough to be solved. The learner is shown nothing of that but what people do (Phase 1): its values and policy
are held against the exact solution, as in power_learning.py. The point masses move in a continuum of states. There
robots are simulated: people follow the run's own prior, each for each of their goals (the others do what people do of
whom nobody knows the goal), and how often they come to it, discounted, is V_h^e of that robot. From it follow X_h, U_r
and, over simulated episodes, V_r; that X_h comes from few of them makes V_r a little too low, for all robots alike.
So the learned robot is put beside others, and the learned values beside the simulated ones. Seeds are 0, 1, ...; no run
is left out. Writes docs/results/power-sampled.json after every run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apportion.config import to_json
from apportion.power import equations as eq
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.goals import draw
from apportion.power.learn.opened import Opened, open_trained
from apportion.power.learn.presets import PRESETS
from apportion.power.learn.prior import HumanPrior
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from apportion.train.power import train_power
from apportion.train.process import torch_threads
from side_by_side import into_file

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "power-sampled.json"
TAG_ALONG, POINT_MASS = "apportion.power.tag_along:world", "apportion.power.point_mass:PointMass"
COURSES, AGAIN = 60, 40  # simulated for each robot; and from each of their states for each human and goal
START = 1_000  # the same at the start
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
        if world == TAG_ALONG:
            right = read_lines(run / "evaluations.jsonl")[-1]
        else:
            with torch_threads(1):
                right = simulated(open_trained(run), seed)
    return {"world": world, "seed": seed, **took, **right}


def simulated(run: Opened, seed: int) -> dict[str, Any]:
    """V_r and powers in bits at the start under five robots, and how far the learned V_h^e and V_r are from that."""
    people, first, params = Simulation(run, run.prior()), run.world.initial()[None], run.config.params
    robots: dict[str, Robot] = {"learned": run.policy, "its most probable actions": greedy(run)}
    robots |= {
        "at random": always([1 / 3, 1 / 3, 1 / 3]),
        "still": always([1, 0, 0]),
        "always opens": always([0, 1, 0]),
    }
    found: dict[str, Any] = {}
    squares = []
    for name, robot in robots.items():
        rng = np.random.default_rng(seed)  # the same luck for each of them, as far as it goes
        x = people.powers(*people.attainment(robot, first, 0, START, rng))
        value = np.zeros(COURSES)
        for t, states in enumerate(people.course(robot, rng)):
            v_e, variance = people.attainment(robot, states, t, AGAIN, rng)
            value += params.gamma_r**t * eq.robot_reward(people.powers(v_e, variance), params.xi, params.eta).numpy()
            if name == "learned":  # what simulation adds to the error by itself is taken off
                learned = run.values(states, np.full(COURSES, t)).v_e.numpy()
                squares.append((learned - v_e) ** 2 - variance)
        spread = float(value.std(ddof=1) / COURSES**0.5)
        found[name] = {"bits": torch.log2(x)[0].tolist(), "V_r": float(value.mean()), "V_r/standard_error": spread}
    v_r = float(run.values(first, np.zeros(1, np.int64)).v[0])
    return {"robots": found, "learned/V_r": v_r, "learned/v_h_e/rmse": float(np.sqrt(max(np.mean(squares), 0)))}


@dataclass(frozen=True)
class Simulation:
    """The people of a run, beside any robot."""

    run: Opened
    prior: HumanPrior

    def course(self, robot: Robot, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """States (COURSES, F) from the start on, at each time before the end."""
        world = self.run.world
        at = np.repeat(world.initial()[None], COURSES, 0)
        for t in range(world.horizon or 0):
            yield at
            at = world.sample(at, self.acts(robot, at, t, rng), rng.random(COURSES))

    def attainment(
        self, robot: Robot, states: np.ndarray, t: int, episodes: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """V_h^e (n, H, G) of (6) in `states` (n, F) after `t` steps, and the variance of that estimate."""
        world, gamma = self.run.world, self.run.config.params.gamma_h
        shape = (len(states), len(world.humans), len(world.goals), episodes)
        which, human, goal, _ = (x.ravel() for x in np.indices(shape))
        at, worth, still_on = states[which], np.zeros(len(which)), np.ones(len(which), bool)
        for now in range(t, world.horizon or 0):
            at = world.sample(at, self.acts(robot, at, now, rng, (human, goal)), rng.random(len(at)))
            there = still_on & world.attained(at)[np.arange(len(at)), human, goal]
            worth[there] = gamma ** (now - t)
            still_on &= ~there
        each = worth.reshape(shape)
        return each.mean(-1), each.var(-1, ddof=1) / episodes

    def powers(self, v_e: np.ndarray, variance: np.ndarray) -> torch.Tensor:
        """X_h (n, H) of (7) for zeta 2, without what the variance of the estimates V_h^e adds to their squares."""
        assert self.run.config.params.zeta == 2
        x = ((v_e**2 - variance) * self.run.world.goal_weights).sum(-1)
        return torch.from_numpy(x.clip(1e-3, 1))

    def acts(
        self,
        robot: Robot,
        states: np.ndarray,
        t: int,
        rng: np.random.Generator,
        known: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> np.ndarray:
        """Everybody's actions (n, N). `known`: in each state, one human follows a known goal; nobody knows others'."""
        world, n = self.run.world, len(states)
        pi = self.prior(states, np.full(n, t))
        joint = np.zeros((n, len(world.agents)), np.int64)
        for h, agent in enumerate(world.humans):
            does = np.einsum("nga,g->na", pi[:, h], world.goal_weights)
            if known is not None:
                human, goal = known
                does = np.where((human == h)[:, None], pi[np.arange(n), h, goal], does)
            joint[:, agent] = draw(does, rng.random(n))
        joint[:, world.robots[0]] = draw(robot(states, t), rng.random(n))
        return joint


def greedy(run: Opened) -> Robot:
    return lambda states, t: np.eye(len(run.world.actions[run.world.robots[0]]))[run.policy(states, t).argmax(1)]


def always(pi: Sequence[float]) -> Robot:
    return lambda states, t: np.tile(pi, (len(states), 1))


def line(run: dict[str, Any]) -> str:
    if run["world"] == TAG_ALONG:
        says = f"share {run['share']:.3f}, TV {run['pi_r/tv_mean']:.3f}, V_h^e {run['v_h_e/relative_mean']:.1%} off"
    else:
        values = (f"{name} {at['V_r']:.1f}" for name, at in run["robots"].items())
        says = (
            f"V_r {', '.join(values)}; learned V_r {run['learned/V_r']:.1f}, V_h^e {run['learned/v_h_e/rmse']:.3f} off"
        )
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
