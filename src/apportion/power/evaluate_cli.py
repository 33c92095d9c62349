"""`apportion power evaluate WORLD --policy P`: exact values of any policy."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from apportion.power.evaluate import NAMED, UNIFORM, policy_run, share, with_bounds
from apportion.power.options import RunOptions, going_on, parse, prepare, refuse_early, shown
from apportion.power.params import PowerParams, check, with_values
from apportion.power.runs import world_json
from apportion.power.solution import SOLVED, Solution
from apportion.power.solve_cli import as_json
from apportion.power.world import World
from apportion.types import UserError


@dataclass(frozen=True)
class EvaluateOptions(RunOptions):
    """Whose values."""

    policy: str = ""  # a run of apportion power solve or train, or uniform, or do-nothing


def main(argv: Sequence[str]) -> int:
    """Prints the values at the start, beside those of the uniform policy and of the solution."""
    about = "Exact values of any policy of the robots, and its share of what the solution gains over acting at random."
    source, options, given = parse(argv, EvaluateOptions, "evaluate", about)
    if not options.policy:
        raise UserError(f"--policy is missing: {', '.join(NAMED)}, or a run of apportion power solve or train")
    run = policy_run(options.policy)
    base = with_values(PowerParams(), run.params if run else {})  # those of the run, unless told otherwise
    params = with_values(base, given)
    if run and not options.horizon:
        options = replace(options, horizon=str(run.horizon or "none"))
    refuse_early(params, options)
    world, compiled, seconds = prepare(source, options)
    check(params, compiled.horizon)
    folder, kept = options.folder(f"{world.name}-{_short(options.policy)}"), world_json(source, world)
    with shown(f"evaluating {options.policy}") as progress:

        def work() -> tuple[Solution, Solution, Solution]:
            limit = options.limit
            return with_bounds(compiled, params, options.policy, options.device, progress, limit, folder, kept)

        policy, worst, best = going_on(folder, work)
    word = options.policy if options.policy != SOLVED else f"./{SOLVED}"  # a folder may be called that
    found = {word: policy, UNIFORM: worst, SOLVED: best}
    told = as_json(world, policy, seconds) | {"policy": word, "run": str(folder)}
    told["share"] = share(policy, worst, best)
    told["horizon"], told["other_parameters"] = compiled.horizon, _others(given, run.params) if run else {}
    told["V_r"] = {name: float(solution.at(0).v[0]) for name, solution in found.items()}
    if options.json:
        print(json.dumps(told))
    else:
        _show(world, found, told)
    return 0 if all(solution.record.get("converged", True) for solution in found.values()) else 1


def _others(given: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Those of the `given` parameters that are not the policy's own."""
    return {name: value for name, value in given.items() if own.get(name) != value}


def _short(policy: str) -> str:
    """The policy in the default name of a folder: `uniform`, or the NAME of runs/power-NAME."""
    return policy if policy in NAMED else Path(policy).resolve().name.removeprefix("power-")


def _show(world: World, found: dict[str, Solution], told: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("policy", overflow="fold")
    names = [f"bits, {world.agents[h]}" for h in next(iter(found.values())).compiled.humans]
    for name in ("V_r", "U_r", *names):
        table.add_column(name, justify="right", no_wrap=True)
    for name, solution in found.items():
        start = solution.at(0)
        table.add_row(name, f"{start.v[0]:.6g}", f"{start.u[0]:.6g}", *(f"{bits:+.3f}" for bits in start.bits[0]))
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table, markup=False)
    share_ = "not defined here: the solution is worth as much as acting at random"
    if told["share"] is not None:
        share_ = f"{told['share']:.4f} of what the solution gains over acting at random"
    print(f"\nat the start of {world.name}, horizon {told['horizon'] or 'none'}; share {share_}")
    if told["other_parameters"]:
        others = ", ".join(f"{name} {value}" for name, value in told["other_parameters"].items())
        print(f"other than {told['policy']} was made for: {others}")
    for name, solution in found.items():
        if "statement" in solution.record:
            print(f"{name}: {solution.record['statement']}")
    print(f"saved {told['run']}  (apportion power report {told['run']})")
