"""Several runs side by side, each in a process here or elsewhere: started, watched, stopped and counted here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol, runtime_checkable

from apportion.run.files import write_json
from apportion.types import UserError

_LOOK, _SAY, _GRACE = 0.2, 10.0, 60.0  # seconds between looks and lines, and to finish a checkpoint after Ctrl-C


@dataclass(frozen=True)
class Job:
    """One command line of ours, as `python -m apportion ARGS`, and the run directory it fills."""

    label: str
    args: tuple[str, ...]
    run: Path

    @property
    def log(self) -> Path:
        """Where the process's output goes: beside the run, which refuses to be made twice."""
        return self.run.with_name(self.run.name + ".log")


@runtime_checkable
class Process(Protocol):
    """A job at work: the part of `subprocess.Popen` that is needed here."""

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> int: ...

    def send_signal(self, number: int, /) -> None: ...

    def kill(self) -> None: ...


@dataclass
class _Running:
    job: Job
    process: Process
    step: int = 0
    said: float = field(default_factory=time.monotonic)


def write_plan(root: Path, jobs: Sequence[Job]) -> None:
    """Leaves ROOT/seeds.json, run -> command line, so that `resume` knows of seeds that were never started.

    Once a seed was started, a later command adds to the plan. Raises UserError where it cannot be written.
    """
    before = read_plan(root) if any(root.glob("seed_*/config.json")) else {}
    plan = before | {job.run.name: job.args for job in jobs}
    try:
        root.mkdir(parents=True, exist_ok=True)
        write_json(root / "seeds.json", plan)
    except OSError as error:
        raise UserError(f"{root} cannot be written ({error.strerror}): give another --name or --runs-dir") from error


def read_plan(root: Path) -> dict[str, tuple[str, ...]]:
    """What `write_plan` left; nothing where there is no such file. Raises UserError if it is damaged."""
    path = root / "seeds.json"
    if not path.exists():
        return {}
    try:
        plan = json.loads(path.read_bytes())
        if not all(name.startswith("seed_") and args[0] == "train" for name, args in plan.items()):
            raise ValueError("it holds something else")
        return {name: tuple(map(str, args)) for name, args in plan.items()}
    except (OSError, ValueError, AttributeError, LookupError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): remove it, and resume goes on with the seeds that were started"
        ) from error


def exit_code(codes: Sequence[int]) -> int:
    """0 when all went well, 2 when nothing but slips of the user's went wrong, else 1."""
    failed = {code for code in codes if code}
    return 0 if not failed else 2 if failed == {2} else 1


def at_once(jobs: int, threads: int) -> int:
    """How many processes side by side: `jobs`, or as many as this process may use cores for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return jobs if jobs > 0 else max(1, cores // max(1, threads))


def start_here(job: Job, threads: int) -> Process:
    """A process of this machine. Raises UserError where its log cannot be written."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    with _open_log(job) as out:
        return subprocess.Popen(
            [sys.executable, "-m", "apportion", *job.args],
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=env,
            start_new_session=True,  # the terminal's Ctrl-C reaches us alone; we pass it on once
        )


def run_all(
    jobs: Sequence[Job],
    count: int,
    threads: int,
    steps: int,
    start: Callable[[Job, int], Process] = start_here,
) -> list[int]:
    """Run `jobs`, `count` at a time, with plain progress lines; a failure is told and the others go on.

    `steps`: how many each will make; 0: that is not known. `start` brings a job to work, with so many threads.
    Returns the exit codes, in the order of `jobs`. On Ctrl-C (or SIGTERM, SIGHUP) every process is asked to stop, gets
    a minute to finish a checkpoint, and KeyboardInterrupt goes on to the caller.
    """
    waiting, running, codes = list(jobs), list[_Running](), dict[str, int]()
    with _signals_interrupt():
        try:
            while waiting or running:
                while waiting and len(running) < count:
                    running.append(_start(waiting.pop(0), threads, start))
                for one in list(running):
                    code = one.process.poll()
                    _say_progress(one, steps)
                    if code is not None:
                        running.remove(one)
                        codes[one.job.label] = code
                        _say_end(one.job, code)
                time.sleep(_LOOK)
        except BaseException:
            _stop(running)
            raise
    return [codes[job.label] for job in jobs]


def _open_log(job: Job) -> IO[bytes]:
    try:
        job.log.parent.mkdir(parents=True, exist_ok=True)
        return job.log.open("ab")
    except OSError as error:
        raise UserError(f"{job.log} cannot be written ({error.strerror}): give another directory") from error


def _start(job: Job, threads: int, start: Callable[[Job, int], Process]) -> _Running:
    _open_log(job).close()
    running = _Running(job, start(job, threads))
    print(f"{job.label}: started, its output goes to {job.log}", flush=True)
    return running


def _say_progress(one: _Running, steps: int) -> None:
    """A line every ten seconds while the run's metrics grow."""
    now = time.monotonic()
    if now - one.said < _SAY:
        return
    last = _last_line(one.job.run / "metrics.jsonl")
    if last.get("step", 0) > one.step:
        one.step, one.said = last["step"], now
        words = [f"{one.job.label}: {one.step:,}{f' of {steps:,}' if steps else ''} steps"]
        if isinstance(last.get("return"), float | int):
            words.append(f"return {last['return']:.2f}")
        returns = _last_line(one.job.run / "evaluations.jsonl").get("returns")
        if returns and None not in returns:
            words.append(f"evaluation {sum(returns) / len(returns):.2f}")
        print(", ".join(words), flush=True)


def _last_line(path: Path) -> dict:
    """The last complete line of a JSONL file, or nothing."""
    with contextlib.suppress(OSError, ValueError, IndexError), path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65_536))
        lines = file.read().split(b"\n")
        return json.loads(lines[-2])  # what follows the last newline is empty, or still being written
    return {}


def _say_end(job: Job, code: int) -> None:
    if code == 0:
        print(f"{job.label}: done, {job.run}", flush=True)
        return
    tail = job.log.read_text(errors="replace").strip().splitlines()[-5:]
    print(f"{job.label}: failed with exit code {code}; its last lines:", file=sys.stderr)
    print("\n".join(f"    {line}" for line in tail), file=sys.stderr, flush=True)


def _stop(running: list[_Running]) -> None:
    """SIGINT to each, once; who has not ended after the grace time, or at a second Ctrl-C, is killed."""
    for one in running:
        one.process.send_signal(signal.SIGINT)
    end = time.monotonic() + _GRACE
    for one in running:
        try:
            one.process.wait(max(0.0, end - time.monotonic()))
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            one.process.kill()
            one.process.wait(_GRACE)


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP act like Ctrl-C: the processes have sessions of their own and would outlive us."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    names = [s for s in (signal.SIGTERM, getattr(signal, "SIGHUP", None)) if s is not None]
    before = {name: signal.signal(name, interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
