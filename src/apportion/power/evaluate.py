"""Policies by name, and how good one is between the uniform policy and the solution."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from apportion.flags import did_you_mean
from apportion.power.compiled import Compiled
from apportion.power.memory import refuse_too_large
from apportion.power.params import PowerParams
from apportion.power.planning import do_nothing, solved, uniform
from apportion.power.solution import IDENTITY, SOLVED, Solution
from apportion.power.solve import CHUNK_BYTES, Policy, Progress, evaluate, solve
from apportion.types import UserError

UNIFORM = "uniform"
NAMED = {UNIFORM: uniform, "do-nothing": do_nothing}


def policy_run(word: str) -> Solution | None:
    """The run whose policy `word` means; None for a policy by name. Raises UserError if it is neither."""
    if word in NAMED:
        return None
    if not Path(word).is_dir():
        raise UserError(
            f"--policy {word}: no such folder{did_you_mean(word, NAMED)}; give {', '.join(NAMED)}, or a run of "
            "apportion power solve"
        )
    return Solution.load(Path(word))


def policy_of(word: str, compiled: Compiled) -> Policy:
    """The policy called `word`: a name, or the folder of a run of the same world. Raises UserError for others."""
    run = policy_run(word)
    if run is None:
        return NAMED[word](compiled)
    if run.compiled.digest != compiled.digest:
        raise UserError(f"--policy {word} is a policy for another world, or another horizon ({run.compiled.name})")
    return solved(run)


def policy_name(word: str) -> str:
    """What a record calls the policy: of a run, its folder's name and a hash of what it solved.

    So a folder may be called `solved`, and values of a run that has been replaced since are not taken for those of the
    new one.
    """
    run = policy_run(word)
    if run is None:
        return word
    what = json.dumps([run.record[entry] for entry in IDENTITY])
    return f"{Path(word).resolve().name} {hashlib.sha256(what.encode()).hexdigest()[:8]}"


def share(policy: Solution, worst: Solution, best: Solution) -> float | None:
    """(V_policy - V_uniform) / (V_solved - V_uniform) at the start; None where the two are equal.

    1 is the solution of the equations, whose policy is soft: a greedier one can come to more than 1.
    """
    return share_of(*(float(each.at(0).v[0]) for each in (policy, worst, best)))


def share_of(value: float, worst: float, best: float) -> float | None:
    """`share`, of values of V_r at the start."""
    gain = best - worst
    return None if abs(gain) <= 1e-12 * abs(worst) else (value - worst) / gain


def with_bounds(
    compiled: Compiled,
    params: PowerParams,
    word: str,
    device: str = "cpu",
    progress: Progress | None = None,
    memory_limit: int | None = None,
    folder: Path | None = None,
    world: dict[str, Any] | None = None,
) -> tuple[Solution, Solution, Solution]:
    """The values of the policy `word`, of the uniform one and of the solution.

    With `folder` the first is a run there, and the bounds are runs in FOLDER/bounds; `world` as in `solve`.
    """
    bounds = len({word, UNIFORM})
    refuse_too_large(compiled, CHUNK_BYTES, folder, memory_limit, solutions=1 + bounds)

    def judged(policy: str, place: Path | None) -> Solution:
        return evaluate(
            compiled,
            params,
            policy_of(policy, compiled),
            name=policy_name(policy),
            folder=place,
            world=world,
            device=device,
            progress=progress,
            memory_limit=memory_limit,
        )

    found = judged(word, folder)
    worst = found if word == UNIFORM else judged(UNIFORM, folder and folder / "bounds" / UNIFORM)
    best = solve(
        compiled,
        params,
        folder=folder and folder / "bounds" / SOLVED,
        world=world,
        device=device,
        progress=progress,
        memory_limit=memory_limit,
    )
    return found, worst, best
