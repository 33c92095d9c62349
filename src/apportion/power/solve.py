"""The exact solution of a compiled world: with a horizon, one sweep over the states for each step, from the end."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apportion.power.compiled import Compiled
from apportion.power.fixed_point import Progress, solve_stationary
from apportion.power.kernel import Kernel, make_kernel
from apportion.power.memory import refuse_too_large
from apportion.power.params import PowerParams, check
from apportion.power.reach import masks_at
from apportion.power.solution import SOLVED, Solution, Tables, begin, finish, wanted_record
from apportion.power.sweeps import check_power, chunk_states, end_table, layer, shape_of, sweep
from apportion.types import UserError

Policy = Callable[[int, int], np.ndarray]  # (t, n) -> (n, R): probabilities of the robots' joint actions in [0, n)
CHUNK_BYTES = 16 << 20  # smaller chunks pay for more calls, larger ones leave the processor's cache


@dataclass(frozen=True)
class _Machine:
    """Where and how to solve."""

    folder: Path | None
    world: dict[str, Any] | None
    chunk_bytes: int
    device: str
    progress: Progress | None
    memory_limit: int | None


def solve(
    compiled: Compiled,
    params: PowerParams,
    *,
    folder: Path | None = None,
    world: dict[str, Any] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    device: str = "cpu",
    progress: Progress | None = None,
    memory_limit: int | None = None,
) -> Solution:
    """V_h^m, V_h^e, X_h, U_r, Q_r, pi_r, V_r of every state at every time, in float64.

    With `folder`, every finished sweep is kept there and an interrupted solve goes on; without, all is in memory.
    `world`: what world.json in the folder is to hold (`runs.world_json`), so that `open_run` can open it.
    `memory_limit`: bytes; None: what is free. `chunk_bytes`: of the working memory of one chunk of states.
    Raises UserError for parameters out of range, a world without humans or too large, a human who can reach nothing.
    """
    return _run(compiled, params, SOLVED, None, _Machine(folder, world, chunk_bytes, device, progress, memory_limit))


def evaluate(
    compiled: Compiled,
    params: PowerParams,
    policy: Policy,
    *,
    name: str = "policy",
    folder: Path | None = None,
    world: dict[str, Any] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    device: str = "cpu",
    progress: Progress | None = None,
    memory_limit: int | None = None,
) -> Solution:
    """The same values if the robots follow `policy`; Q_r is that of deviating for one step. Raises as `solve` does.

    Without a horizon `policy` is asked for t = 0 only, and has to be the same at all times.
    """
    if name == SOLVED:
        raise ValueError(f"{SOLVED!r} is the name of what solve() gives")
    return _run(compiled, params, name, policy, _Machine(folder, world, chunk_bytes, device, progress, memory_limit))


def _run(compiled: Compiled, params: PowerParams, name: str, policy: Policy | None, machine: _Machine) -> Solution:
    check(params, compiled.horizon)
    if not compiled.humans:
        raise UserError(f"{compiled.name} has no human: whose power is meant?")
    folder = machine.folder
    refuse_too_large(compiled, machine.chunk_bytes, folder, machine.memory_limit)
    wanted = wanted_record(compiled, params, name)
    record = wanted if folder is None else begin(folder, compiled, wanted, machine.world)
    tables, started = Tables(folder), time.perf_counter()
    whole = all(tables.has(t) for t in range(compiled.horizon or 1))  # a file may be gone since
    if not (record["finished"] and whole):
        kernel = make_kernel(compiled, machine.device)
        chunk = chunk_states(kernel, machine.chunk_bytes)
        if compiled.horizon is None:
            n = len(compiled.states)
            fixed = None if policy is None else _checked(policy(0, n), compiled, n)
            told = solve_stationary(compiled, kernel, params, tables, chunk, fixed, machine.progress)
        else:
            told = _backwards(compiled, kernel, params, tables, chunk, policy, machine.progress)
        seconds = record["seconds"] + time.perf_counter() - started
        record = {**record, **told, "finished": True, "seconds": seconds, "peak_bytes": peak_bytes()}
        if folder is not None:
            finish(folder, record)
    return Solution(compiled, params, name, tables, record)


def _backwards(
    compiled: Compiled,
    kernel: Kernel,
    params: PowerParams,
    tables: Tables,
    chunk: int,
    policy: Policy | None,
    progress: Progress | None,
) -> dict[str, Any]:
    horizon, shape = compiled.horizon, shape_of(compiled)
    assert horizon is not None
    following, done = end_table(compiled.reached(horizon), shape), 0
    possible: list[np.ndarray] = []  # which states can be at each time, in bits; worked out once, if it matters
    for t in reversed(range(horizon)):
        n = compiled.reached(t)
        if tables.has(t):  # by an earlier, interrupted solve
            following = tables.get(t)
        else:
            chosen = None if policy is None else _checked(policy(t, n), compiled, n)
            following = sweep(kernel, params, layer(following, shape), n, chunk, chosen, last=t == horizon - 1)
            if not np.isfinite(following[:, -1]).all():  # of states that t steps cannot lead to, that is no harm
                possible = possible or [np.packbits(mask) for mask in masks_at(compiled)]
                check_power(layer(following, shape), f"at time {t}", np.unpackbits(possible[t], count=n).astype(bool))
            tables.put(t, following)
            done += 1
        if progress is not None:
            progress("sweep", horizon - t, horizon)
    return {"sweeps": done}


def _checked(policy: np.ndarray, compiled: Compiled, n: int) -> np.ndarray:
    """A policy (n, R) whose rows are probabilities. Raises ValueError otherwise."""
    if policy.shape != (n, compiled.robot_actions):
        raise ValueError(f"a policy of shape {(n, compiled.robot_actions)} is wanted, not {policy.shape}")
    if not ((policy >= 0).all() and np.allclose(policy.sum(1), 1, rtol=0, atol=1e-9)):
        raise ValueError("a policy's rows are to be probabilities, with sum 1")
    return policy


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
