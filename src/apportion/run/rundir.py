"""A run's directory: its settings, where and by what it was made, the lock that keeps it to one process."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import os
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from apportion.run import checkpoint
from apportion.run.files import full_disk, write_json
from apportion.types import UserError

_PACKAGES = ("torch", "numpy", "gymnasium", "mujoco", "apportion")
_PART = r"(\.\d+-[0-9a-f]{8}\.tmp)?"  # what a killed run left half written (`run.files.replacing`)
# what a run has made by its first checkpoint, as paths inside it
_MADE_EARLY = re.compile(
    rf"(config|run|split|world)\.json{_PART}|lock|(metrics|timing|evaluations)\.jsonl{_PART}"
    r"|checkpoints(/step_\d+\.tmp(/\w+\.(json|safetensors))?)?"
    rf"|replay(/episodes_\w+\.safetensors{_PART})?|credit(/step_\d+\.safetensors)?|events(/events\.out\.tfevents\.[^/]+)?"
    rf"|cache(/demos(\.tmp)?(/[\w.-]+\.(bin|json){_PART})?|/skipped\.json{_PART})?"
)


class RunDir:
    """Paths of a run, and its two JSON files: config.json (never changes) and run.json (changes by `mark`)."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.config_file = self.path / "config.json"
        self.run_file = self.path / "run.json"
        self.metrics = self.path / "metrics.jsonl"
        self.timing = self.path / "timing.jsonl"
        self.evaluations = self.path / "evaluations.jsonl"
        self.checkpoints = self.path / "checkpoints"
        self.replay = self.path / "replay"
        self.credit = self.path / "credit"
        self.events = self.path / "events"

    @classmethod
    def create(cls, path: Path | str, config_json: dict[str, Any], command: list[str]) -> RunDir:
        """Makes the directory of a new run, in place of one that came to nothing (`came_to_nothing`).

        Raises UserError if there is a run already, the directory cannot be written, or the disk is full.
        """
        run = cls(path)
        try:
            with full_disk(run.path, "nothing was started"):
                run.path.mkdir(parents=True, exist_ok=True)
            with run.lock():  # of two that start at once, one is refused
                run._make_room()
                write_json(run.run_file, _circumstances(config_json, command))
                write_json(run.config_file, config_json)  # last: where it is, the run is
        except OSError as e:
            raise UserError(
                f"{run.path} cannot be made a run directory ({e.strerror}): give another --name or --runs-dir"
            ) from e
        return run

    def checkpoint(self, given: Path | None) -> Path | None:
        """`given`, or this run's checkpoint of that name; None for None. Raises UserError for any other."""
        if given is None or (given / "manifest.json").is_file():
            return given
        found = checkpoint.steps(self.checkpoints)
        named = [path for path in found if path.name == str(given)]
        if not named:
            what = "is no complete checkpoint" if given.exists() else "does not exist"
            raise UserError(
                f"--checkpoint {given} {what}; {self.path} has {', '.join(p.name for p in found) or 'none'}"
            )
        return named[0]

    def came_to_nothing(self) -> bool:
        """Is this a run without a result: no checkpoint, no evaluation, and nothing here that it did not make?

        Whether it is still at work, its lock tells.
        """
        if not self.config_file.is_file():
            return False
        try:
            info = self.info()
        except UserError:
            return False
        ours = {"command", "started", "versions"} <= info.keys() and not {"finished", "resume"} & info.keys()
        if not ours or (self.evaluations.exists() and self.evaluations.stat().st_size):
            return False
        return not checkpoint.steps(self.checkpoints) and all(map(self._made_early, self.path.rglob("*")))

    def _made_early(self, path: Path) -> bool:
        known = _MADE_EARLY.fullmatch(path.relative_to(self.path).as_posix()) is not None
        return known and not path.is_symlink() and (path.is_file() or path.is_dir())

    def _make_room(self) -> None:
        """Empties a directory whose run came to nothing. Raises UserError where there is a run. Needs the lock."""
        if not self.config_file.exists():
            return
        if not self.came_to_nothing():
            raise UserError(
                f"{self.path} holds a run already: another --name starts a new one, and `apportion resume {self.path}` "
                "goes on with this one unless it is finished"
            )
        stay = {self.config_file, self.run_file, self.path / "lock"}  # two are written anew, one is held
        # file by file, deepest first: what came here in the meantime is not removed with its directory
        for path in sorted(self.path.rglob("*"), reverse=True):
            if path not in stay and self._made_early(path):
                path.rmdir() if path.is_dir() else path.unlink()

    @classmethod
    def open(cls, path: Path | str) -> RunDir:
        """The directory of a run that exists, else UserError."""
        run = cls(path)
        if not run.config_file.is_file():
            what = "has no config.json" if run.path.is_dir() else "does not exist"
            inside = sorted(p.parent.name for p in run.path.glob("*/config.json"))[:5]
            hint = f"; runs in it: {', '.join(inside)}" if inside else ""
            raise UserError(f"{run.path} is no run directory: it {what}{hint}")
        return run

    def config(self) -> dict[str, Any]:
        """What `create` was given; `apportion.config.from_json` makes it settings again."""
        return _read_json(self.config_file)

    def info(self) -> dict[str, Any]:
        """run.json: versions, platform, command, and every mark."""
        return _read_json(self.run_file)

    def mark(self, key: str, value: Any) -> None:
        """Sets one entry of run.json (such as "finished": true), atomically."""
        write_json(self.run_file, {**self.info(), key: value})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps the run to this process, until the block ends or the process does.

        Raises UserError if another process has it, and for a disk that is full at any write within the block.
        """
        with full_disk(self.path, "what was saved before is kept"), (self.path / "lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as e:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise UserError(
                    f"run directory {self.path} is in use by process {holder}: "
                    "wait for it, stop it, or give another --name"
                ) from e
            # a forked worker that outlives a killed run must not keep its lock
            os.register_at_fork(after_in_child=file.close)
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            try:
                yield
            finally:
                fcntl.flock(file, fcntl.LOCK_UN)


def _circumstances(config_json: dict[str, Any], command: list[str]) -> dict[str, Any]:
    return {
        "command": command,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "device": _device_name(str(config_json.get("device", "cpu"))),
        "git_commit": _git_commit(),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _device_name(device: str) -> str:
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return device


def _git_commit() -> str | None:
    """Commit of the source this package runs from, if it is a git checkout."""
    here = str(Path(__file__).parent)
    try:
        out = subprocess.run(["git", "-C", here, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return out.stdout.strip() if out.returncode == 0 else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as e:
        raise UserError(f"{path} cannot be read ({e}): is it a run directory, and whole?") from e
