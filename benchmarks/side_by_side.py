"""Runs of a benchmark side by side, each in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from typing import Any


def side_by_side(work: Callable[..., dict[str, Any]], wanted: Iterable[tuple], jobs: int) -> Iterator[dict[str, Any]]:
    """What `work` makes of each of `wanted`, `jobs` at a time, as it is done; after a failure no more are begun."""
    with ProcessPoolExecutor(jobs, get_context("spawn"), max_tasks_per_child=1) as pool:
        pending = [pool.submit(work, *run) for run in wanted]
        try:
            for done in as_completed(pending):
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)
