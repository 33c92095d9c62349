"""One thread or two? The same update, eager, timed by the wall clock with 1 and 2 torch threads, turn by turn.

    python benchmarks/threads.py

Writes docs/results/threads.json. The default of `--threads` is 1 because of it.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from figures import machine, quartiles
from speed import filled_store, ours

OUT = Path(__file__).parent.parent / "docs" / "results" / "threads.json"
UPDATES, TURNS = 40, 25


def main() -> None:
    run = ours(filled_store(np.random.default_rng(0)), "rrd", False, False)
    run(UPDATES)
    ms: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(TURNS):
        for threads in ms:
            torch.set_num_threads(threads)
            start = time.perf_counter()
            run(UPDATES)
            ms[threads].append((time.perf_counter() - start) / UPDATES * 1e3)
    ratio = [one / two for one, two in zip(ms[1], ms[2], strict=True)]
    result = {
        "machine": machine(),
        "torch": torch.__version__,
        "wall_ms_per_update": {str(threads): quartiles(values) for threads, values in ms.items()},
        "speed_of_two_threads_relative_to_one": quartiles(ratio),
    }
    OUT.write_text(json.dumps(result, indent=1) + "\n")
    print(f"two threads against one: {statistics.median(ratio):.2f}x")


if __name__ == "__main__":
    main()
