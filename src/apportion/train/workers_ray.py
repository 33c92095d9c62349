"""Workers as actors of a Ray cluster (extra `cluster`): what is said is the same as over a pipe, trees as bytes."""

from __future__ import annotations

import inspect
import os
import queue
import socket
import sys
import threading
import traceback
from types import ModuleType
from typing import Any

from apportion.run.tree import Tree, from_bytes, to_bytes
from apportion.train.workers import Worker, build_worker
from apportion.train.workers_process import Pulse, set_threads
from apportion.train.workers_remote import Seat
from apportion.types import UserError

_STORE = 2**29  # bytes of shared memory for objects in a cluster of our own
_KNOCK = 10.0  # seconds to wait for a connection
_JOIN = 10.0  # seconds for our threads to hear that an actor was killed


def need_ray() -> ModuleType:
    """The package. Raises UserError with the install line where it is missing."""
    try:
        import ray
    except ImportError as error:
        if error.name != "ray":
            raise
        raise UserError("a Ray cluster needs ray: pip install 'apportion[cluster]'") from None
    return ray


class RayCluster:
    """This process's connection to a cluster, made here and given up by `leave`, or found and left alone."""

    def __init__(self, address: str, cores: int):
        """`cores`: how many processors the workers want together. Raises UserError where that is not to be had."""
        self.ray = need_ray()
        self._ours = not self.ray.is_initialized()
        if self._ours:
            self._join(address, cores)
        self.cores = int(self.ray.cluster_resources().get("CPU", 0))
        if self.cores < cores:
            self.leave()
            raise UserError(
                f"the Ray cluster {address} has {self.cores} CPUs and {cores} are wanted: take fewer workers"
            )

    def _join(self, address: str, cores: int) -> None:
        address = _found() if address == "auto" else address
        if address != "local":
            _knock(address)
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
        try:
            if address == "local":
                cores = max(cores, os.cpu_count() or 1)
                self.ray.init("local", num_cpus=cores, include_dashboard=False, object_store_memory=_STORE, **quiet)
            else:
                self.ray.init(address, **quiet)
        except Exception as error:  # each kind of address fails in its own way
            self.ray.shutdown()
            raise _no_cluster(address, (str(error).strip() or type(error).__name__).splitlines()[0]) from error

    def leave(self) -> None:
        """Ends the connection, and the cluster if it is our own."""
        if self._ours and self.ray.is_initialized():
            self.ray.shutdown()
        self._ours = False


def _no_cluster(address: str, why: str) -> UserError:
    hint = "ray start --head begins one and prints its address; its token, if any, goes into RAY_AUTH_TOKEN, with "
    hint += "RAY_AUTH_MODE=token; 'local' needs none"
    return UserError(f"no Ray cluster at {address!r} ({why}): {hint}")


def _found() -> str:
    """The address that "auto" stands for. Raises UserError where there is none.

    Ray remembers clusters that are long gone, so it has to be knocked at too.
    """
    from ray._private.services import get_ray_address_from_environment

    try:
        return get_ray_address_from_environment("auto", None)
    except ConnectionError as error:
        raise _no_cluster("auto", str(error).splitlines()[0]) from None


