"""`apportion data convert`."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from apportion.data.agree import Options
from apportion.data.convert import Result, convert, size_on_disk
from apportion.data.open import open_demos
from apportion.data.set_flags import open_set, set_parser
from apportion.flags import Parser
from apportion.types import UserError


def main(argv: Sequence[str]) -> int:
    """One command line after `apportion data convert`."""
    parser = set_parser("convert", "Write episodes in another format, filtered and merged on the way.")
    parser.add_argument("target", type=Path, metavar="DST", help="folder to make; it must not exist")
    _flags(parser)
    args = parser.parse(argv)
    options = _options(args)
    sources = [open_set(args)]
    try:
        sources += [open_demos(path) for path in args.add_failures]
        with _progress() as step:
            result = convert(sources, args.target, options, step)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("nothing was kept") from None
    finally:
        for source in sources:
            source.close()
    _print(result, args.target)
    return 0


def _flags(parser: Parser) -> None:
    switch: dict[str, Any] = {"action": "store_true"}
    parser.add_argument("--to", choices=("store", "hdf5", "rlds", "lerobot"), required=True, help="format of DST")
    parser.add_argument(
        "--add-failures", type=Path, action="append", default=[], metavar="PATH",
        help="recorded rollouts of any format, to be added; may be given several times",
    )  # fmt: skip
    parser.add_argument("--drop-noops", **switch, help="without steps in which the arm rests and the gripper stays")
    parser.add_argument("--success-only", **switch, help="without episodes that did not succeed")
    parser.add_argument("--stop-at-success", **switch, help="cut each episode at its first reward above 0")
    parser.add_argument("--rotate-180", **switch, help="turn frames: the raw buffer becomes what RLDS holds, and back")
    parser.add_argument("--flip", **switch, help="flip frames: the raw buffer becomes upright, and back")
    parser.add_argument("--resize", metavar="N", help="frames of N x N pixels, or HEIGHTxWIDTH")
    parser.add_argument("--hz", type=float, metavar="N", help="down-sample: deltas of several actions are added up")
    parser.add_argument("--fps", type=float, metavar="N", help="steps per second recorded, where the files are wrong")
    parser.add_argument(
        "--sum-columns", metavar="A,B", help="with --hz, --drop-noops: add these extra columns up, as rewards are"
    )
    parser.add_argument("--cameras", metavar="A,B", help="keep only these cameras; none: keep none")
    parser.add_argument("--proprio", metavar="A,B", help="keep only these low-dimensional observations")
    parser.add_argument("--drop-task", action="append", default=[], metavar="TASK", help="without this task's episodes")
    parser.add_argument("--assume-success", **switch, help="episodes of SRC that do not say have succeeded")
    parser.add_argument("--assume-failure", **switch, help="episodes of --add-failures that do not say have failed")
    parser.add_argument("--lossless", **switch, help="rlds, lerobot: frames without loss, which takes more room")
    parser.add_argument("--version", choices=("v3.0", "v2.1"), default="v3.0", help="lerobot: of the format (v3.0)")


def _options(args: Namespace) -> Options:
    if args.lossless and args.to not in ("rlds", "lerobot"):
        raise UserError(f"--lossless is a setting of --to rlds and lerobot: {args.to} has frames as they are anyway")
    if args.sum_columns and not (args.hz or args.drop_noops):
        raise UserError(f"--sum-columns {args.sum_columns} is a setting of --hz and --drop-noops, and neither is here")
    for flag, value in (("--hz", args.hz), ("--fps", args.fps)):
        if value is not None and not 0 < value < 1e4:
            raise UserError(f"{flag} {value:g}: a number of steps per second is wanted")
    return Options(
        to=args.to,
        cameras=_names(args.cameras),
        proprio=_names(args.proprio),
        drop_tasks=tuple(args.drop_task),
        success_only=args.success_only,
        assume_success=args.assume_success,
        assume_failure=args.assume_failure,
        stop_at_success=args.stop_at_success,
        fps=args.fps,
        hz=args.hz,
        drop_noops=args.drop_noops,
        sum_columns=_names(args.sum_columns) or (),
        rotate_180=args.rotate_180,
        flip=args.flip,
        resize=_size(args.resize) if args.resize else None,
        skip_bad=args.skip_bad,
        lossless=args.lossless,
        version=args.version,
    )


def _names(text: str | None) -> tuple[str, ...] | None:
    return () if text == "none" else None if text is None else tuple(name for name in text.split(",") if name)


def _size(text: str) -> tuple[int, int]:
    """(height, width) of N or HEIGHTxWIDTH."""
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text)
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(8 <= n <= 4096 for n in size):
        raise UserError(f"--resize {text}: give N or HEIGHTxWIDTH, between 8 and 4096 pixels")
    return size


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda done, all_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("episodes", total=None)
        yield lambda done, all_: bar.update(task, completed=done, total=all_)


def _print(result: Result, path: Path) -> None:
    print(f"{path}: {result.episodes:,} episodes, {result.steps:,} steps, {size_on_disk(path) / 1e6:,.1f} MB")
    if result.failures:
        print(f"failures   {result.failures:,} of them")
    if result.noops:
        print(f"no-ops     {result.noops:,} steps dropped")
    if result.filtered:
        print(f"left out   {result.filtered:,} episodes (--success-only, --drop-task)")
    for note in result.notes:
        print(f"note       {note}")
    if result.skipped:
        print(f"skipped    {len(result.skipped):,} bad episodes")
        for line in result.skipped[:5]:
            print(f"           {line}")
