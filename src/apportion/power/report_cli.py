"""`apportion power report RUN`: a page to step through, pictures, and a film, from a run of solve or evaluate."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from PIL import Image

from apportion.flags import Parser
from apportion.power.course import course_of
from apportion.power.evaluate import UNIFORM
from apportion.power.grid.curves import human_colors
from apportion.power.grid.film import check_film, write_film
from apportion.power.grid.world import GridWorld
from apportion.power.rollout import ENDLESS, Rollout, roll_out
from apportion.power.runs import Run, open_run
from apportion.power.solution import SOLVED, Solution
from apportion.power.world import World
from apportion.report.power import Figure, PowerStory, View, write_power_page
from apportion.report.runs import one_kind
from apportion.report.style import number
from apportion.types import UserError

REM = 3.2  # a cell of a picture on the page, at most


def main(argv: Sequence[str]) -> int:
    """One command line after `apportion power report`. Returns the exit code; raises UserError for slips."""
    if one_kind(argv) == "Phase2Config":
        return trained(argv)
    parser = Parser("apportion power report", "Write one self-contained HTML page that steps through what happens.")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of apportion power solve or evaluate")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in RUN)")
    parser.add_argument("--courses", type=int, default=4, help="how many courses of events (default: 4)")
    parser.add_argument("--seed", type=int, default=0, help="of the first of them (default: 0)")
    parser.add_argument("--steps", type=int, help=f"of a course (default: to the horizon; without one {ENDLESS})")
    parser.add_argument("--film", type=Path, help="also film the first course: FILE.gif or FILE.mp4")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="also write the pictures as PNG and SVG files")
    args = parser.parse(argv)
    for name in ("courses", "steps"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: at least 1 is needed")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: at least 0 is needed")
    if args.film:
        check_film(args.film)
    run = open_run(args.run)
    if not isinstance(run.world, GridWorld) and (args.film or args.pictures):
        raise UserError("--film and --pictures are for grid worlds")
    horizon = run.solution.compiled.horizon
    if args.steps and horizon is not None and args.steps > horizon:
        print(f"--steps {args.steps}: this world ends after {horizon}, and so do the courses", file=sys.stderr)
    rollouts = _courses(run.solution, args.seed, args.courses, args.steps)
    page = args.out or args.run / "report.html"
    story = _story(run, _figures(run, rollouts[0], args.pictures))
    print(f"report: {write_power_page(story, run.world, run.solution, rollouts, _view(run, rollouts), page)}")
    if args.film and isinstance(run.world, GridWorld):
        print(f"film: {write_film(run.world, course_of(run.solution, rollouts[0]), args.film)}")
    if args.pictures:
        print(f"pictures: {args.pictures}")
    return 0


def trained(argv: Sequence[str]) -> int:
    """The report of runs of `apportion power train`, which `apportion report` writes too."""
    about = "Write one self-contained HTML page, and PNGs beside it, about runs of apportion power train."
    parser = Parser("apportion power report", about)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories, or ones over several")
    parser.add_argument("--out", type=Path, help="the page (default: report.html in the first RUN)")
    for word in argv:
        if word.partition("=")[0] in ("--film", "--pictures", "--courses", "--seed", "--steps"):
            raise UserError(f"{word} is for runs of apportion power solve; others: apportion power play RUN --film")
    args = parser.parse(argv)
    from apportion.report.power_training import write_training_report

    print(f"report: {write_training_report(args.runs, args.out or args.runs[0] / 'report.html')}")
    return 0


def _courses(solution: Solution, seed: int, count: int, steps: int | None) -> list[Rollout]:
    """By turns with the robot's most probable action and with drawn ones; none is most probable of a uniform policy."""
    if solution.policy == UNIFORM:
        return [roll_out(solution, seed + i, steps) for i in range(count)]
    return [roll_out(solution, seed + i // 2, steps, greedy=i % 2 == 0) for i in range(count)]


def _story(run: Run, figures: list[Figure]) -> PowerStory:
    world, solution = run
    compiled, record = solution.compiled, solution.record
    start = solution.at(0)
    facts = [
        ("horizon, xi", f"{compiled.horizon or 'none'}, {solution.params.xi:g}"),
        ("states", f"{len(compiled.states):,}, with {compiled.joint_actions:,} joint actions each"),
        ("goals", f"{len(world.goals)} of each human"),
        *((f"power of {world.agents[h]} at the start", _power(start.x[0, i])) for i, h in enumerate(world.humans)),
        ("V_r at the start", f"{start.v[0]:.6g}".replace("-", "\N{MINUS SIGN}")),
    ]
    if "statement" in record:
        facts.append(("the fixed point", record["statement"]))
    if "seconds" in record:
        facts.append(("solved in", f"{record['seconds']:.3g} s"))
    end = "without an end" if compiled.horizon is None else f"over {compiled.horizon} steps"
    policy = "the robot policy that keeps people able" if solution.policy == SOLVED else f"policy: {solution.policy}"
    about = f"Human power, exactly, {end}; {policy}. Reported by apportion power report."
    return PowerStory(world.name, about, facts, asdict(solution.params), figures)


def _power(x: float) -> str:
    return f"{number(float(np.log2(x)))} bits (X_h = {x:.4g})" if x > 0 else "none (X_h = 0)"


def _view(run: Run, rollouts: Sequence[Rollout]) -> View:
    states = sorted({int(s) for rollout in rollouts for s in rollout.states})
    if isinstance(run.world, GridWorld):
        from apportion.power.grid.view import grid_view

        return grid_view(run.world, run.solution.compiled, states)
    world, rows = run.world, run.solution.compiled.states
    return View(
        colors=human_colors(world),
        goals=world.goals,
        pictures={s: _png_uri(world, rows[s]) for s in states},
        words={s: json.dumps(world.describe(rows[s]), indent=1) for s in states},
    )


def _png_uri(world: World, state: np.ndarray) -> str:
    data = io.BytesIO()
    Image.fromarray(world.render(state)).save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _figures(run: Run, rollout: Rollout, folder: Path | None) -> list[Figure]:
    """Pictures of a grid world's first course; also written to `folder`. None for other worlds."""
    if not isinstance(run.world, GridWorld):
        return []
    from apportion.power.grid.draw import png, save
    from apportion.power.grid.pictures import pictures

    found = pictures(run.world, run.solution, rollout)
    for shown in found if folder else ():
        assert folder is not None
        for ending in (".png", ".svg"):
            save(shown.picture, folder / f"{run.world.name}-{shown.name}{ending}", shown.title)
    return [Figure(s.title, s.caption, png(s.picture), REM * s.picture.width) for s in found]
