"""Runs as tasks of a Ray cluster: the same command line, on whatever machine has room for it.

A machine that sees the sweep's directory (a shared disk) works in it. With `send_back` it works in a directory of its
own, is given what there is of the run, and sends the whole run back when it ends, is stopped or fails.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from apportion.run.files import file_sha256
from apportion.train.seeds import Job
from apportion.train.sweep_runs import PLAN, option
from apportion.train.workers_ray import RayCluster

_WAIT = 0.2  # seconds between looks, while waiting for one run
_KILL = 5.0  # seconds for an actor to kill its process


# -------------------------------------------------------------------- the owner's end


class RayRun:
    """A run on the cluster, as `train.seeds` watches processes: poll, send_signal, wait, kill."""

    def __init__(self, cluster: RayCluster, job: Job, threads: int, send_back: bool):
        self._ray, self._job, self._send_back = cluster.ray, job, send_back
        gpus = 1 if option(job.args, "device", "cpu").startswith("cuda") else 0
        kind = self._ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0)(_Runner)
        self._actor = kind.remote(threads)
        root = job.run.parent
        place = None if send_back else (str(root.resolve()), file_sha256(root / PLAN))
        given = _pack(job.run) if send_back and job.args[0] == "resume" else b""
        self._answer = self._actor.start.remote(job.args, str(Path.cwd()), str(job.log.resolve()), place, given)
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, once it has ended (and is back); None before."""
        return self._look()

    def wait(self, timeout: float) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        end = time.monotonic() + timeout
        while (code := self._look()) is None:
            if time.monotonic() >= end:
                raise subprocess.TimeoutExpired(self._job.args, timeout)
            time.sleep(_WAIT)
        return code

    def send_signal(self, number: int) -> None:
        self._actor.signal.remote(number)

    def kill(self) -> None:
        """Ends it for certain; nothing more is sent back."""
        if self._code is None:
            self._code = -signal.SIGKILL
            self._ray.wait([self._actor.signal.remote(signal.SIGKILL)], timeout=_KILL)  # the process before its actor
            self._ray.kill(self._actor)

    def _look(self) -> int | None:
        if self._code is not None or not self._ray.wait([self._answer], timeout=0)[0]:
            return self._code
        try:
            code = self._ray.get(self._answer)
            if code is None:
                self._answer = self._actor.poll.remote()
                return None
            if self._send_back:
                self._take(*self._ray.get(self._actor.fetch.remote(self._job.label)))
        except Exception as error:  # Ray's own: the actor, or its machine, is gone
            with self._job.log.open("a") as log:
                log.write(f"{type(error).__name__}: the process or the machine of this run was lost\n")
            code = 1
        self._code = code
        self._ray.kill(self._actor)
        return code

    def _take(self, packed: bytes, said: bytes) -> None:
        with self._job.log.open("ab") as log:
            log.write(said)
        if packed:
            _unpack(packed, self._job.run)


def _pack(run: Path) -> bytes:
    """A run's directory as a tar file; empty bytes where there is none."""
    if not run.is_dir():
        return b""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.add(run, arcname=".")
    return out.getvalue()


def _unpack(packed: bytes, run: Path) -> None:
    """Puts the directory in the place of `run`, which stays until the new one is whole."""
    new, old = run.with_name(f"{run.name}.new"), run.with_name(f"{run.name}.old")
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        tar.extractall(new, filter="data")
    if run.exists():
        run.rename(old)
    new.rename(run)
    shutil.rmtree(old, ignore_errors=True)


# -------------------------------------------------------------------- the cluster's end


class _Runner:
    """The actor: one process, and the directory that it works in."""

    def __init__(self, threads: int):
        self._threads = threads
        self._process: subprocess.Popen[bytes] | None = None
        self._scratch: Path | None = None
        self._log = Path()

    def start(
        self, args: tuple[str, ...], cwd: str, log: str, place: tuple[str, str] | None, given: bytes
    ) -> int | None:
        """Starts the command line; None, or an exit code where that makes no sense here.

        `place`: the sweep's directory and what its plan hashes to; None: this machine need not see it.
        """
        where, self._log = Path(cwd), Path(log)
        if place is None:
            where = self._scratch = Path(tempfile.mkdtemp(prefix="apportion-"))
            self._log = where / "log"
            if given:
                run = where / args[1]
                run.parent.mkdir(parents=True)
                _unpack(given, run)
        elif not _sees(*place):
            raise FileNotFoundError(f"{place[0]} is not on this machine: put it on a shared disk, or take --send-back")
        elif not where.is_dir():
            where = Path(place[0])
        pools = {"OMP_NUM_THREADS": str(self._threads), "PYTHONUNBUFFERED": "1"}
        path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), cwd)))  # module:Class of the user's own
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "apportion", *args],
                cwd=where,
                stdout=out,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **pools, "PYTHONPATH": path},
                start_new_session=True,  # a Ctrl-C reaches it once, by `signal`
                preexec_fn=_hear_interrupts,
            )
        return None

    def poll(self) -> int | None:
        """The exit code, if it has ended."""
        assert self._process is not None
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Passes a signal on."""
        if self._process is not None:
            self._process.send_signal(number)

    def fetch(self, name: str) -> tuple[bytes, bytes]:
        """The run as a tar file, and what was said; what was here is removed."""
        assert self._scratch is not None
        found = next(iter(self._scratch.glob(f"*/{name}")), self._scratch / "none")
        result = _pack(found), self._log.read_bytes()
        shutil.rmtree(self._scratch, ignore_errors=True)
        return result


def _sees(root: str, plan: str) -> bool:
    path = Path(root) / PLAN
    return path.is_file() and file_sha256(path) == plan


def _hear_interrupts() -> None:
    """Ray keeps Ctrl-C from its processes, and so from theirs: this one stops by it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def start_on(cluster: RayCluster, send_back: bool) -> Any:
    """How `train.seeds.run_all` starts a job: on this cluster."""
    return lambda job, threads: RayRun(cluster, job, threads, send_back)
