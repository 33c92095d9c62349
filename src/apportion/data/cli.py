"""`apportion data inspect|doctor|convert|features`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apportion.data.set_flags import open_set, set_parser
from apportion.flags import did_you_mean, run_verb
from apportion.types import UserError

if TYPE_CHECKING:
    from apportion.data.doctor import Finding
    from apportion.data.schema import DemoSet
    from apportion.data.summary import Summary

HELP = """\
usage: apportion data VERB PATH [...]

Robot demonstrations: LIBERO's HDF5, RLDS, LeRobot, Minari, or a store made by convert.

  inspect PATH                what is in it; --sheet FILE draws frames of some episodes
  doctor PATH                 whether a reward can be learned from it, and what each method would learn
  convert SRC DST --to FORMAT filter, merge with failures, write as store, hdf5, rlds or lerobot
  features STORE              compute features of a frozen encoder, once, next to the store

  apportion data VERB --help  the flags of one verb
"""


def main(argv: Sequence[str]) -> int:
    """One command line after `apportion data`. Returns the exit code; raises UserError for slips."""
    return run_verb(argv, VERBS, "data", HELP)


def _summaries(
    demos: DemoSet, skip_bad: bool, value: Callable[[Any], float] | None = None
) -> tuple[list[tuple[int, Summary]], int]:
    """(index, summary) of every good episode, and how many were bad; each of those is named on stderr."""
    from apportion.data.schema import BadDemo
    from apportion.data.summary import summarise

    good, bad = [], 0
    for index in range(len(demos)):
        try:
            demo = demos.read(index, "none")
        except BadDemo as error:
            if not skip_bad:
                raise
            print(f"skipped: {error}", file=sys.stderr)
            bad += 1
            continue
        good.append((index, summarise(demo, float("nan") if value is None else value(demo))))
    if not good:
        raise UserError(f"{demos.info.path}: all {bad} episodes are bad")
    return good, bad


def _inspect(argv: list[str]) -> int:
    parser = set_parser("inspect", "Tell what is in a set of episodes.")
    parser.add_argument("--json", action="store_true", help="print it as JSON")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="PNG with frames of some episodes")
    parser.add_argument("--per-task", type=int, default=2, help="episodes of each task on the sheet (default: 2)")
    args = parser.parse(argv)
    if args.per_task < 1:
        raise UserError(f"--per-task {args.per_task}: at least 1")
    if args.sheet and not args.sheet.resolve().parent.is_dir():
        raise UserError(f"--sheet {args.sheet}: {args.sheet.resolve().parent} does not exist")
    from apportion.data.overview import contact_sheet, lines, overview

    demos = open_set(args)
    episodes, bad = _summaries(demos, args.skip_bad)
    about = overview(demos.info, [summary for _, summary in episodes], bad)
    if args.json:
        print(json.dumps(about, indent=1))
    else:
        print("\n".join(lines(about)))
        _print_tasks(about["tasks"])
    if args.sheet:
        rows = contact_sheet(demos, episodes, args.sheet, args.per_task)
        print(f"sheet      {args.sheet}: {rows} episodes", file=sys.stderr if args.json else sys.stdout)
    return 0


def _print_tasks(tasks: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("task and instruction", overflow="fold")
    for name in ("episodes", "steps", "min", "median", "max", "successes", "no-ops"):
        table.add_column(name, justify="right", no_wrap=True)
    for task in tasks:
        told = [words for words in task["instructions"] if words != task["task"]]
        length, share = task["length"], task["noop_share"]
        table.add_row(
            "\n  ".join([task["task"] or "(no name)", *(f'"{words}"' for words in told[:3])]),
            f"{task['episodes']:,}",
            f"{task['steps']:,}",
            f"{length['min']}",
            f"{length['median']:g}",
            f"{length['max']}",
            "-" if task["successes"] is None else f"{task['successes']}",
            "-" if share is None else f"{share:.1%}",
        )
    print()
    Console(width=None if sys.stdout.isatty() else 140, highlight=False).print(table, markup=False)


def _doctor(argv: list[str]) -> int:
    parser = set_parser("doctor", "Tell whether a reward can be learned: exit code 0 yes, 1 training is meaningless.")
    parser.add_argument("--return", dest="kind", help="success, dense, length, progress, column:NAME (success)")
    parser.add_argument("--method", default="", help="the one you mean: rrd, rrd-lrd, rd, progress, success (rrd)")
    for kind in ("rewind", "prefixes", "other-instructions"):
        parser.add_argument(f"--{kind}", action="store_true", help="you mean to fit with these artificial failures")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    args = parser.parse(argv)
    from apportion.data.doctor import METHODS, diagnose, meaningless
    from apportion.data.returns import check_kind, episode_return

    if args.kind:
        check_kind(args.kind)
    if args.method and args.method not in METHODS:
        raise UserError(f"--method {args.method}: choose from {', '.join(METHODS)}{did_you_mean(args.method, METHODS)}")
    demos = open_set(args)
    value = (lambda demo: episode_return(demo, args.kind)) if args.kind else None
    episodes, bad = _summaries(demos, args.skip_bad, value)
    artificial = args.rewind or args.prefixes or args.other_instructions
    summaries = [summary for _, summary in episodes]
    findings, lessons = diagnose(summaries, str(args.path), args.kind, args.method or "rrd", artificial)
    if args.method:
        lessons = {name: text for name, text in lessons.items() if name == args.method}
    verdict = meaningless(findings)
    if args.json:
        found = [vars(finding) for finding in findings]
        print(json.dumps({"meaningless": verdict, "skipped": bad, "findings": found, "lessons": lessons}, indent=1))
    else:
        _print_findings(str(args.path), findings, lessons, verdict, args.method or "rrd")
    return 1 if verdict else 0


def _print_findings(path: str, findings: list[Finding], lessons: dict[str, str], verdict: bool, method: str) -> None:
    marks = {"stop": "STOP", "warning": "warn", "note": "note", "fine": "ok"}
    for finding in findings:
        print(f"{marks[finding.level]:<5}{finding.what}")
        if finding.evidence:
            print(f"     {', '.join(f'{name} {_number(x)}' for name, x in finding.evidence.items())}")
        for number, remedy in enumerate(finding.remedy):
            print(f"     {'or' if number else '->'} {remedy}")
    if lessons:
        print("\nwhat each method would learn here:")
        for name, text in lessons.items():
            print(f"  {name:<9}{text}")
    print(f"\n{path}: training {method} {'would be meaningless' if verdict else 'is worth a try'}")


def _number(x: float | int | str) -> str:
    return f"{x:.4g}" if isinstance(x, float) else str(x)


def _convert(argv: list[str]) -> int:
    from apportion.data.convert_cli import main as convert

    return convert(argv)


def _features(argv: list[str]) -> int:
    from apportion.data.features_cli import main as features

    return features(argv)


VERBS: dict[str, Callable[[list[str]], int]] = {
    "inspect": _inspect,
    "doctor": _doctor,
    "convert": _convert,
    "features": _features,
}
