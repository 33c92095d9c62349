"""Runs of a benchmark side by side, each in a process of its own; a second call goes on with what is in the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from apportion.run.files import write_json
from figures import machine


def side_by_side(work: Callable[..., dict[str, Any]], wanted: Iterable[tuple], jobs: int) -> Iterator[dict[str, Any]]:
    """What `work` makes of each of `wanted`, `jobs` at a time, as it is done; after a failure none is begun."""
    left = iter(wanted)
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(work, *run) for run in islice(left, jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (each.result() for each in done)
            running |= {pool.submit(work, *run) for run in islice(left, len(done))}


def into_file(
    out: Path,
    settings: dict[str, Any],
    work: Callable[..., dict[str, Any]],
    wanted: Iterable[tuple],
    names: tuple[str, ...],
    line: Callable[[dict[str, Any]], str],
    jobs: int,
) -> None:
    """Does those of `wanted` that `out` does not have yet, keeps them there, and prints the `line` of each run.

    `names`: under which entries of a run `wanted` is found again. Raises SystemExit if `out` has other `settings`.
    """
    runs: list[dict[str, Any]] = []
    if out.exists():
        before = json.loads(out.read_text())
        if before["settings"] != settings:
            raise SystemExit(f"{out}: the settings were others then: remove the file, or give another --out")
        runs = before["runs"]

    def key(run: dict[str, Any]) -> tuple:
        return tuple(run[name] for name in names)

    known = set(map(key, runs))
    for run in side_by_side(work, [run for run in wanted if run not in known], jobs):
        print(line(run), flush=True)
        runs = sorted([*runs, run], key=key)
        write_json(
            out, {"machine": machine() | {"threads": 1}, "torch": torch.__version__, "settings": settings, "runs": runs}
        )
