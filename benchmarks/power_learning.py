"""How right the learned answer is: tables and networks against the exact solution of every shipped world.

    python benchmarks/power_learning.py --jobs 2            # hours; goes on where it was stopped
    python benchmarks/power_learning.py --presets lookup --worlds trivial corridor --out /tmp/learning.json

Each run is `train_power` with a preset, held against the exact solution (float64) at eight points of its training, over
every state and time that can be reached. Reported are the mean and the largest error of V_h^e, X_h and log(-Q_r), the
total variation of pi_r, and the share of the value between the uniform and the exact policy that the learned policy
has, by its exact evaluation. Networks are compiled, which changes their numbers by rounding alone. Seeds are 0, 1, ...;
no run is left out. Writes docs/results/power-learning.json after every run, and the picture beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from apportion.power.grid.world import shipped_worlds
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.presets import PRESETS
from apportion.report.style import BLUE, ORANGE, save, styled
from apportion.run.files import write_json
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir, cpu_name
from apportion.train.power import train_power
from side_by_side import side_by_side

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "power-learning.json"
POINTS = 8  # looks at the errors in each run
COLORS = {"lookup": BLUE, "quick": ORANGE}


def trained(world: str, preset: str, seed: int) -> dict[str, Any]:
    """One run: its curve of errors, and what it took."""
    config = settings(world, preset, seed)
    folder = Path(tempfile.mkdtemp(prefix="power-learning-"))
    start, cpu = time.perf_counter(), time.process_time()
    try:
        train_power(config, folder / "run", progress=False)
        if not RunDir(folder / "run").info().get("finished"):
            raise SystemExit("stopped: this run does not count; the same command makes it anew")
        curve = read_lines(folder / "run" / "evaluations.jsonl")
        states = int(read_lines(folder / "run" / "metrics.jsonl")[-1]["states"])
    finally:
        shutil.rmtree(folder)
    took = {"seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    return {"world": world, "preset": preset, "seed": seed, "states": states, **took, "cpu": cpu_name(), "curve": curve}


def settings(world: str, preset: str, seed: int) -> Phase2Config:
    config = replace(PRESETS[preset].config(), world=world, seed=seed, save_freq=10**9, compile=preset == "quick")
    return replace(config, check_every=config.steps // POINTS)


def setting(preset: str) -> dict[str, Any]:
    """What identifies a preset: its settings in full."""
    return plain(settings("", preset, 0))


def plain(config: Phase2Config) -> dict[str, Any]:
    return json.loads(json.dumps({**vars(config), "params": vars(config.params)}, default=str))


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    presets = sorted({run["preset"] for run in runs})
    return {
        "machine": {"platform": platform.platform(), "cores": os.cpu_count(), "threads": 1},  # the last run's
        "torch": torch.__version__,
        "settings": {preset: setting(preset) for preset in presets},
        "final": [row(run) for run in runs],
        "runs": runs,
    }


def row(run: dict[str, Any]) -> dict[str, Any]:
    """The line of one run in the table."""
    last = run["curve"][-1]
    names = ("share", "v_h_e/relative_mean", "x_h/relative_mean", "q_r/relative_mean", "log_q_r/mean", "pi_r/tv_mean")
    picked = {name: last[name] for name in (*names, "pi_r/tv_occupancy", "v_h_e/max", "x_h/max", "log_q_r/max")}
    known = ("world", "preset", "seed", "states", "seconds", "cpu_seconds", "cpu")
    return {**{name: run[name] for name in known}, "steps": last["step"], "updates": last["updates"], **picked}


def line(last: dict[str, Any]) -> str:
    return (
        f"{last['preset']:<7} {last['world']:<22} seed {last['seed']}: share {last['share']:.3f}, "
        f"TV {last['pi_r/tv_mean']:.4f}, V_h^e {last['v_h_e/relative_mean']:.2%}, {last['cpu_seconds']:.0f} CPU seconds"
    )


@styled
def picture(runs: list[dict[str, Any]]) -> Figure:
    """For each world, its share and the total variation of pi_r at the end, a dot for each run."""
    worlds = sorted({run["world"] for run in runs})
    fig = Figure(figsize=(8.3, 0.3 * len(worlds) + 1.6), layout="constrained")
    axes = fig.subplots(1, 2, sharey=True)
    for preset in sorted({run["preset"] for run in runs}):
        mine = [run for run in runs if run["preset"] == preset]
        y = np.array([worlds.index(run["world"]) for run in mine]) + (0.12 if preset == "quick" else -0.12)
        for ax, name in zip(axes, ("share", "pi_r/tv_mean"), strict=True):
            found = [run["curve"][-1][name] for run in mine]
            ax.plot(found, y, "o", color=COLORS[preset], markersize=5, label=preset)
    axes[0].axvline(0.95, color="0.6", linewidth=1)
    axes[0].set_xlabel("share of the exact policy's gain\nover the uniform one (line: .95)")
    axes[1].set_xlabel("mean total variation of pi_r\nfrom the exact policy")
    axes[1].set_xscale("log")
    axes[0].set_yticks(range(len(worlds)), worlds)
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return fig


def done_before(out: Path) -> list[dict[str, Any]]:
    """The runs in `out`. Ends where they were made with other settings."""
    if not out.exists():
        return []
    found = json.loads(out.read_text())
    unsaid = plain(Phase2Config())  # of a setting that came later
    for preset, then in found["settings"].items():
        if {**unsaid, **then} != setting(preset):
            raise SystemExit(f"{out}: preset {preset} had other settings then: remove the file, or give another --out")
    return found["runs"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = shipped_worlds()
    parser.add_argument("--worlds", nargs="+", default=list(names), choices=names, metavar="WORLD")
    parser.add_argument("--presets", nargs="+", default=["lookup", "quick"], choices=["lookup", "quick"])
    parser.add_argument("--seeds", type=int, default=1, help="of each world and preset (default: 1)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, in processes of one thread each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    runs = done_before(args.out)
    known = {(run["world"], run["preset"], run["seed"]) for run in runs}
    wanted = [(w, p, seed) for seed in range(args.seeds) for p in args.presets for w in args.worlds]
    for run in side_by_side(trained, [run for run in wanted if run not in known], args.jobs):
        print(line(row(run)), flush=True)
        runs = sorted([*runs, run], key=lambda run: (run["preset"], run["seed"], run["world"]))
        write_json(args.out, summary(runs))
    save(picture(runs), args.out.with_suffix(".png"))


if __name__ == "__main__":
    main()
