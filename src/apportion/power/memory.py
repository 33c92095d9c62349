"""How much memory and disk compiling and solving may take, and how much a solve will, before it takes them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from apportion.power.compiled import Compiled
from apportion.power.sweeps import shape_of
from apportion.types import UserError

GIB = 1 << 30
SHARE = 0.6  # of the memory that is free: the estimates are rough, and others want some too; --memory gives more
BLOCK = 4096  # what a file takes at least


def available_memory() -> int:
    """Bytes that a program can use now without swapping; half of all memory where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def allowed(limit: int | None) -> int:
    """Bytes that compiling or solving may take: `limit`, or without one a share of what is free now."""
    return int(SHARE * available_memory()) if limit is None else limit


def needed(compiled: Compiled, chunk_bytes: int, in_folder: bool, solutions: int = 1) -> int:
    """Bytes that solving takes beside `compiled` itself, roughly and rather too many than too few.

    `solutions`: how many of the same world are held at once, of which one is at work.
    """
    shape, states = shape_of(compiled), len(compiled.states)
    per_state = 8 * shape.columns
    if compiled.horizon is None:
        # V_h^e and V_r about thirty times: the acceleration's steps and what leads to them; pi_h of every action
        tables = states * (30 * 8 * shape.humans * shape.goals + 8 * shape.goals * sum(compiled.n_actions))
        tables += (1 + solutions) * states * per_state
    else:
        # the table at work and the one after it, and what arriving is worth; the others are kept, or in the folder
        tables = 4 * compiled.reached(compiled.horizon) * per_state
        tables += 0 if in_folder else solutions * kept_states(compiled) * per_state
    agents = (*compiled.humans, *compiled.robots)
    reordered = 0 if agents == tuple(range(len(agents))) else 36 * len(compiled.indices) + 24 * len(compiled.indptr)
    one = 3 * 8 * compiled.joint_actions * (shape.humans * shape.goals + 1)  # a chunk holds one state at least
    return tables + reordered + 2 * max(chunk_bytes, one)


def kept_states(compiled: Compiled) -> int:
    """States in the tables of all steps; without a horizon there is one. After the last level no step adds any."""
    if compiled.horizon is None:
        return len(compiled.states)
    sizes = compiled.level_start[1:][: compiled.horizon + 1].tolist()
    return sum(sizes) + (compiled.horizon + 1 - len(sizes)) * len(compiled.states)


def refuse_too_large(
    compiled: Compiled, chunk_bytes: int, folder: Path | None, limit: int | None, solutions: int = 1, beside: int = 0
) -> None:
    """Raises UserError, with the numbers and what to do, if the solve needs more than `limit`, or than there is.

    `folder`: where the sweeps go, also those of folders in it; None: into memory. `solutions`: of this world, held at
    once, or kept in the folder; `beside`: bytes that the caller holds meanwhile.
    """
    if folder is not None and compiled.horizon is not None:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        kept = folder.glob("sweeps/*.npy" if solutions == 1 else "**/sweeps/*.npy")
        room = shutil.disk_usage(there).free + sum(file.stat().st_size for file in kept)
        each = kept_states(compiled) * 8 * shape_of(compiled).columns + compiled.horizon * BLOCK
        needs, times = solutions * each, f"{solutions} times " if solutions > 1 else ""
        if needs > room:
            raise UserError(
                f"{compiled.name}: {times}{compiled.horizon:,} sweeps take about {needs / GIB:.3g} GiB of disk, and "
                f"{there} has {room / GIB:.3g}: give fewer steps (--horizon), fewer goals, or another --runs-dir"
            )
    room = allowed(limit)
    needs = needed(compiled, chunk_bytes, folder is not None, solutions) + beside
    if needs > room:
        raise UserError(
            f"{compiled.name}: {len(compiled.states):,} states need about {needs / GIB:.3g} GiB, and {room / GIB:.3g} "
            "are free for it: give fewer steps (--horizon), fewer goals, or more memory (--memory)"
        )
