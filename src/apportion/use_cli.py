"""What is done with a fitted reward model: `apportion label`, `audit`, and `report` of a run of `apportion fit`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apportion.flags import Parser
from apportion.types import UserError

if TYPE_CHECKING:
    from apportion.train.use import Use

SHOWN = 8  # episodes on the page


def is_fit(run: Path) -> bool:
    """Is this the directory of a run of `apportion fit`?"""
    try:
        return json.loads((run / "config.json").read_bytes()).get("kind") == "FitConfig"
    except (OSError, ValueError, AttributeError):
        return False


def label(argv: Sequence[str]) -> int:
    parser = Parser(
        "apportion label",
        "Write a fitted model's reward of every step into a copy of the data, in its own format: HDF5 (dataset "
        "rewards_NAME), RLDS (step feature reward_NAME), LeRobot (column reward.NAME, and sarm_progress.parquet), "
        "Minari, or a store.",
    )
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run of apportion fit, or its reward/")
    parser.add_argument("--data", type=Path, required=True, help="demonstrations; they stay as they are")
    parser.add_argument("--out", type=Path, required=True, help="the labelled copy: a new folder, or file")
    parser.add_argument("--name", help="of the column (default: the method: rrd, rd, progress, success)")
    _add_reading(parser)
    args = parser.parse(argv)
    from apportion.train.label import label
    from apportion.train.use import open_use

    use = open_use(args.model, args.data, _device(args.device), args.timing, args.skip_bad)
    done = label(use, args.data, args.out, args.name or use.config.method, _progress("labelling"))
    print(f"{args.out}: {done.episodes} episodes, {done.steps:,} steps; {'; '.join(done.where)}")
    _say_skipped(use, " without a reward in the copy")
    return 0


def audit(argv: Sequence[str]) -> int:
    parser = Parser(
        "apportion audit",
        "Judge a fitted reward model on episodes it did not learn from, beside the constant, task and length controls.",
    )
    _add_common(parser)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    args = parser.parse(argv)
    from apportion.rewards.audit_text import render
    from apportion.train.use import audit_run, open_use

    use = open_use(args.run, args.data, _device(args.device), args.timing, args.skip_bad)
    found, _ = audit_run(use, args.episodes, _names(args.truth), _progress("auditing"))
    use.demos.close()
    print(json.dumps(found, allow_nan=False) if args.json else render(found))
    _say_skipped(use)
    return 0


def report(argv: Sequence[str]) -> int:
    parser = Parser(
        "apportion report",
        "Write one self-contained HTML page about a run of apportion fit: the audit, and episodes to play with their "
        "rewards.",
    )
    _add_common(parser)
    parser.add_argument("--out", type=Path, help="the page (default: report.html in RUN)")
    parser.add_argument("--show", type=int, default=SHOWN, help=f"episodes on the page (default: {SHOWN})")
    parser.add_argument("--rerun", type=Path, metavar="FILE.rrd", help="write a recording for the Rerun viewer instead")
    args = parser.parse(argv)
    if args.show < 1:
        raise UserError(f"--show {args.show}: at least 1 is needed")
    from apportion.report.demo_story import tell
    from apportion.report.demos import FRAMES, write_page
    from apportion.report.rerun_file import EVERY_FRAME, write_rrd
    from apportion.train.use import open_use

    use = open_use(args.run, args.data, _device(args.device), args.timing, args.skip_bad)
    frames = EVERY_FRAME if args.rerun else FRAMES
    story, shown = tell(use, args.episodes, _names(args.truth), args.show, frames, _progress("auditing"))
    if args.rerun:
        print(f"recording: {write_rrd(story, shown, args.rerun)}; look at it with `rerun {args.rerun}`")
    else:
        out = args.out or args.run / "report.html"
        page = out if out.suffix.lower() in (".html", ".htm") else out / "report.html"
        print(f"report: {write_page(story, shown, page)}")
    use.demos.close()
    _say_skipped(use)
    return 0


def _add_common(parser: Parser) -> None:
    parser.add_argument("run", type=Path, help="run of apportion fit")
    parser.add_argument("--data", type=Path, help="demonstrations (default: those of the fit)")
    parser.add_argument(
        "--episodes", choices=("val", "all"), help="val: held out of the fit (default, where the data is the fit's)"
    )
    parser.add_argument("--truth", default="", metavar="NAMES", help="columns to compare with: phase,reward")
    _add_reading(parser)


def _add_reading(parser: Parser) -> None:
    parser.add_argument(
        "--timing",
        choices=("before", "after"),
        default="auto",
        help="observations in HDF5 files are from before or after the action (the fit's own data: as it was read then)",
    )
    parser.add_argument("--skip-bad", action="store_true", help="go on without episodes that cannot be read")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1")


def _say_skipped(use: Use, which: str = "") -> None:
    from apportion.data.schema import skipped

    if use.bad:
        print(skipped(use.bad, which), file=sys.stderr)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _device(name: str) -> str:
    from apportion.device import torch_device

    return str(torch_device(name))


def _progress(doing: str):
    """A counter on the screen, if there is one."""

    def told(done: int, of: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{doing} episode {done} of {of} ", end="\n" if done == of else "", file=sys.stderr, flush=True)

    return told
