"""`apportion sweep FILE`: many runs from one file, in processes of this machine or on a Ray cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apportion.flags import Parser
from apportion.types import UserError

if TYPE_CHECKING:
    from apportion.train.sweep_runs import Sweep

_ABOUT = (
    "Make the runs that FILE asks for: command: (train, fit or power train), vary: {flag: [values]}, seeds: [...]. "
    "A run that fails does not stop the others; the same command again goes on with those that are not finished."
)


def main(argv: Sequence[str]) -> int:
    """One command line. Returns the exit code; raises UserError for slips."""
    parser = Parser("apportion sweep", _ABOUT)
    parser.add_argument("file", type=Path, help="YAML")
    parser.add_argument("--on", default="local", help="local (processes here), ray, or ray:ADDRESS (default: local)")
    parser.add_argument("--jobs", type=int, default=0, help="so many runs at once; 0: as many as there are cores for")
    parser.add_argument("--name", default="", help="the runs go to RUNS_DIR/NAME (default: the file's name)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    parser.add_argument("--send-back", action="store_true", help="on ray: machines share no disk; runs are sent back")
    parser.add_argument("--dry-run", action="store_true", help="print the command lines and start nothing")
    args = parser.parse(argv)
    kind, _, address = args.on.partition(":")
    if kind not in ("local", "ray") or (kind == "local" and address):
        raise UserError(f"--on {args.on}: local, ray, or ray:ADDRESS")
    if args.send_back and kind == "local":
        raise UserError("--send-back is for --on ray: here every run is in its place already")
    from apportion.train.sweep_runs import check, check_world, read_sweep, unfinished

    sweep = read_sweep(args.file)
    for words in sweep.runs.values():
        check(words)
    root = args.runs_dir / (args.name or sweep.name)
    for todo in unfinished(root, sweep):
        check_world(todo)
    if args.dry_run:
        for name, words in sweep.runs.items():
            print(f"{name}: apportion {' '.join(words)}")
        return 0
    try:
        return _run(root, sweep, address or "auto" if kind == "ray" else "", args.jobs, args.send_back)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command goes on") from None


def _run(root: Path, sweep: Sweep, address: str, jobs: int, send_back: bool) -> int:
    from apportion.train.seeds import at_once, exit_code, run_all
    from apportion.train.sweep_runs import as_job, option, unfinished, write_plan

    threads = int(option(next(iter(sweep.runs.values())), "threads", "1"))
    cluster = None
    if address:
        from apportion.train.workers_ray import RayCluster

        cluster = RayCluster(address, threads)
    try:
        write_plan(root, sweep)
        todo = unfinished(root, sweep)
        done = len(sweep.runs) - len(todo)
        print(f"{len(sweep.runs)} runs in {root}" + (f", {done} of them finished already" if done else ""), flush=True)
        seen_as = Path(root.name) if send_back else root.resolve()
        work = [as_job(one, root, seen_as) for one in todo]
        if cluster is None:
            codes = run_all(work, at_once(jobs, threads), threads, 0)
        else:
            from apportion.train.sweep_ray import start_on

            count = jobs if jobs > 0 else max(1, cluster.cores // threads)
            codes = run_all(work, count, threads, 0, start_on(cluster, send_back))
    finally:
        if cluster is not None:
            cluster.leave()
    failed = [job.label for job, code in zip(work, codes, strict=True) if code]
    if failed:
        print(f"{len(failed)} of {len(sweep.runs)} failed: {', '.join(failed)}", file=sys.stderr)
    if len(failed) < len(sweep.runs):
        print(f"apportion report {root}")
    return exit_code(codes)
