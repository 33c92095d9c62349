"""How long does it take, and how much memory, to solve human power exactly, against the number of states? And to step?

    python benchmarks/power.py                   # some 10 minutes on 2 quiet cores
    python benchmarks/power.py --steps 8 10 --repeats 1 --out /tmp/power.json

A world of the shape of `freeing` (two humans shut in by rocks, one robot; 64 joint actions) with more and more steps,
so that it has from 4 thousand to over a million states, counted as (state, step) pairs as in the figures to beat; the
one with 15 steps has 18 goals. Each measurement is a process of its own: it reads the YAML, compiles the world, solves
it in memory, and says what took how long and its peak memory. Numba's code is compiled once before and then comes from
its cache; how long that took is told. Then batched steps of the grid: successors with exact probabilities, and samples.
Writes docs/results/power.json and power.png.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "power.json"
ROWS = """\
  We We We We We We We
  We We .. .. .. We We
  We Ay Ro .. Ro Ay We
  We We .. Ae .. We We
  We We We We We We We
"""
MORE_GOALS = ["1,2,2,2", "2,1,2,3", "3,1,3,3", "4,1,4,3", "4,2,5,2", "2,1,4,1", "2,3,4,3"]  # eleven cells and these: 18
STEPS = (8, 10, 12, 15, 18, 20, 22, 24)
MANY_GOALS = 15  # steps of the measurement with 18 goals
STEPPED = ("trivial", "freeing", "key-door-step-aside", "obstacles-10", "control-button")
# the earlier public implementation on 2 cores, from its own measurements: states, seconds, GB
EARLIER = {"3,728 states, 8 steps": [3728, 145, 0.8], "70,333 states, 15 steps, 18 goals": [70333, 540, 22]}


def yaml_text(steps: int) -> str:
    """The world as a file."""
    cells = [f"{x},{y}" for y, row in enumerate(ROWS.splitlines()) for x, c in enumerate(row.split()) if c != "We"]
    goals = cells + (MORE_GOALS if steps == MANY_GOALS else [])
    return f"map: |\n{ROWS}orientations: [e, w, n]\nmax_steps: {steps}\npossible_goals: {json.dumps(goals)}\n"


def peak_mb() -> float:
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**20


def solve_once(steps: int, threads: int) -> dict[str, Any]:
    """In a fresh process: from the file to the policy."""
    begin = time.perf_counter()
    import torch

    from apportion.power.grid.world import load_world
    from apportion.power.params import PowerParams
    from apportion.power.solve import solve

    torch.set_num_threads(threads)
    imported, before = time.perf_counter(), peak_mb()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "world.yaml"
        path.write_text(yaml_text(steps))
        start = time.perf_counter()
        compiled = load_world(path).compile()
        middle, middle_mb = time.perf_counter(), peak_mb()
        solution = solve(compiled, PowerParams())
        end = time.perf_counter()
    first = solution.at(0)
    return {
        "states": sum(compiled.reached(t) for t in range(steps + 1)),
        "different_states": len(compiled.states),
        "transitions": len(compiled.indices),
        "joint_actions": compiled.joint_actions,
        "goals": len(compiled.goal_weights),
        "import_s": imported - begin,
        "compile_s": middle - start,
        "solve_s": end - middle,
        "yaml_to_policy_s": end - start,
        "imports_mb": before,
        "compile_peak_mb": middle_mb,
        "peak_mb": peak_mb(),
        "V_r": float(first.v[0]),
        "X_h": first.x[0].tolist(),
    }


def step_once(name: str, pairs: int) -> dict[str, Any]:
    """In a fresh process: batched steps of random actions in states that random actions lead to."""
    import numpy as np

    from apportion.power.grid.world import load_world

    world, rng = load_world(name), np.random.default_rng(0)
    counts = [len(actions) for actions in world.actions]

    def joints(n: int) -> np.ndarray:
        return np.stack([rng.integers(count, size=n) for count in counts], 1)

    states = np.repeat(world.initial()[None], pairs, 0)
    for _ in range(20):
        states = world.sample(states, joints(pairs), rng.random(pairs))
    acts, noise = joints(pairs), rng.random(pairs)
    rates: dict[str, list[float]] = {"successors": [], "sample": []}
    found = world.successors(states, acts)
    for _ in range(7):
        start = time.perf_counter()
        world.successors(states, acts)
        middle = time.perf_counter()
        world.sample(states, acts, noise)
        rates["successors"].append(pairs / (middle - start))
        rates["sample"].append(pairs / (time.perf_counter() - middle))
    return {
        "agents": len(counts),
        "joint_actions": int(np.prod(counts)),
        "pairs": pairs,
        "successors_per_pair": len(found.probs) / pairs,
        **{f"{kind}_steps_per_s": statistics.median(rate) for kind, rate in rates.items()},
    }


def fresh(words: list[str]) -> dict[str, Any]:
    """What this script says in a process of its own."""
    command = [sys.executable, str(Path(__file__).resolve()), *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def median_of(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run whose time from YAML to policy is the median one, and the range of these times."""
    ordered = sorted(runs, key=lambda run: run["yaml_to_policy_s"])
    times = [run["yaml_to_policy_s"] for run in ordered]
    return ordered[len(ordered) // 2] | {"yaml_to_policy_range_s": [times[0], times[-1]], "repeats": len(runs)}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    start = time.perf_counter()
    fresh(["--solve", "3", "--threads", str(args.threads)])  # fills numba's cache, if it is not filled
    result: dict[str, Any] = {
        "machine": machine(args.threads),
        "first_run_s": time.perf_counter() - start,
        "solving": {},
        "stepping": {},
        "earlier_implementation": {"columns": ["states", "seconds", "GB"], **EARLIER},
    }
    for steps in args.steps:
        runs = [fresh(["--solve", str(steps), "--threads", str(args.threads)]) for _ in range(args.repeats)]
        result["solving"][str(steps)] = found = median_of(runs)
        print(
            f"{steps} steps, {found['states']:,} states, {found['goals']} goals: {found['yaml_to_policy_s']:.2f} s "
            f"(compile {found['compile_s']:.2f}, solve {found['solve_s']:.2f}), {found['peak_mb']:.0f} MB",
            flush=True,
        )
    for name in args.worlds:
        result["stepping"][name] = found = fresh(["--step", name, "--pairs", str(args.pairs)])
        print(
            f"{name}: {found['successors_steps_per_s']:,.0f} steps/s with all successors, "
            f"{found['sample_steps_per_s']:,.0f} sampled",
            flush=True,
        )
    return result


def machine(threads: int) -> dict[str, Any]:
    from apportion.run.rundir import cpu_name

    return {
        "cpu": cpu_name(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load_before": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "numpy", "numba")},
    }


def picture(result: dict[str, Any], path: Path) -> None:
    """Seconds and peak memory against states, with what the earlier implementation took."""
    from matplotlib.figure import Figure

    from apportion.report.style import BLUE, GREY, ORANGE, save, styled

    @styled
    def draw() -> Figure:
        runs = sorted(result["solving"].values(), key=lambda run: run["states"])
        states = [run["states"] for run in runs]
        earlier = [row for name, row in result["earlier_implementation"].items() if name != "columns"]
        fig = Figure(figsize=(8.3, 3.4), layout="constrained")
        left, right = fig.subplots(1, 2)
        left.loglog(states, [run["yaml_to_policy_s"] for run in runs], "o-", color=BLUE, label="from YAML to policy")
        left.loglog(states, [run["compile_s"] for run in runs], "--", color=ORANGE, label="of that, compiling")
        left.set_title("Seconds")
        right.loglog(states, [run["peak_mb"] / 1024 for run in runs], "o-", color=BLUE, label="peak of the process")
        right.set_title("GB")
        for column, ax in enumerate((left, right), start=1):
            had = [row[column] for row in earlier]
            ax.loglog([row[0] for row in earlier], had, "s", color=GREY, label="earlier implementation")
            ax.set_xlabel("states (state and step)")
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_minor_formatter(lambda x, _: "")
            ax.legend()
        return fig

    save(draw(), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs="+", default=list(STEPS), help="horizons to solve")
    parser.add_argument("--worlds", nargs="*", default=list(STEPPED), help="shipped worlds to step in")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--pairs", type=int, default=200_000, help="states stepped at once")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--solve", type=int, help=argparse.SUPPRESS)  # one measurement, in this process
    parser.add_argument("--step", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.solve is not None:
        print(json.dumps(solve_once(args.solve, args.threads)))
        return
    if args.step is not None:
        print(json.dumps(step_once(args.step, args.pairs)))
        return
    result = measure(args)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    picture(result, args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
