"""Workers: each is built from plain data and answers one request after the other, wherever it runs.

The owner submits requests (trees, see run.tree) and receives replies. A worker that fails, dies or falls silent is told
by WorkerLost, once, after every reply that it had sent; the owner replaces it with `restart`, or goes on without it.
"""

from __future__ import annotations

import importlib
from typing import Protocol, runtime_checkable

from apportion.run.tree import Tree
from apportion.types import UserError


class WorkerLost(Exception):
    """Worker `i` is gone. `why`: its traceback, how its process ended, or for how long nothing was heard of it."""

    def __init__(self, i: int, why: str):
        self.i, self.why = i, why
        super().__init__(f"worker {i} was lost: {why}")


@runtime_checkable
class Worker(Protocol):
    """What runs at the other end: made by `build(spec)`, then asked."""

    def handle(self, request: Tree) -> Tree:
        """The reply to one request. Whatever it raises ends the worker."""
        ...


@runtime_checkable
class Workers(Protocol):
    """Several workers, numbered from 0. Every one answers its requests in the order in which they were submitted."""

    count: int

    def submit(self, i: int, request: Tree) -> None:
        """Queue a request at worker `i`; returns at once, and `request` may be changed afterwards.

        Raises WorkerLost for a worker that was told lost and not replaced, TypeError for what is no tree.
        """
        ...

    def outstanding(self, i: int) -> int:
        """How many requests of worker `i` have no reply that the owner has received."""
        ...

    def receive(self, timeout: float | None) -> tuple[int, Tree] | None:
        """The next reply of any worker and its number, in order of arrival; None after `timeout` seconds.

        With None it waits for as long as it takes. Raises WorkerLost, once for each loss; ValueError where it would
        wait for ever because nothing is outstanding.
        """
        ...

    def receive_from(self, i: int, timeout: float | None) -> Tree:
        """The next reply of worker `i`; those of others stay where they are.

        Raises WorkerLost (for worker `i` alone), TimeoutError, and ValueError where nothing is outstanding.
        """
        ...

    def restart(self, i: int, spec: Tree) -> None:
        """Put a new worker in the place of `i`, alive or lost. What was outstanding is forgotten: submit it anew."""
        ...

    def close(self) -> None:
        """End every worker. Safe to call twice, and after Ctrl-C."""
        ...


def build_worker(build: str, spec: Tree) -> Worker:
    """The worker of `spec`; `build` is "module:function". Raises UserError where there is no such function."""
    module, _, name = build.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"no function {build!r} to build a worker with ({error}): module:function is wanted") from error
    return function(spec)