def _knock(address: str) -> None:
    """Raises UserError at once where nobody listens at host:port; Ray itself would try for minutes, then abort."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdecimal():
        raise _no_cluster(address, "an address is local, auto, host:port or ray://host:port")
    try:
        socket.create_connection((host, int(port)), _KNOCK).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, str(error)) from None


# -------------------------------------------------------------------- the owner's end


class _RayLink:
    """An actor, a thread that asks it one request after the other and one that feels its pulse.

    It has one request at a time: Ray does not promise the order of calls to actors with several threads.
    """

    def __init__(self, cluster: RayCluster, build: str, spec: Tree, threads: int, beat: float, seat: Seat):
        self._ray, self._seat = cluster.ray, seat
        kind = self._ray.remote(num_cpus=threads, max_restarts=0, concurrency_groups={"life": 1})(_Host)
        self._actor = kind.remote(sys.path, threads)
        self._ended = threading.Event()
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        ask = threading.Thread(target=self._ask, args=(build, to_bytes(spec)), daemon=True)
        feel = threading.Thread(target=self._feel, args=(beat,), daemon=True)
        self._threads = (ask, feel)
        for thread in self._threads:
            thread.start()

    def send(self, data: bytes) -> None:
        self._outbox.put(data)

    def ask_to_end(self) -> None:
        """Kills it: an actor has nothing to put in order, and no other way to end at once."""
        if not self._ended.is_set():
            self._ended.set()
            self._outbox.put(b"")
            self._ray.kill(self._actor)

    def end(self, patience: float) -> None:
        self.ask_to_end()
        for thread in self._threads:
            thread.join(_JOIN)

    def _ask(self, build: str, spec: bytes) -> None:
        try:
            failed: str = self._ray.get(self._actor.open.remote(build, spec))
            while not failed and (data := self._outbox.get()):
                reply, failed = self._ray.get(self._actor.handle.remote(data))
                if not failed:
                    self._seat.reply(reply)
            if failed:
                self._seat.lose(failed)
        except (Exception, SystemExit) as error:  # Ray's own, or of a connection that was closed
            self._seat.lose(_ending(error))

    def _feel(self, beat: float) -> None:
        try:
            while self._ray.is_initialized():  # or Ray would begin a cluster, to call in
                self._seat.beat(*self._ray.get(self._actor.beat.remote()))
                if self._ended.wait(beat):
                    return
        except (Exception, SystemExit) as error:
            self._seat.lose(_ending(error))


def _ending(error: BaseException) -> str:
    """What Ray says of an actor's death, without its guesses."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith("\t")]
    said = " ".join(lines).partition(" Some common causes")[0]
    return f"its process died: {said or type(error).__name__}"


def start_actor(cluster: RayCluster, build: str, threads: int, silence: float, spec: Tree, seat: Seat) -> _RayLink:
    """An actor with the worker of `spec` in it."""
    return _RayLink(cluster, build, spec, threads, min(1.0, silence / 5), seat)


# -------------------------------------------------------------------- the worker's end


def _in_thread_of_its_own(method: Any) -> Any:
    """Marks a method for the actor's threads "life"; where the class is made, so that everybody sees the mark."""
    try:
        import ray
    except ImportError:  # `need_ray` says so
        return method
    mark = ray.method(concurrency_group="life")
    mark(inspect.unwrap(method))  # Ray looks through wrappers, such as those that check types
    return mark(method)


class _Host:
    """The actor. `open` and `handle` run in one thread, `beat` in another."""

    def __init__(self, path: list[str], threads: int):
        """`path`: where the owner looks for modules, for files of the user's own on a shared disk."""
        sys.path += [entry for entry in path if entry not in sys.path]
        self._threads = threads
        self._pulse: Pulse | None = None
        self._worker: Worker | None = None

    @_in_thread_of_its_own
    def beat(self) -> tuple[bool, float]:
        """Is it at a request, and the seconds of processor time of the thread that answers."""
        pulse = self._pulse
        return (True, 0.0) if pulse is None else (pulse.busy, pulse.worked())

    def open(self, build: str, spec: bytes) -> str:
        """Builds the worker. The traceback, if that fails, else nothing."""
        self._pulse = Pulse()
        try:
            set_threads(self._threads)
            self._worker = build_worker(build, from_bytes(spec))
            return ""
        except Exception:  # whatever the worker raises: its owner is told, by WorkerLost
            return traceback.format_exc()
        finally:
            self._pulse.busy = False

    def handle(self, request: bytes) -> tuple[bytes, str]:
        """The reply, or nothing and a traceback."""
        assert self._pulse is not None and self._worker is not None
        self._pulse.busy = True
        try:
            return to_bytes(self._worker.handle(from_bytes(request))), ""
        except Exception:  # as above
            return b"", traceback.format_exc()
        finally:
            self._pulse.busy = False
