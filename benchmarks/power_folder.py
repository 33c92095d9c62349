"""One policy for many worlds: how much of the exact policies' gain does it have where it has never been?

    python benchmarks/power_folder.py --jobs 2        # an hour or two; goes on where it was stopped

Folders of generated worlds (three obstacles, seeds 0, 1, ...), a quarter of each held out. `train_power` with the
preset `quick` learns one policy for the rest; at the end it is held against the exact solution of every world, of both
kinds. The share is 0 for acting at random and 1 for the solution of that very world. Reported are the mean over worlds
and the world that goes worst, for each run; no run is left out. Writes docs/results/power-folder.json after every run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from apportion.config import to_json
from apportion.power.grid.generate import obstacle_world
from apportion.power.learn.presets import PRESETS
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from apportion.train.power import train_power
from side_by_side import into_file

RESULTS = Path(__file__).parent.parent / "docs" / "results" / "power-folder.json"
OBSTACLES = 3
SETTINGS = replace(PRESETS["quick"].config(), held_out=0.25, save_freq=10**9, compile=True)


def trained(worlds: int, episodes: int, seed: int) -> dict[str, Any]:
    """One run: its last check, and what it took."""
    start, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix="power-folder-") as place:
        maps, run = Path(place) / "maps", Path(place) / "run"
        maps.mkdir()
        for i in range(worlds):
            (maps / f"w{i:03d}.yaml").write_text(yaml.safe_dump(obstacle_world(OBSTACLES, i)))
        train_power(replace(SETTINGS, world=str(maps), num_episodes=episodes, seed=seed), run, progress=False)
        if not RunDir(run).info().get("finished"):
            raise SystemExit("stopped: this run does not count; the same command makes it anew")
        last = read_lines(run / "evaluations.jsonl")[-1]
    took = {"seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    return {"worlds": worlds, "episodes": episodes, "seed": seed, **took, "last": last}


def line(run: dict[str, Any]) -> str:
    last = run["last"]
    met, unmet = (
        f"{last[f'{kind}share']:.3f} (least {last[f'{kind}share/least']:.3f}), TV {last[f'{kind}pi_r/tv_mean']:.4f}"
        for kind in ("", "held_out/")
    )
    return f"{run['worlds']} worlds, seed {run['seed']}: share {met}; held out {unmet}; {run['cpu_seconds']:.0f} CPU s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, nargs="+", default=[8, 32], help="in a folder")
    parser.add_argument("--episodes", type=int, default=PRESETS["quick"].config().num_episodes)
    parser.add_argument("--seeds", type=int, default=3, help="of each folder")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, in processes of one thread each")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    wanted = [(worlds, args.episodes, seed) for seed in range(args.seeds) for worlds in args.worlds]
    used = to_json(SETTINGS) | {"obstacles": OBSTACLES}
    into_file(args.out, used, trained, wanted, ("worlds", "episodes", "seed"), line, args.jobs)


if __name__ == "__main__":
    main()
