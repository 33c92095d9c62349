"""A worker that does as it is told: what may happen to one, on request."""

import os
import select
import signal
import threading
import time

import numpy as np
import torch


class Obedient:
    def __init__(self, spec):
        self.spec, self.asked = spec, 0

    def handle(self, request):
        self.asked += 1
        return getattr(self, request.get("do", "echo"))(request)

    def echo(self, request):
        return {"spec": self.spec, "request": request, "asked": self.asked}

    def about(self, request):
        quiet = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        return {
            "pid": os.getpid(), "threads": torch.get_num_threads(), "omp": os.environ.get("OMP_NUM_THREADS", ""),
            "ignores_ctrl_c": quiet,
        }  # fmt: skip

    def fail(self, request):
        raise ValueError("the moon is made of " + request["of"])

    def compute(self, request):
        """So many seconds of the processor, not of the clock."""
        end, x = time.thread_time() + request["seconds"], np.ones(1000)
        while time.thread_time() < end:
            x = np.sqrt(x + 1)
        return {"x": x}

    def hang(self, request):
        threading.Event().wait()
        return {}

    def leave(self, request):
        os._exit(7)


def build(spec):
    if spec.get("broken"):
        raise RuntimeError("no such world")
    return Obedient(spec)


def ended(number, seconds=60.0):
    """Waits until process `number`, which need not be a child of ours, is gone."""
    try:
        handle = os.pidfd_open(number)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)
