"""What a training loop asks of its process: to be stopped politely, and how its threads calculate."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch


@contextmanager
def interrupts(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """Ctrl-C, a polite kill and a closed terminal set the event: the loop saves and stops; a second one ends at once.

    A run that was told to survive its terminal (nohup) does.
    """
    stopping = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping
        return

    def handle(number: int, frame: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        with suppress(OSError, RuntimeError):  # no terminal any more, or in the middle of writing to it
            say("stopping after this iteration; Ctrl-C again stops at once")

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stopping
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def use_threads(count: int) -> None:
    """`torch_threads` for the thread that calls, for good."""
    torch.set_num_threads(count)
    torch.set_flush_denormal(True)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """So many threads, and numbers below 1e-38 as 0: Adam's moments of weights that decay (DDPG's critic) end there.

    A processor takes many times as long for such subnormal numbers.
    """
    before = torch.get_num_threads()
    use_threads(count)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)
