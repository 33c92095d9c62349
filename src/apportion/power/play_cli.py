"""`apportion power play RUN`: one episode of a learned policy, in words, and as a film with everybody's power."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apportion.flags import Parser
from apportion.power.own import own_faults
from apportion.power.rollout import ENDLESS, robot_action_names
from apportion.power.world import World
from apportion.types import UserError

if TYPE_CHECKING:
    from apportion.power.learn.opened import Opened
    from apportion.power.learn.play import Played


def main(argv: Sequence[str]) -> int:
    """One command line after `apportion power play`. Returns the exit code; raises UserError for slips."""
    args = _parser().parse(argv)
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: at least 0 is needed")
    film = args.run / "play.gif" if args.film == Path() else args.film
    if film is not None:
        from apportion.power.grid.film import check_film

        check_film(film)
    from apportion.power.learn.opened import open_trained, unseen_of
    from apportion.power.learn.play import as_shown, play
    from apportion.run.rundir import RunDir

    run = open_trained(args.run, RunDir.open(args.run).checkpoint(args.checkpoint), _warn)
    if args.held_out:
        unseen = unseen_of(args.run)
        if unseen is None:
            raise UserError(f"--held-out: {args.run} has learned from all of its worlds: leave it out")
        run = replace(run, world=unseen)
    if args.steps and run.world.horizon is not None and args.steps > run.world.horizon:
        print(f"--steps {args.steps}: this world ends after {run.world.horizon}", file=sys.stderr)
    with own_faults(run.config.world, run.config.human_prior):
        played = play(run, args.seed, args.steps, greedy=args.greedy)
        world, course = as_shown(run.world, played.course)
        told = as_json(run, world, played)
        if film is not None:
            from apportion.power.grid.film import write_film

            told["film"] = str(write_film(world, course, film))
    if args.json:
        print(json.dumps(told))
    else:
        _show(run, world, told)
    return 0


def _parser() -> Parser:
    parser = Parser(
        "apportion power play",
        "One episode of a learned policy without exploration, among people who act by the run's own prior for goals "
        "that the robot does not know. Their power is the learned one: no solution is needed.",
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run of apportion power train")
    parser.add_argument("--seed", type=int, default=0, help="of everything that is drawn (default: 0)")
    parser.add_argument("--steps", type=int, help=f"at most (default: to the horizon; without one {ENDLESS})")
    parser.add_argument("--greedy", action="store_true", help="the robots take a most probable action, none is drawn")
    parser.add_argument("--held-out", action="store_true", help="in a world of the folder that was not learned from")
    parser.add_argument("--film", type=Path, nargs="?", const=Path(), help="FILE.gif or FILE.mp4, or RUN/play.gif")
    parser.add_argument("--checkpoint", type=Path, help="its directory or name (default: the newest whole one)")
    parser.add_argument("--json", action="store_true", help="print the course as JSON")
    return parser


def as_json(run: Opened, world: World, played: Played) -> dict[str, Any]:
    """The course in words and numbers. `world`: the one that is shown, whose names are used."""
    from apportion.power.learn.play import as_shown

    course = as_shown(run.world, played.course)[1]
    names = [world.agents[h] for h in world.humans]
    steps = []
    for t in range(course.steps):
        acts = {who: world.actions[i][course.joint[t, i]] for i, who in enumerate(world.agents)}
        steps.append({
            "t": t,
            "state": world.describe(course.states[t]),
            "goals": {who: world.goals[g] for who, g in zip(names, course.goals[t], strict=True)},
            "actions": acts,
            "pi_r": played.pi[t].tolist(),
            "X_h": dict(zip(names, played.x[t].tolist(), strict=True)),
            "bits": dict(zip(names, course.bits[t].tolist(), strict=True)),
            "U_r": float(played.u[t]),
            "V_r": float(played.v[t]),
        })  # fmt: skip
    return {
        "world": world.name,
        "seed": played.seed,
        "greedy": played.greedy,
        "trained": run.step,
        "robot_actions": robot_action_names(world.actions, world.robots),
        "steps": steps,
        "end": world.describe(course.states[-1]),
    }


def _show(run: Opened, world: World, told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    how = "takes its most probable action" if told["greedy"] else "draws its actions"
    print(f"{world.name}, seed {told['seed']}; the robot {how}, after {run.step:,} steps of training; learned power\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("t", justify="right")
    people = [world.agents[h] for h in world.humans]
    for name in (*people, *(world.agents[r] for r in world.robots)):
        table.add_column(name, overflow="fold")
    for name in (*(f"bits, {name}" for name in people), "U_r", "V_r"):
        table.add_column(name, justify="right", no_wrap=True)
    wanted = _goal_words(world)
    for step in told["steps"]:
        acts = [f"{step['actions'][name]}, for {wanted[step['goals'][name]]}" for name in people]
        robots = [step["actions"][world.agents[r]] for r in world.robots]
        numbers = [*(f"{step['bits'][name]:+.3f}" for name in people), f"{step['U_r']:.4g}", f"{step['V_r']:.4g}"]
        table.add_row(str(step["t"]), *acts, *robots, *numbers)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table, markup=False)
    print()
    for name in people:
        bits = np.array([step["bits"][name] for step in told["steps"]])
        mean = f"{bits.mean():+.3f} bits in the mean"
        print(f"power of {name}: {bits[0]:+.3f} bits at first, {bits.max():+.3f} at most, {mean}")
    if "film" in told:
        print(f"film: {told['film']}")


def _warn(line: str) -> None:
    print(line, file=sys.stderr)


def _goal_words(world: World) -> dict[str, str]:
    """Each goal as people say it: cells of a grid world as "(3, 1)"."""
    from apportion.power.grid.world import GridWorld

    if not isinstance(world, GridWorld):
        return {goal: goal for goal in world.goals}
    from apportion.power.grid.view import goal_words

    return dict(zip(world.goals, map(goal_words, world.goal_rectangles), strict=True))
