"""The quick start: Reacher-v5 with its rewards withheld, learned by RRD and, beside it, by the agent without RRD."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apportion.flags import Parser, free_path
from apportion.report.html import write_report
from apportion.train.seeds import Job, at_once, exit_code, run_all
from apportion.types import UserError


@dataclass(frozen=True)
class _Arm:
    label: str
    flags: tuple[str, ...]


ARMS = (
    _Arm("rrd", ()),
    _Arm("episodic", ("--alg", "none", "--env-type", "ep_rews")),
)


def main(argv: list[str]) -> int:
    """`apportion demo`: two runs in two processes, then one report over both. Returns the exit code."""
    parser = Parser("apportion demo", "Learn Reacher-v5 from episodic returns alone: RRD beside plain SAC. ~5 minutes.")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"), help="directory (default: runs/demo)")
    parser.add_argument("--steps", type=int, default=15_000, help="env steps of each run (default: 15000)")
    parser.add_argument("--seed", type=int, default=0, help="of both runs (default: 0)")
    args = parser.parse(argv)
    if args.steps <= 1000:
        raise UserError(f"--steps {args.steps}: the warm-up alone takes 1,000; 15,000 show something")
    out = free_path(args.out)
    print(
        "Reacher-v5, its per-step rewards withheld: only the return of each episode is told.\n"
        "rrd       SAC on rewards that randomized return decomposition works out\n"
        "episodic  the same SAC on the return alone, paid at the episode's last step",
        flush=True,
    )
    common = ("train", "quickstart", "--steps", str(args.steps), "--seed", str(args.seed), "--runs-dir", str(out))
    jobs = [Job(arm.label, (*common, "--name", arm.label, *arm.flags), out / arm.label) for arm in ARMS]
    codes = run_all(jobs, at_once(0, 1), threads=1, steps=args.steps)
    if any(codes):
        return exit_code(codes)
    print(f"report: {write_report([job.run for job in jobs], out / 'report.html')}")
    return 0
