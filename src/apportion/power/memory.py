"""How much memory a solve will take, before it takes it."""

from __future__ import annotations

import os
from pathlib import Path

from apportion.power.compiled import Compiled
from apportion.power.sweeps import shape_of
from apportion.types import UserError

GIB = 1 << 30


def available_memory() -> int:
    """Bytes that a program can use now without swapping; half of all memory where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def needed(compiled: Compiled, chunk_bytes: int, in_folder: bool) -> int:
    """Bytes that solving takes beside `compiled` itself, roughly and rather too many than too few."""
    shape, states = shape_of(compiled), len(compiled.states)
    per_state = 8 * shape.columns
    if compiled.horizon is None:
        # V_h^e and V_r about thirty times: the acceleration's steps and what leads to them; pi_h of every action
        tables = states * (30 * 8 * shape.humans * shape.goals + 8 * shape.goals * sum(compiled.n_actions))
        tables += 2 * states * per_state
    else:
        sizes = [compiled.reached(t) for t in range(compiled.horizon + 1)]
        # the table at work and the one after it, and what arriving is worth; the others are kept, or in the folder
        tables = 4 * sizes[-1] * per_state + (0 if in_folder else sum(sizes) * per_state)
    agents = (*compiled.humans, *compiled.robots)
    reordered = 0 if agents == tuple(range(len(agents))) else 36 * len(compiled.indices) + 24 * len(compiled.indptr)
    one = 3 * 8 * compiled.joint_actions * (shape.humans * shape.goals + 1)  # a chunk holds one state at least
    return tables + reordered + 2 * max(chunk_bytes, one)


def refuse_too_large(compiled: Compiled, chunk_bytes: int, in_folder: bool, limit: int | None) -> None:
    """Raises UserError, with the numbers and what to do, if the solve needs more than `limit`, or than there is."""
    room = int(0.9 * available_memory()) if limit is None else limit
    needs = needed(compiled, chunk_bytes, in_folder)
    if needs > room:
        raise UserError(
            f"{compiled.name}: {len(compiled.states):,} states need about {needs / GIB:.3g} GiB, and {room / GIB:.3g} "
            "are free for it: give fewer steps (--horizon), fewer goals, or more memory (--memory)"
        )
