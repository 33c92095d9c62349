"""`apportion power solve WORLD`: the exact solution, or several of them with --sweep."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table

from apportion.power.compiled import Compiled
from apportion.power.memory import GIB
from apportion.power.options import RunOptions, Unsaid, going_on, parse, prepare, refuse_early, shown
from apportion.power.params import PowerParams, check, with_values
from apportion.power.query import describe, robot_profiles
from apportion.power.reach import time_states
from apportion.power.rollout import robot_action_names
from apportion.power.runs import world_json
from apportion.power.solution import Solution, make_folder, short
from apportion.power.solve import peak_bytes, solve
from apportion.power.world import World
from apportion.types import UserError

MANY = 16  # joint actions of the robots: of more, the likeliest are shown


@dataclass(frozen=True)
class SolveOptions(RunOptions):
    """What is solved."""

    sweep: Annotated[tuple[str, ...], Unsaid] = ()  # solve for several values and draw what changes: xi=1,2,4


def main(argv: Sequence[str]) -> int:
    """Exit code: 0 solved, 1 the fixed point of a world without a horizon did not converge."""
    about = "The exact solution of a world: what people can reach, and the robot policy that keeps them able."
    source, options, given = parse(argv, SolveOptions, "solve", about)
    params = with_values(PowerParams(), given)
    _refuse_swept(refuse_early(params, options, options.sweep), given)
    world, compiled, seconds = prepare(source, options)
    check(params, compiled.horizon)
    folder = options.folder(world.name)
    if options.sweep:
        return _sweep(world, compiled, params, options, folder)
    kept = world_json(source, world)
    with shown(f"solving {world.name}") as progress:

        def work() -> Solution:
            return solve(
                compiled,
                params,
                folder=folder,
                world=kept,
                device=options.device,
                progress=progress,
                memory_limit=options.limit,
            )

        solution = going_on(folder, work)
    told = as_json(world, solution, seconds) | {"run": str(folder)}
    if options.json:
        print(json.dumps(told))
    else:
        show(world, solution, told)
    return 0 if solution.record.get("converged", True) else 1


def _refuse_swept(points: list[dict[str, Any]], given: dict[str, Any]) -> None:
    """Raises UserError for a parameter that the sweep sets and a flag sets too: the flag would change nothing."""
    for written, value in given.items():
        name = written.replace("-", "_")
        if points and name in points[0]:
            flag = name.replace("_", "-")
            raise UserError(f"--{flag} {short(value)} changes nothing, the sweep sets {name}: leave one of them out")


def as_json(world: World, solution: Solution, compile_seconds: float) -> dict[str, Any]:
    """What --json prints: sizes, time and memory, and the initial state in the format of `apportion power query`."""
    compiled, record = solution.compiled, solution.record
    out = {
        "world": world.name,
        "policy": solution.policy,
        "horizon": compiled.horizon,
        "states": len(compiled.states),
        "time_states": time_states(compiled),
        "transitions": len(compiled.indices),
        "joint_actions": compiled.joint_actions,
        "goals": len(compiled.goal_weights),
        "params": record.get("params") or {},
        "seconds": record["seconds"],
        "compile_seconds": compile_seconds,
        "peak_bytes": max(record["peak_bytes"], peak_bytes()),
    }
    for name in ("converged", "residual", "sweeps", "unique", "difference", "statement"):
        if name in record:
            out[name] = record[name]
    bits = dict(zip(map(str, compiled.humans), solution.at(0).bits[0].tolist(), strict=True))
    return {**out, "initial_state": {**describe(world, solution, 0, 0), "bits": bits}}


def show(world: World, solution: Solution, told: dict[str, Any]) -> None:
    """The same for people."""
    compiled, start = solution.compiled, told["initial_state"]
    console = Console(width=None if sys.stdout.isatty() else 120, highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    end = "no end" if compiled.horizon is None else f"{compiled.horizon} steps"
    people = f"{_count(compiled.humans, 'human')}, {_count(compiled.robots, 'robot')}"
    facts.add_row("world", f"{world.name}: {people}, {_count(world.goals, 'goal')}, {end}")
    timed = "" if told["time_states"] is None else f" ({told['time_states']:,} with the time)"
    facts.add_row("states", f"{told['states']:,}{timed}, {told['transitions']:,} transitions")
    facts.add_row("took", f"{_took(told)}, {told['peak_bytes'] / GIB:.2f} GiB at most")
    for human, bits in start["bits"].items():
        who, x = world.agents[int(human)], start["X_h"][human]
        facts.add_row("power", f"{bits:+.3f} bits for {who} at the start (X {x:.4g})")
    facts.add_row("values", f"V_r {start['V_r']:.6g}   U_r {start['U_r']:.6g} at the start")
    if "statement" in told:
        facts.add_row("solution", told["statement"])
    if "run" in told:
        facts.add_row("saved", f"{told['run']}  (apportion power report {told['run']})")
    console.print(facts, markup=False)
    console.print()
    console.print(_actions(world, compiled, start), markup=False)


def _took(told: dict[str, Any]) -> str:
    return f"{told['seconds']:.2f} s to solve, {told['compile_seconds']:.2f} s to enumerate"


def _count(things: Sequence[Any], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _actions(world: World, compiled: Compiled, start: dict[str, Any]) -> Table:
    """The robot's first action: probabilities and Q_r, the likeliest of many."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("robot's first action", no_wrap=True)
    for name in ("pi_r", "Q_r"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    names = robot_action_names(world.actions, compiled.robots)
    rows = sorted(zip(start["pi_r"], start["Q_r"], names, strict=True), key=lambda row: -row[0])
    for p, q, name in rows[:MANY]:
        table.add_row(name, f"{p:.4f}", f"{q:.6g}", "█" * round(30 * p))
    if len(rows) > MANY:
        table.add_row(f"... and {len(rows) - MANY} more", f"{sum(p for p, _, _ in rows[MANY:]):.4f}", "", "")
    return table


def _sweep(world: World, compiled: Compiled, params: PowerParams, options: SolveOptions, folder: Path) -> int:
    from apportion.power.sweep import parse_sweep, run_sweep, save_plots

    folder = folder.with_name(f"{folder.name}-sweep")
    points = parse_sweep(options.sweep, params, compiled.horizon)
    make_folder(folder)
    with shown(f"solving {world.name}") as progress:

        def one(at: PowerParams) -> Solution:
            return solve(compiled, at, device=options.device, progress=progress, memory_limit=options.limit)

        rows = going_on(folder, lambda: run_sweep(compiled, params, points, one, folder / "sweep.json"))
    humans = [world.agents[h] for h in compiled.humans]
    names = robot_action_names(world.actions, compiled.robots)
    pictures = [str(path) for path in save_plots(rows, folder, humans, names, world.name)]
    if options.json:
        actions = {"robot_action_profiles": robot_profiles(compiled), "humans": list(compiled.humans)}
        print(json.dumps({"world": world.name, **actions, "rows": rows, "pictures": pictures}))
    else:
        _show_sweep(rows, humans, names)
        print("\n".join(f"picture  {path}" for path in pictures))
    return 0 if all("NOT CONVERGED" not in row.get("statement", "") for row in rows) else 1


def _show_sweep(rows: list[dict[str, Any]], humans: list[str], names: list[str]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in rows[0]["params"]:
        table.add_column(name, justify="right")
    for human in humans:
        table.add_column(f"bits, {human}", justify="right")
    table.add_column("V_r", justify="right")
    table.add_column("likeliest first action")
    for row in rows:
        best = max(range(len(names)), key=row["pi_r"].__getitem__)
        values = [short(value) for value in row["params"].values()]
        powers = [f"{bits:+.3f}" for bits in row["bits"]]
        table.add_row(*values, *powers, f"{row['V_r']:.6g}", f"{names[best]} ({row['pi_r'][best]:.3f})")
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table, markup=False)
    for row in rows:
        if "statement" in row:
            print(f"{' '.join(f'{name}={short(value)}' for name, value in row['params'].items())}: {row['statement']}")
