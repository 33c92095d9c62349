"""Runs of a benchmark side by side, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import islice
from multiprocessing import get_context
from typing import Any


def side_by_side(work: Callable[..., dict[str, Any]], wanted: Iterable[tuple], jobs: int) -> Iterator[dict[str, Any]]:
    """What `work` makes of each of `wanted`, `jobs` at a time, as it is done; after a failure none is begun."""
    left = iter(wanted)
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        running = {pool.submit(work, *run) for run in islice(left, jobs)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from (each.result() for each in done)
            running |= {pool.submit(work, *run) for run in islice(left, len(done))}
