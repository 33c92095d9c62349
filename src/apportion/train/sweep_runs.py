"""Many runs from one file: a command line, the flags to vary, the seeds; which of them are still to be done.

    command: train rrd-sac --env Reacher-v5 --steps 2e5
    vary: {q-lr: [1e-3, 3e-4], rrd-sample-size: [16, 64]}
    seeds: [0, 1, 2]

is twelve runs: runs/NAME/q-lr=1e-3_rrd-sample-size=16_seed=0 and so on, NAME being the file's. runs/NAME/sweep.json
says what each of them is, so that a later call goes on with the same ones.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apportion.flags import did_you_mean
from apportion.run.files import write_json
from apportion.run.rundir import RunDir
from apportion.train.seeds import Job
from apportion.types import UserError

PLAN = "sweep.json"
_KEYS = ("name", "command", "vary", "seeds")
_VERBS = (("train",), ("fit",), ("power", "train"))
_OURS = ("name", "runs-dir", "seeds", "jobs")  # flags that the sweep decides on


@dataclass(frozen=True)
class Sweep:
    """The runs of one file: name -> command line, without where the run goes."""

    name: str
    runs: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Todo:
    """A run that is not finished. `started`: there is something of it to resume."""

    name: str
    args: tuple[str, ...]
    started: bool


# -------------------------------------------------------------------- the file


def read_sweep(path: Path) -> Sweep:
    """The runs that `path` (YAML) asks for, in its order, the last flag varying fastest. Raises UserError for slips."""
    data = _load(path)
    try:
        return _sweep(data, path.stem)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _load(path: Path) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise UserError("apportion sweep reads YAML and needs pyyaml: pip install 'apportion[cluster]'") from None
    try:
        data = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UserError(f"{path} must say command: and what to vary, not be a {type(data).__name__}")
    return data


def _sweep(data: dict[str, Any], stem: str) -> Sweep:
    for key in data:
        if key not in _KEYS:
            raise UserError(f"unknown key {key!r}{did_you_mean(str(key), _KEYS)} (it has {', '.join(_KEYS)})")
    command = _command(data.get("command"))
    axes = _axes(data.get("vary") or {}, data.get("seeds"))
    in_command = {_flag(word) for word in command if word.startswith("--")}
    for flag in (*_OURS, *axes):
        if flag in in_command:
            raise UserError(f"--{flag} in command: is for the sweep to decide; leave it out")
    runs: dict[str, tuple[str, ...]] = {}
    for values in itertools.product(*axes.values()):
        point = dict(zip(axes, values, strict=True))
        name = "_".join(f"{flag}={_spelt(value)}" for flag, value in point.items())
        if name in runs:
            raise UserError(f"two runs would be called {name}: give values that differ in their letters and digits")
        runs[name] = (*command, *itertools.chain.from_iterable(_words(flag, value) for flag, value in point.items()))
    name = str(data.get("name", stem))
    if not re.fullmatch(r"[\w.+-]+", name):
        raise UserError(f"name: {name!r} cannot be a directory's: take letters, digits and . _ + -")
    return Sweep(name, runs)


def _command(given: Any) -> tuple[str, ...]:
    words = shlex.split(given) if isinstance(given, str) else [str(word) for word in given or ()]
    words = words[1:] if words[:1] == ["apportion"] else words
    if not any(tuple(words[: len(verb)]) == verb for verb in _VERBS):
        known = ", ".join(" ".join(verb) for verb in _VERBS)
        raise UserError(f"command: must begin with a verb that makes runs ({known}), not {' '.join(words[:2])!r}")
    if "-h" in words or "--help" in words:
        raise UserError("command: is a run to make, so --help does not belong there")
    return tuple(words)


def _axes(vary: Any, seeds: Any) -> dict[str, list[Any]]:
    """Flag -> its values, `seed` last."""
    if not isinstance(vary, dict):
        raise UserError("vary: must be flags with lists of values, such as {q-lr: [1e-3, 3e-4]}")
    axes: dict[str, Any] = {_flag(str(flag)): values for flag, values in vary.items()}
    if seeds is not None:
        if "seed" in axes:
            raise UserError("seeds: and vary: {seed: ...} say the same thing: keep one of them")
        axes["seed"] = seeds
    if not axes:
        raise UserError("nothing varies: give vary: or seeds:")
    for flag, values in axes.items():
        if not isinstance(values, list) or not values:
            what = "seeds:" if flag == "seed" and seeds is not None else f"vary: {flag}"
            raise UserError(f"{what} must be a list of values, not {values!r}")
        if flag in _OURS:
            raise UserError(f"--{flag} cannot vary: the sweep decides on it")
    return axes


def _flag(word: str) -> str:
    return word.partition("=")[0].lstrip("-").replace("_", "-")


def _spelt(value: Any) -> str:
    """`value` in a directory's name."""
    parts = value if isinstance(value, list) else [value]
    return re.sub(r"[^\w.+-]+", "-", ",".join(map(str, parts))).strip("-") or "none"


