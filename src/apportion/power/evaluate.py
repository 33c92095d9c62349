"""Policies by name, and how good one is between the uniform policy and the solution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apportion.flags import did_you_mean
from apportion.power.compiled import Compiled
from apportion.power.params import PowerParams
from apportion.power.planning import do_nothing, solved, uniform
from apportion.power.solution import SOLVED, Solution
from apportion.power.solve import Policy, Progress, evaluate, solve
from apportion.types import UserError

NAMED = {"uniform": uniform, "do-nothing": do_nothing}


def policy_of(word: str, compiled: Compiled) -> Policy:
    """The policy called `word`: a name, or the folder of a run of the same world. Raises UserError for others."""
    if word in NAMED:
        return NAMED[word](compiled)
    if not Path(word).is_dir():
        raise UserError(
            f"--policy {word}: no such folder{did_you_mean(word, NAMED)}; give {', '.join(NAMED)}, or a run of "
            "apportion power solve"
        )
    run = Solution.load(Path(word))
    if run.compiled.digest != compiled.digest:
        raise UserError(f"--policy {word} is a policy for another world, or another horizon ({run.compiled.name})")
    return solved(run)


def share(policy: Solution, worst: Solution, best: Solution) -> float | None:
    """(V_policy - V_uniform) / (V_solved - V_uniform) at the start; None where the two are equal.

    1 is the solution of the equations, whose policy is soft: a greedier one can come to more than 1.
    """
    values = [float(each.at(0).v[0]) for each in (policy, worst, best)]
    gain = values[2] - values[1]
    return None if abs(gain) <= 1e-12 * abs(values[1]) else (values[0] - values[1]) / gain


def with_bounds(
    compiled: Compiled,
    params: PowerParams,
    word: str,
    device: str = "cpu",
    progress: Progress | None = None,
    memory_limit: int | None = None,
) -> dict[str, Solution]:
    """The values of the policy `word`, of the uniform one and of the solution, by their names."""
    machine: Any = {"device": device, "progress": progress, "memory_limit": memory_limit}
    out = {word: evaluate(compiled, params, policy_of(word, compiled), name=word, **machine)}
    if word != "uniform":
        out["uniform"] = evaluate(compiled, params, uniform(compiled), name="uniform", **machine)
    out[SOLVED] = solve(compiled, params, **machine)
    return out
