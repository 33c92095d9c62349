"""The owner's side of workers elsewhere: who owes what, what has arrived, who has fallen silent.

How bytes travel is the link's business (workers_process, workers_ray). A link's threads tell its `Seat` what they hear.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from apportion.run.tree import Tree, from_bytes, to_bytes
from apportion.train.workers import WorkerLost

_START = 120.0  # seconds until a worker's first sign of life: it has to import what it needs
_LOOK = 0.5  # seconds between looks at who is silent
_WORK = 0.01  # seconds of processor time that count as work
_PATIENCE = 5.0  # seconds for workers to end by themselves


@runtime_checkable
class Link(Protocol):
    """The way to one worker."""

    def send(self, data: bytes) -> None:
        """Queues a request; never blocks, never fails: whether the worker lives is told to the seat."""
        ...

    def ask_to_end(self) -> None:
        """Tells the worker to end; returns at once."""
        ...

    def end(self, patience: float) -> None:
        """Returns when the worker is gone; after `patience` seconds it is killed."""
        ...


@dataclass(eq=False)
class Seat:
    """What the owner knows of one worker. Its methods are called from the link's threads."""

    number: int
    arrived: deque[tuple[Seat, bytes | None]]  # of all workers, in order; None: this one is lost
    lock: threading.RLock
    bell: queue.SimpleQueue[None]  # rung at each arrival
    outstanding: int = 0
    lost: str | None = None
    told: bool = False  # has the owner been told of the loss?
    met: bool = False  # has there been a sign of life?
    quiet: float = 0.0  # seconds watched since the last one
    worked: float = field(default=0.0)  # processor time at the last one

    def reply(self, data: bytes) -> None:
        """A reply arrived."""
        with self.lock:
            if self.lost is None:
                self._alive()
                self.arrived.append((self, data))
                self.bell.put(None)

    def beat(self, busy: bool, worked: float) -> None:
        """It said that it lives; a busy one must have worked since. `worked`: its thread's seconds on a processor."""
        with self.lock:
            if not busy or not self.met or worked >= self.worked + _WORK:
                self.worked = worked
                self._alive()

    def lose(self, why: str) -> None:
        """It is gone. What it had sent before still counts."""
        with self.lock:
            if self.lost is None:
                self.lost = why
                self.arrived.append((self, None))
                self.bell.put(None)

    def _alive(self) -> None:
        self.met, self.quiet = True, 0.0


class Remote:
    """Workers behind links; see `apportion.train.workers.Workers`."""

    def __init__(
        self,
        specs: list[Tree],
        start: Callable[[Tree, Seat], Link],
        silence: float,
        after: Callable[[], None] = lambda: None,
    ):
        self.count = len(specs)
        self._start, self._silence, self._after = start, silence, after
        # not a Condition: one that a KeyboardInterrupt meets at a bad moment stays locked, or is unlocked twice
        self._lock = threading.RLock()
        self._bell: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._arrived: deque[tuple[Seat, bytes | None]] = deque()
        self._looked = time.monotonic()
        self._seats: list[Seat] = []
        self._links: list[Link] = []
        try:
            for i, spec in enumerate(specs):
                self._seats.append(Seat(i, self._arrived, self._lock, self._bell))
                self._links.append(start(spec, self._seats[i]))
        except BaseException:
            self.close()
            raise

    def submit(self, i: int, request: Tree) -> None:
        data, seat = to_bytes(request), self._seats[i]
        with self._lock:
            if seat.told:
                raise WorkerLost(i, seat.lost or "")
            seat.outstanding += 1
        self._links[i].send(data)

    def outstanding(self, i: int) -> int:
        return self._seats[i].outstanding

    def receive(self, timeout: float | None) -> tuple[int, Tree] | None:
        found = self._wait(timeout, lambda seat: True, self._seats)
        return None if found is None else (found[0].number, from_bytes(found[1]))

    def receive_from(self, i: int, timeout: float | None) -> Tree:
        seat = self._seats[i]
        if seat.told:
            raise WorkerLost(i, seat.lost or "")
        if not seat.outstanding:
            raise ValueError(f"nothing is outstanding at worker {i}: no reply will come")
        found = self._wait(timeout, lambda other: other is seat, [seat])
        if found is None:
            raise TimeoutError(f"no reply of worker {i} in {timeout:g} s")
        return from_bytes(found[1])

    def _wait(
        self, timeout: float | None, wanted: Callable[[Seat], bool], seats: list[Seat]
    ) -> tuple[Seat, bytes] | None:
        """The first wanted arrival; None after `timeout`. Raises WorkerLost for a loss among them."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                while not self._bell.empty():
                    self._bell.get_nowait()  # rung for what is seen now
                self._watch()
                at = next((at for at, (seat, _) in enumerate(self._arrived) if wanted(seat)), None)
                if at is not None:
                    return self._take(at)
            if end is None and not any(seat.outstanding for seat in seats if not seat.told):
                raise ValueError("nothing is outstanding: no reply will come")
            left = _LOOK if end is None else end - time.monotonic()
            if left <= 0:
                return None
            with contextlib.suppress(queue.Empty):
                self._bell.get(timeout=min(left, _LOOK, self._silence / 4))

    def _take(self, at: int) -> tuple[Seat, bytes]:
        seat, data = self._arrived[at]
        del self._arrived[at]
        if data is None:
            seat.told, seat.outstanding = True, 0
            raise WorkerLost(seat.number, seat.lost or "")
        seat.outstanding -= 1
        return seat, data

    def _watch(self) -> None:
        """Counts the silence of each worker, and gives up those that were silent for too long.

        A long time between two looks counts as a short one: it may be that this process, or the machine, was asleep
        and the worker's signs of life have yet to be heard.
        """
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * _LOOK, self._silence / 4), now
        for seat in self._seats:
            seat.quiet += passed
            limit = self._silence if seat.met else max(self._silence, _START)
            if seat.lost is None and seat.quiet >= limit:
                reason = "it was stopped, it hangs, or its machine is out of reach" if seat.met else "it did not start"
                seat.lose(f"no answer for {limit:g} s: {reason}")

    def restart(self, i: int, spec: Tree) -> None:
        self._links[i].end(0.0)
        with self._lock:
            old = self._seats[i]
            old.lost = old.lost or "it was replaced"  # nothing that is still on its way counts
            kept = [entry for entry in self._arrived if entry[0] is not old]
            self._arrived.clear()
            self._arrived.extend(kept)
            self._seats[i] = Seat(i, self._arrived, self._lock, self._bell)
        self._links[i] = self._start(spec, self._seats[i])

    def close(self) -> None:
        links, self._links = self._links, []
        end = time.monotonic() + _PATIENCE
        try:
            for link in links:
                link.ask_to_end()
            for link in links:
                link.end(max(0.0, end - time.monotonic()))
        finally:  # a second Ctrl-C while waiting
            for link in links:
                link.end(0.0)
            self._after()
