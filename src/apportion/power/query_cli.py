"""`apportion power query WORLD --states FILE`: exact values of described states."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.console import Console
from rich.table import Table

from apportion.power.asked import check_fits, check_outcomes, check_values, of_file, params_of, read_states
from apportion.power.options import Options, Unsaid, parse, prepare, refuse_early, shown
from apportion.power.params import check
from apportion.power.query import TOLERANCE, Difference, answer, compare
from apportion.power.solve import solve
from apportion.types import UserError


@dataclass(frozen=True)
class QueryOptions(Options):
    """Which states."""

    states: Annotated[str, Unsaid] = ""  # JSON: a reference file, a list of described states, or one state
    compare: bool = False  # hold the answers against the values in that file


def main(argv: Sequence[str]) -> int:
    """Prints the answers as JSON; with --compare the largest differences, and exit code 1 if any is above 1e-6."""
    about = "Exact values of described states, in the format of the published reference values."
    source, options, given = parse(argv, QueryOptions, "query", about)
    if not options.states:
        raise UserError("--states is missing: a JSON file with the states to tell of")
    path = Path(options.states)
    asked = read_states(path)
    if options.compare:
        check_outcomes(asked, path)
        check_values(asked, path)
    params = params_of(asked, given)
    refuse_early(params, options)
    world, compiled, _ = prepare(source, options)
    check(params, compiled.horizon)
    with of_file(path):
        check_fits(world, compiled, asked, options.compare)
    with shown(f"solving {world.name}") as progress:
        solution = solve(compiled, params, device=options.device, progress=progress, memory_limit=options.limit)
    with of_file(path):
        found = answer(world, solution, asked)
    if not options.compare:
        print(json.dumps(found, indent=None if options.json else 1))
        return 0
    differences = compare(asked, found)
    worst = max((d.relative for d in differences), default=0.0)
    if options.json:
        fields = {d.field: d._asdict() for d in differences}
        print(
            json.dumps({"world": world.name, "largest_relative": worst, "equal": worst <= TOLERANCE, "fields": fields})
        )
    else:
        _show(differences)
        verdict = "equal" if worst <= TOLERANCE else "DIFFERENT"
        print(f"\n{verdict}: the largest relative difference is {worst:.1e}, and {TOLERANCE:.0e} is allowed")
    return 0 if worst <= TOLERANCE else 1


def _show(differences: list[Difference]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("field", no_wrap=True)
    table.add_column("absolute", justify="right", no_wrap=True)
    table.add_column("relative", justify="right", no_wrap=True)
    table.add_column("largest in", overflow="fold")
    for d in differences:
        table.add_row(d.field, f"{d.absolute:.1e}", f"{d.relative:.1e}", d.where if d.relative else "")
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table, markup=False)