def _words(flag: str, value: Any) -> tuple[str, ...]:
    if value is None:  # the default
        return ()
    if isinstance(value, bool):
        return (f"--{flag}" if value else f"--no-{flag}",)
    return (f"--{flag}={','.join(map(str, value)) if isinstance(value, list) else value}",)


# -------------------------------------------------------------------- the directory


def write_plan(root: Path, sweep: Sweep) -> None:
    """Leaves ROOT/sweep.json; runs may be added to it later. Raises UserError where ROOT is something else.

    A run that was begun with another command line is refused: its name would stand for two things.
    """
    before = _read_plan(root)
    for name, args in sweep.runs.items():
        if name in before and before[name] != args and (root / name / "config.json").exists():
            raise UserError(
                f"{root / name} was begun with other settings ({' '.join(before[name])}): give another --name"
            )
    try:
        root.mkdir(parents=True, exist_ok=True)
        write_json(root / PLAN, {"runs": before | sweep.runs})
    except OSError as error:
        raise UserError(f"{root} cannot be written ({error.strerror}): give another --name or --runs-dir") from error


def _read_plan(root: Path) -> dict[str, tuple[str, ...]]:
    path = root / PLAN
    if not path.exists():
        if any((root / name).exists() for name in ("config.json", "seeds.json")):
            raise UserError(f"{root} is a run and no sweep: give another --name or --runs-dir")
        return {}
    try:
        runs = json.loads(path.read_bytes())["runs"]
        return {str(name): tuple(map(str, args)) for name, args in runs.items()}
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({error}): remove it, and the sweep goes on") from error


def unfinished(root: Path, sweep: Sweep) -> list[Todo]:
    """The runs that are still to be done, in order. Raises UserError for a run.json that cannot be read."""
    todo = []
    for name, args in sweep.runs.items():
        run = RunDir(root / name)
        started = run.config_file.exists() and not run.came_to_nothing()
        if not (started and run.info().get("finished")):
            todo.append(Todo(name, args, started))
    return todo


def as_job(todo: Todo, root: Path, seen_as: Path) -> Job:
    """The command line of one run. `seen_as`: what `root` is called where it runs."""
    if todo.started:
        words = ("resume", str(seen_as / todo.name))
    else:
        words = (*todo.args, "--runs-dir", str(seen_as.parent), "--name", f"{seen_as.name}/{todo.name}")
    return Job(todo.name, words, root / todo.name)


def option(args: Sequence[str], flag: str, otherwise: str) -> str:
    """The value that a command line gives to `--flag`; the last mention counts."""
    found = otherwise
    for at, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name in (f"--{flag}", f"--{flag.replace('-', '_')}"):
            found = value if equals else args[at + 1] if at + 1 < len(args) else found
    return found


def check(args: Sequence[str]) -> None:
    """Parses a command line as its verb would. Raises UserError for what the verb would refuse."""
    parse: Callable[[Sequence[str]], Any]
    if args[0] == "train":
        from apportion.flags import parse_train as parse
    elif args[0] == "fit":
        from apportion.fit_cli import parse_fit as parse
    else:
        from apportion.power.train_cli import parse
    parse(args[2 if args[0] == "power" else 1 :])


def check_world(todo: Todo) -> None:
    """Opens the world that a run of human power would begin in; a run that has begun has kept it. Raises UserError."""
    if todo.args[0] == "power" and not todo.started:
        from apportion.power.learn.worlds import open_kept
        from apportion.power.train_cli import parse

        open_kept(parse(todo.args[2:])[1])
