"""A process that is killed at a random moment of saving loses nothing that it had promised."""

import os
import signal
from itertools import count

import numpy as np
import pytest
import torch

from apportion.run.checkpoint import extras, newest, save, steps
from apportion.run.metrics import JsonLines, read_lines
from apportion.store.episodes import EpisodeStore
from apportion.store.log import ReplayLog
from apportion.types import Episode, Spec

SPEC = Spec((2,), "float32", "box", 1)


def episode(number):
    values = np.full((4, 2), number, np.float32)
    return Episode(values, np.zeros((3, 1), np.float32), np.full(3, number, np.float32), False, 0, number)


def go_on(root, promise, deadly_step, delay):
    """Resumes from the newest checkpoint, works and saves; `delay` seconds after its `deadly_step`-th step it dies.

    The alarm's default action ends the process on the spot, wherever it is: no handler, no clean-up.
    """
    if deadly_step == 0:
        signal.setitimer(signal.ITIMER_REAL, delay)
    store, log, step = EpisodeStore(40, SPEC), ReplayLog(root / "replay"), 0
    checkpoints = root / "checkpoints"
    if steps(checkpoints):
        _, parts, extra = newest(checkpoints, print, lambda extra: log.verify(extra["replay"]))
        log.read(extra["replay"], store)
        step = extra["step"]
        assert parts["agent"]["w"].tolist() == [step] * 1000
        assert store.next_id == step and store.returns[-1] == 3 * (step - 1)  # one episode a step
    lines = JsonLines(root / "metrics.jsonl", step)
    assert [line["step"] for line in read_lines(lines.path)] == list(range(1, step + 1))
    for done in count(1):
        store.add(episode(step))
        step += 1
        lines.write({"step": step})
        extra = {"step": step, "replay": log.write(store)}
        save(checkpoints, step, {"agent": {"w": torch.full((1000,), float(step))}}, extra, keep=2)
        log.prune(e["file"] for kept in extras(checkpoints) for e in kept["replay"])
        os.write(promise, b"%d\n" % step)
        if done == deadly_step:
            signal.setitimer(signal.ITIMER_REAL, delay)


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_moments(tmp_path, seed):
    rng = np.random.default_rng(seed)
    promised = 0
    for life in range(12):
        deadly_step, delay = life % 4, float(rng.uniform(0.0005, 0.03))
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)  # pytest-timeout's handler is not ours
            try:
                go_on(tmp_path, write_end, deadly_step, delay)
            finally:
                os._exit(99)  # an error instead of the alarm
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            for line in pipe:
                assert int(line) > promised, "a promised step was done again"
                promised = int(line)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM, f"life {life} failed, status {status}"
        if promised:
            lines = []
            _, parts, extra = newest(tmp_path / "checkpoints", lines.append)
            assert extra["step"] >= promised and lines == []
            assert parts["agent"]["w"].tolist() == [extra["step"]] * 1000
    assert promised >= 3 * (1 + 2 + 3)  # 12 lives: three times as many steps as these at the least
