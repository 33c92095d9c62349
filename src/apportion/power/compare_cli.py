"""`apportion power compare WORLD`: our objective beside others on the same world."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from rich.console import Console
from rich.table import Table

from apportion.power.options import Options, Unsaid, parse, prepare, refuse_early, shown
from apportion.power.params import PowerParams, check, with_values
from apportion.power.world import World


@dataclass(frozen=True)
class CompareOptions(Options):
    """What is compared."""

    user: int = 0  # the human whom the single-user objectives serve, from 0
    steps: int = 3  # how far empowerment looks ahead
    baselines: Annotated[str, Unsaid] = ""  # which, with commas between them (default: all)
    sweep: Annotated[tuple[str, ...], Unsaid] = ()  # our own objective also with other values: xi=2,4


def main(argv: Sequence[str]) -> int:
    """Prints what each policy leaves the humans, by our measures and by the others'."""
    about = (
        "Our objective beside others: AvE, choice, empowerment of one user or of all, doing nothing, acting at random. "
        "Each policy is worked out exactly, and judged exactly, at the start."
    )
    source, options, given = parse(argv, CompareOptions, "compare", about)
    from apportion.power.baselines import OBJECTIVES, chosen
    from apportion.power.compare import as_json, compare, same_humans
    from apportion.power.sweep import parse_sweep

    params = with_values(PowerParams(), given)
    objectives = chosen([name for name in options.baselines.split(",") if name]) or OBJECTIVES
    same_humans(params, [with_values(params, point) for point in refuse_early(params, options, options.sweep)])
    world, compiled, seconds = prepare(source, options)
    check(params, compiled.horizon)
    points = parse_sweep(options.sweep, params, compiled.horizon) if options.sweep else []
    also = {f"power {_words(point)}": with_values(params, point) for point in points}
    started = time.perf_counter()
    with shown(f"comparing in {world.name}") as progress:
        found = compare(
            compiled,
            params,
            user=options.user,
            steps=options.steps,
            objectives=objectives,
            also=also,
            device=options.device,
            memory_limit=options.limit,
            progress=progress,
        )
    told = as_json(found, compiled) | {"compile_seconds": seconds, "seconds": time.perf_counter() - started}
    if options.json:
        print(json.dumps(told))
    else:
        _show(world, told)
    return 0


def _words(point: dict[str, object]) -> str:
    return " ".join(
        f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}" for name, value in point.items()
    )


def _show(world: World, told: dict) -> None:
    from apportion.power.compare import MARGIN

    console = Console(width=None if sys.stdout.isatty() else 140, highlight=False)
    user = world.agents[world.humans[told["user"]]]
    console.print(_by_ours(world, told), markup=False)
    print(f"\nat the start of {told['world']}; in brackets: bits more than beside a robot that does nothing")
    if len(world.humans) > 1:
        print(f"at whose cost: who has less by that, while {user}, the user, has more, each by over {MARGIN:g} bits;")
        print("  smaller losses, and the user's own, are in the brackets only")
    ours = f"power (beta_r {told['params']['beta_r']:g})"
    print(f"share: of what {ours} gains over acting at random; a sharper policy can come to more than 1\n")
    console.print(_by_theirs(told), markup=False)
    print(
        f"\nby the others' measures, {told['steps']} steps ahead: expected discounted sums from the start; * the most"
    )


def _by_ours(world: World, told: dict) -> Table:
    humans = [world.agents[human] for human in world.humans]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("policy", no_wrap=True)
    for name in [*(f"bits, {name}" for name in humans), "U_r", "V_r", "share"]:
        table.add_column(name, justify="right", no_wrap=True)
    if len(humans) > 1:
        table.add_column("at whose cost", no_wrap=True)
    for row in told["policies"]:
        bits = [f"{b:+.3f} ({gain:+.3f})" for b, gain in zip(row["bits"], row["gain_bits"], strict=True)]
        share = "-" if row["share"] is None else f"{row['share']:.3f}"
        cost = [", ".join(humans[h] for h in row["at_whose_cost"])] if len(humans) > 1 else []
        table.add_row(row["policy"], *bits, f"{row['U_r']:.5g}", f"{row['V_r']:.6g}", share, *cost)
    return table


def _by_theirs(told: dict) -> Table:
    names = list(told["policies"][0]["returns"])
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("policy", no_wrap=True)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    most = {name: max(row["returns"][name] for row in told["policies"]) for name in names}
    for row in told["policies"]:
        marked = [(value, "*" if value > most[name] - 1e-9 else " ") for name, value in row["returns"].items()]
        table.add_row(row["policy"], *(f"{value:.4g}{mark}" for value, mark in marked))
    return table
