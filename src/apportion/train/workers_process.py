"""Workers in processes of their own: bytes over a pipe, a heartbeat, and an end when the owner ends.

Nothing here imports torch before the process has its number of threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import struct
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apportion.run.tree import Tree
    from apportion.train.workers_remote import Seat

_REPLY, _BEAT, _ERROR = b"r", b"b", b"e"  # first byte of what a worker sends
_SIGN = struct.Struct("<?d")  # busy, seconds of processor time
_GRACE = 5.0  # seconds for a worker whose owner is gone to finish what it is at
_POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_starting = threading.Lock()


# -------------------------------------------------------------------- the owner's end


class _ProcessLink:
    """A process, a thread that sends to it and one that listens."""

    def __init__(self, build: str, threads: int, beat: float, seat: Seat):
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=serve, args=(theirs, build, threads, beat), daemon=True, name=f"worker-{seat.number}"
        )
        resource_tracker.ensure_running()  # it would lift the mask of `_environment` if it started within
        with _environment(threads):
            self._process.start()
        theirs.close()
        self._seat = seat
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        threading.Thread(target=self._deliver, daemon=True).start()

    def send(self, data: bytes) -> None:
        self._outbox.put(data)

    def ask_to_end(self) -> None:
        self._outbox.put(b"")

    def end(self, patience: float) -> None:
        if patience > 0:
            self._listener.join(patience)
        if self._listener.is_alive():
            self._process.kill()  # a stopped one too
            self._listener.join()

    def _deliver(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # it is gone: the listener tells why
            while True:
                data = self._outbox.get()
                self._pipe.send_bytes(data)
                if not data:
                    return

    def _listen(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            # its own children may hold the pipe open when it is gone
            while self._pipe.poll(0.5) or self._process.is_alive():
                if self._pipe.poll():
                    self._hear(self._pipe.recv_bytes())
        self._process.join(_GRACE)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._seat.lose(_ending(self._process.exitcode))
        self._outbox.put(b"")  # the pipe closes when neither thread needs it any more

    def _hear(self, data: bytes) -> None:
        kind, rest = data[:1], data[1:]
        if kind == _BEAT:
            self._seat.beat(*_SIGN.unpack(rest))
        elif kind == _REPLY:
            self._seat.reply(rest)
        else:
            self._seat.lose(rest.decode())


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            name = signal.Signals(-code).name
            hint = " (out of memory?)" if name == "SIGKILL" else ""
            return f"its process was killed by {name}{hint}"
    return f"its process ended with exit code {code}"


@contextlib.contextmanager
def _environment(threads: int) -> Iterator[None]:
    """What a new process inherits: the size of its thread pools, and Ctrl-C kept from it from its first moment on."""
    with _starting:
        before = {name: os.environ.get(name) for name in _POOLS}
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        os.environ.update(dict.fromkeys(_POOLS, str(threads)))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def start_process(build: str, threads: int, silence: float, spec: Tree, seat: Seat) -> _ProcessLink:
    """A process with the worker of `spec` in it."""
    from apportion.run.tree import to_bytes

    data = to_bytes(spec)
    link = _ProcessLink(build, threads, min(1.0, silence / 5), seat)
    link.send(data)
    return link


# -------------------------------------------------------------------- the worker's end


class Pulse:
    """What a worker's heartbeat says: is it at a request, and how long has its thread been on a processor?"""

    def __init__(self) -> None:
        """Made in the thread that does the work."""
        self.busy = True  # it is being built
        ident = threading.get_ident()
        # where there is no clock for another thread (macOS), the whole process's must do
        clock = getattr(time, "pthread_getcpuclockid", None)
        self._clock = None if clock is None else clock(ident)

    def worked(self) -> float:
        """Seconds of processor time so far."""
        return time.process_time() if self._clock is None else time.clock_gettime(self._clock)


def set_threads(threads: int) -> None:
    """Torch's threads in this process. It flushes subnormal numbers, as training does, for the same bits and speed."""
    import torch

    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)


class _Post:
    """The worker's pipe: requests in, by a thread of their own; replies and heartbeats out."""

    def __init__(self, pipe: Connection, pulse: Pulse, beat: float):
        self.requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.leaving = threading.Event()  # the owner is gone, or said so
        self._pipe, self._pulse, self._beat = pipe, pulse, beat
        self._sending = threading.Lock()
        self._owner = os.getppid()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._tell, daemon=True).start()

    def send(self, kind: bytes, data: bytes) -> None:
        with self._sending, contextlib.suppress(OSError):  # the owner is gone: `_read` hears of it too
            self._pipe.send_bytes(kind + data)

    def _read(self) -> None:
        with contextlib.suppress(EOFError, OSError):
            while data := self._pipe.recv_bytes():
                self.requests.put(data)
        self._leave()

    def _tell(self) -> None:
        while os.getppid() == self._owner:
            self.send(_BEAT, _SIGN.pack(self._pulse.busy, self._pulse.worked()))
            if self.leaving.wait(self._beat):
                return
        self._leave()  # somebody else holds the owner's end of the pipe open

    def _leave(self) -> None:
        self.leaving.set()
        self.requests.put(None)
        time.sleep(_GRACE)
        os._exit(1)  # what it was at has not ended: nobody waits for it


def serve(pipe: Connection, build: str, threads: int, beat: float) -> None:
    """The worker's process: builds it from the first message, then answers every other. Ends with its owner."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the owner's
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    pulse = Pulse()
    post = _Post(pipe, pulse, beat)
    try:
        set_threads(threads)
        from apportion.run.tree import from_bytes, to_bytes
        from apportion.train.workers import build_worker

        spec = post.requests.get()
        worker = None if spec is None else build_worker(build, from_bytes(spec))
        while worker is not None and not post.leaving.is_set():
            pulse.busy = False
            request = post.requests.get()
            if request is None:
                return
            pulse.busy = True
            post.send(_REPLY, to_bytes(worker.handle(from_bytes(request))))
    except BaseException:
        if not post.leaving.is_set():
            post.send(_ERROR, traceback.format_exc().encode())
        sys.exit(1)
