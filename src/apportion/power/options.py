"""Flags that solve, evaluate and query share, and what they do with them: the world, compiled, and its parameters."""

from __future__ import annotations

import dataclasses
import sys
import time
import typing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from apportion.flags import spell, typed, walk
from apportion.power.compiled import Compiled
from apportion.power.memory import GIB
from apportion.power.own import own_faults
from apportion.power.params import PowerParams, check, parse_values
from apportion.power.runs import open_world, refuse_place, run_folder
from apportion.power.solve import Progress
from apportion.power.world import World
from apportion.types import UserError

F = TypeVar("F", bound="Options")
T = TypeVar("T")
Unsaid = tyro.conf.arg(help_behavior_hint="")  # the default is empty, and the words say what that means


@dataclass(frozen=True)
class Options:
    """Where the world ends, and what the machine may give."""

    horizon: Annotated[str, Unsaid] = ""  # steps until the end, or none for no end (default: the world's own)
    params: Annotated[tuple[str, ...], Unsaid] = ()  # parameters as name=value, beside their flags: xi=2 eta=1
    max_states: int = 20_000_000  # refuse worlds with more
    memory: float = 0.0  # GiB that solving may take; 0: 60 % of what is free
    threads: int = 1  # of the processor; a second one pays only on an idle machine; 0: all
    device: str = "cpu"  # or cuda
    cache: Annotated[str, Unsaid] = ""  # of compiled worlds; none: nowhere (default: ~/.cache/apportion/power)
    json: bool = False  # print the result as JSON

    @property
    def limit(self) -> int | None:
        """Bytes that solving may take; None: a share of what is free. Raises UserError for a negative number."""
        if not self.memory >= 0:
            raise UserError(f"--memory {self.memory:g}: a positive number of GiB is wanted")
        return int(self.memory * GIB) or None


@dataclass(frozen=True)
class RunOptions(Options):
    """Where a run is kept."""

    name: Annotated[str, Unsaid] = ""  # of the folder, runs/power-NAME (default: the world's, and the policy's)
    runs_dir: str = "runs"  # where runs are kept

    def folder(self, default: str) -> Path:
        """The run's folder; `default`: its name without --name. Raises UserError where none can be made."""
        return run_folder(self.runs_dir, self.name or default)


def parse(argv: Sequence[str], options: type[F], verb: str, about: str) -> tuple[str, F, dict[str, Any]]:
    """(WORLD, options, parameters that were given). Raises UserError; `--help` prints and exits."""
    prog = f"apportion power {verb}"
    flags = dataclasses.make_dataclass("_Flags", [("run", options), ("equations", PowerParams)], frozen=True)
    hints = typing.get_type_hints(PowerParams) | typing.get_type_hints(options)
    if any(word in ("-h", "--help") for word in argv):
        typed(["--help"], flags(options(), PowerParams()), f"{prog} WORLD", about)
    if not argv or argv[0].startswith("-"):
        raise UserError(
            f"which world? {prog} WORLD: a YAML file, a shipped name (apportion power worlds), module:Class"
        )
    words = walk(_together(argv[1:]), hints, prog)
    found = typed(spell(words, hints), flags(options(), PowerParams()), prog, about)
    names = {f.name for f in dataclasses.fields(PowerParams)}
    given = {name: getattr(found.equations, name) for name in words if name in names}
    return argv[0], found.run, {**given, **parse_values(found.run.params)}


def _together(argv: Sequence[str]) -> list[str]:
    """The words of a flag for several values that comes twice, as if it had come once."""
    out: list[str] = []
    lists: dict[str, list[str]] = {}
    words = list(argv)
    while words:
        word, equals, value = words.pop(0).partition("=")
        if word in ("--sweep", "--params"):
            lists.setdefault(word, []).extend([value] if equals else [])
            while words and not equals and not words[0].startswith("--"):
                lists[word].append(words.pop(0))
        else:
            out.append(word + equals + value)
    return [*out, *(part for flag, values in lists.items() for part in (flag, *values))]


def refuse_early(params: PowerParams, options: Options, sweep: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Raises UserError for what is wrong whatever the world holds: before minutes of compiling, not after.

    Returns the points of the sweep.
    """
    end = None if options.horizon == "none" else 1  # all that the ranges ask of a horizon is whether there is one
    check(params, end)
    if isinstance(options, RunOptions):
        refuse_place(options.runs_dir, Path(options.runs_dir))
    if not sweep:
        return []
    from apportion.power.sweep import parse_sweep

    return parse_sweep(sweep, params, end)


def prepare(source: str, options: Options) -> tuple[World, Compiled, float]:
    """The world, compiled, and the seconds that took. Raises UserError for no such world and for one too large."""
    import torch

    from apportion.power.cache import cache_home, compile_world

    if options.threads < 0:
        raise UserError(f"--threads {options.threads}: at least 1, or 0 for all")
    if options.threads:
        torch.set_num_threads(options.threads)
    check_device(options.device)
    world, started = open_world(source, horizon_of(options.horizon)), time.perf_counter()
    cache = None if options.cache == "none" else Path(options.cache or cache_home() / "power").expanduser()
    with own_faults(source):
        compiled = compile_world(world, cache, max_states=options.max_states, memory_limit=options.limit)
    return world, compiled, time.perf_counter() - started


def check_device(device: str) -> None:
    """Raises UserError for a device that is not there, or cannot hold a float64 and give it back."""
    import torch

    from apportion.device import torch_device

    torch_device(device)
    try:
        torch.zeros(1, dtype=torch.float64, device=device).item()
    except (RuntimeError, AssertionError, TypeError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}; there is cpu") from None


def horizon_of(word: str) -> int | str | None:
    """`--horizon` as `open_world` takes it. Raises UserError."""
    if word in ("", "none"):
        return word or None
    if not word.isdecimal() or int(word) < 1:
        raise UserError(f"--horizon {word}: a number of steps is wanted, at least 1, or none for no end")
    return int(word)


def going_on(folder: Path, work: Callable[[], T]) -> T:
    """Do `work`, whose sweeps go to `folder`; after Ctrl-C say how to go on."""
    try:
        return work()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"the same command goes on from the last finished sweep in {folder}") from None


@contextmanager
def shown(what: str) -> Iterator[Progress]:
    """A line on a terminal that says how far a solve is."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status(what) as status:

        def progress(words: str, done: int, total: int) -> None:
            status.update(f"{what}: {words} {done:,}{f' of {total:,}' if total else ''}")

        yield progress
    sys.stderr.flush()
