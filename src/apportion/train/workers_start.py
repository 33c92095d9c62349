"""Where workers run: in this process, in others on this machine, or on a Ray cluster."""

from __future__ import annotations

import traceback
from collections import deque
from functools import partial

from apportion.run.tree import Tree, from_bytes, to_bytes
from apportion.train.workers import Worker, WorkerLost, Workers, build_worker
from apportion.train.workers_process import start_process
from apportion.train.workers_remote import Remote


class _InProcess:
    """Workers of this very process: a request is worked on when its reply is asked for."""

    def __init__(self, build: str, specs: list[Tree]):
        self.count = len(specs)
        self._build = build
        self._workers: list[Worker | None] = [None] * self.count
        self._specs = [to_bytes(spec) for spec in specs]
        self._queue: deque[tuple[int, bytes]] = deque()  # what is outstanding, of all workers, oldest first
        self._lost: dict[int, str] = {}

    def submit(self, i: int, request: Tree) -> None:
        if i in self._lost:
            raise WorkerLost(i, self._lost[i])
        self._queue.append((range(self.count)[i], to_bytes(request)))

    def outstanding(self, i: int) -> int:
        return sum(1 for number, _ in self._queue if number == i)

    def receive(self, timeout: float | None) -> tuple[int, Tree] | None:
        if self._queue:
            i = self._queue[0][0]
            return i, self._answer(0)
        if timeout is None:
            raise ValueError("nothing is outstanding: no reply will come")
        return None

    def receive_from(self, i: int, timeout: float | None) -> Tree:
        if i in self._lost:
            raise WorkerLost(i, self._lost[i])
        at = next((at for at, (number, _) in enumerate(self._queue) if number == i), None)
        if at is None:
            raise ValueError(f"nothing is outstanding at worker {i}: no reply will come")
        return self._answer(at)

    def _answer(self, at: int) -> Tree:
        i, data = self._queue[at]
        del self._queue[at]
        try:
            worker = self._workers[i] or build_worker(self._build, from_bytes(self._specs[i]))
            self._workers[i] = worker
            return from_bytes(to_bytes(worker.handle(from_bytes(data))))  # as if it came from elsewhere
        except Exception as error:
            self._forget(i)
            self._lost[i] = traceback.format_exc()
            raise WorkerLost(i, self._lost[i]) from error

    def _forget(self, i: int) -> None:
        self._workers[i] = None
        self._queue = deque((number, data) for number, data in self._queue if number != i)

    def restart(self, i: int, spec: Tree) -> None:
        self._forget(i)
        self._lost.pop(i, None)
        self._specs[i] = to_bytes(spec)

    def close(self) -> None:
        for i in range(self.count):
            self._forget(i)


def in_process(build: str, specs: list[Tree]) -> Workers:
    """Workers of this process, one for each of `specs`, with no process, thread or clock: for tests and small runs."""
    return _InProcess(build, specs)


def processes(build: str, specs: list[Tree], *, threads: int, silence: float) -> Workers:
    """Workers in processes of their own on this machine, one for each of `specs`, with `threads` threads each.

    A worker is lost after `silence` seconds without a sign of life: while it has a request, the processor time of its
    own thread must grow; a slow one lives, one that was stopped, sleeps or waits for what never comes does not.
    (One that loops for ever at full speed, no clock can tell from work.) Code that keeps the interpreter's lock for
    longer than `silence` counts as silent too, and a worker that waits for processes of its own: let it be long.
    Close them in a `finally`; should this process die, they end by themselves.
    """
    return Remote(specs, partial(start_process, build, threads, silence), silence)


def on_ray(address: str, build: str, specs: list[Tree], *, threads: int, silence: float) -> Workers:
    """Workers as actors of a Ray cluster, one for each of `specs`; the rest is as with `processes`.

    `address`: "local" starts a cluster on this machine that ends with the workers, "auto" finds the one that this
    machine belongs to; "host:port" and "ray://host:port" name one. Its machines need apportion and the module of
    `build`. Raises UserError without the extra `cluster`, or where no cluster answers.
    """
    from apportion.train.workers_ray import RayCluster, start_actor  # imports ray

    cluster = RayCluster(address, threads * len(specs))
    try:
        return Remote(specs, partial(start_actor, cluster, build, threads, silence), silence, cluster.leave)
    except BaseException:
        cluster.leave()
        raise
