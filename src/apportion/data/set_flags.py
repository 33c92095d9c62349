"""The flags that say which set is meant, shared by the verbs of `apportion data`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from apportion.data.open import open_demos, open_suite
from apportion.data.schema import DemoSet
from apportion.flags import Parser


def set_parser(verb: str, about: str) -> Parser:
    """A parser with what all verbs share."""
    parser = Parser(f"apportion data {verb}", about)
    parser.add_argument("path", type=Path, help="file or folder of episodes")
    parser.add_argument("--suite", help="of a folder with several LIBERO suites, this one: libero-spatial, libero-10")
    parser.add_argument(
        "--timing", choices=("before", "after"), help="observations in HDF5 files are from before or after the action"
    )
    parser.add_argument("--skip-bad", action="store_true", help="go on without episodes that cannot be read")
    return parser


def open_set(args: Namespace) -> DemoSet:
    """The set that is the first argument, opened as the flags say."""
    return open_suite(args.path, args.suite, args.timing) if args.suite else open_demos(args.path, args.timing)
