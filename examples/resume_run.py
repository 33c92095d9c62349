"""A run that is killed in its middle and goes on ends with the very numbers of one that was never disturbed.

python examples/resume_run.py --steps 3000 --out runs/resume
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from apportion import OnlineConfig, RewardConfig, SACConfig, resume, train_online


def settings(steps: int) -> OnlineConfig:
    return OnlineConfig(
        "Reacher-v5",
        reward=RewardConfig("rrd", rrd_sample_size=32),
        agent=SACConfig(hidden=(64, 64)),
        steps=steps,
        warmup=steps // 4,
        log_every=steps // 10,
        eval_every=steps // 2,
        test_rollouts=2,
        save_freq=steps // 5,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--out", type=Path, default=Path("runs/resume"), help="directory, must not exist")
    parser.add_argument("--to-be-killed", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    whole, killed = args.out / "whole", args.out / "killed"
    if args.to_be_killed:
        train_online(settings(args.steps), killed, progress=False)
        return
    train_online(settings(args.steps), whole, progress=False)

    command = [sys.executable, __file__, "--steps", str(args.steps), "--out", str(args.out), "--to-be-killed"]
    process = subprocess.Popen(command)
    while not list(killed.glob("checkpoints/step_*/manifest.json")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()  # kill -9
    process.wait()
    lines = (killed / "metrics.jsonl").read_text().count("\n")
    print(f"killed after {lines} lines of metrics.jsonl")
    resume(killed, progress=False)
    same = (whole / "metrics.jsonl").read_bytes() == (killed / "metrics.jsonl").read_bytes()
    print(f"metrics.jsonl of both runs: {'the same bytes' if same else 'DIFFERENT'}")
    sys.exit(not same)


if __name__ == "__main__":
    main()
