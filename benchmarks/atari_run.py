"""A whole run on an Atari game, from the first frame to the page: how many frames a second?

    python benchmarks/atari_run.py                    # on a quiet machine with 2 cores: some minutes

RRD + DQN on an episodic return, with the released settings, but for a warm-up (a fifth) and a fall of epsilon (half)
that fit into the run, and two evaluations and checkpoints. Everything counts: playing, learning, evaluating,
checkpoints with all frames, the page at the end. Frames are the emulator's, four to a step of the agent. It shows that
the loop holds together and what it costs; nobody learns Assault from so little.
Writes docs/results/atari-run.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from apportion import train_online, write_report
from apportion.config import OnlineConfig
from apportion.presets import PRESETS
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from figures import machine

OUT = Path(__file__).parent.parent / "docs" / "results" / "atari-run.json"
SKIP = 4  # frames to a step


def settings(game: str, steps: int, threads: int) -> OnlineConfig:
    config = PRESETS["rrd-dqn"].config(game)
    return replace(
        config,
        steps=steps,
        warmup=steps // 5,
        agent=replace(config.agent, eps_decay=steps // 2),  # type: ignore[call-arg]
        eval_every=steps // 2,
        save_freq=steps // 2,
        threads=threads,
    )


def measured(config: OnlineConfig) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run, start = Path(folder) / "run", time.perf_counter()
        train_online(config, run, progress=False)
        if not RunDir(run).info().get("finished"):
            raise SystemExit("stopped: this is no whole run; the same command makes it anew")
        trained = time.perf_counter() - start
        page = write_report([run], run / "report.html").stat().st_size
        seconds = time.perf_counter() - start
        evaluations, metrics = read_lines(run / "evaluations.jsonl"), read_lines(run / "metrics.jsonl")
        timing = read_lines(run / "timing.jsonl")
        disk = sum(file.stat().st_size for file in run.rglob("*") if file.is_file())
    learning = [line for line in timing if line["step"] >= config.warmup]
    first, last = learning[0], learning[-1]
    return {
        "frames": SKIP * config.steps,
        "seconds": round(seconds, 1),
        "seconds_of_training": round(trained, 1),
        "frames_per_second": round(SKIP * config.steps / seconds, 1),
        "frames_per_second_while_learning": round(
            SKIP * (last["step"] - first["step"]) / (last["seconds"] - first["seconds"]), 1
        ),
        "peak_megabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "run_directory_megabytes": round(disk / 1e6),
        "page_kilobytes": page // 1000,
        "last_metrics": metrics[-1],
        "evaluations": [{"step": line["step"], "returns": line["returns"]} for line in evaluations],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--game", default="Assault")
    parser.add_argument("--frames", type=int, default=100_000, help="at least 20,000")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if args.frames < 20_000:
        parser.error(
            f"--frames {args.frames}: at least 20,000, for an episode to end in the warm-up, and a time after it"
        )
    found = measured(settings(args.game, args.frames // SKIP, args.threads))
    result = {
        "machine": machine(),
        "torch": torch.__version__,
        "game": args.game,
        "threads": args.threads,
        **found,
    }
    args.out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{found['frames_per_second']} frames/s over the whole, {found['seconds']} s for {found['frames']:,} frames")


if __name__ == "__main__":
    main()
