"""`apportion power evaluate WORLD --policy P`: exact values of any policy."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from apportion.power.evaluate import NAMED, share, with_bounds
from apportion.power.options import Options, parse, prepare, shown
from apportion.power.params import PowerParams, check, with_values
from apportion.power.solution import SOLVED, Solution, read_record
from apportion.power.solve_cli import as_json
from apportion.power.world import World
from apportion.types import UserError


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """Whose values."""

    policy: str = ""  # a run of apportion power solve, or uniform, or do-nothing


def main(argv: Sequence[str]) -> int:
    """Prints the values at the start, beside those of the uniform policy and of the solution."""
    about = "Exact values of any policy of the robots, and its share of what the solution gains over acting at random."
    source, options, given = parse(argv, EvaluateOptions, "evaluate", about)
    if not options.policy:
        raise UserError(f"--policy is missing: {', '.join(NAMED)}, or a run of apportion power solve")
    record = read_record(Path(options.policy)) if Path(options.policy).is_dir() else None
    base = with_values(PowerParams(), record["params"] if record else {})  # those of the run, unless told otherwise
    params = with_values(base, given)
    if record and not options.horizon:
        options = EvaluateOptions(**{**vars(options), "horizon": str(record["horizon"] or "none")})
    world, compiled, seconds = prepare(source, options)
    check(params, compiled.horizon)
    with shown(f"evaluating {options.policy}") as progress:
        found = with_bounds(compiled, params, options.policy, options.device, progress, options.limit)
    told = as_json(world, found[options.policy], seconds)
    told["share"] = share(found[options.policy], found["uniform"], found[SOLVED])
    told["V_r"] = {name: float(solution.at(0).v[0]) for name, solution in found.items()}
    if options.json:
        print(json.dumps(told))
    else:
        _show(world, found, told)
    return 0 if all(solution.record.get("converged", True) for solution in found.values()) else 1


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
    print(f"\nat the start of {world.name}; share {share_}")
    for name, solution in found.items():
        if "statement" in solution.record:
            print(f"{name}: {solution.record['statement']}")
