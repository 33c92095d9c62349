"""Several processes: the same batch in parts is the same step."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apportion.rewards.demo_model import DemoReward
from apportion.run.metrics import read_lines
from apportion.train.ranks import Ranks
from apportion.types import UserError
from demos_for_tests import demo, store

SCRIPT = """
import sys
from pathlib import Path
import torch
from apportion.config import FitConfig
from apportion.train.offline import fit
torch.set_num_threads(1)
data, run, method = sys.argv[1:]
config = FitConfig(
    data=data, method=method, rrd_batch_size=16, rrd_sample_size=4, batch_size=8, r_hidden=(8,), steps=20, log_every=5,
    validate_every=10, val_share=0.25, dropout=0.1,
)
fit(config, Path(run), progress=False)
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def run_in(world: int, data: Path, run: Path, method: str) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    words = [sys.executable, "-c", SCRIPT, str(data), str(run), method]
    processes = [
        subprocess.Popen(words, env={**env, "WORLD_SIZE": str(world), "RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(world)
    ]
    assert [process.wait(120) for process in processes] == [0] * world


@pytest.mark.parametrize("method", ["rrd", "success"])
def test_two_processes_learn_what_one_learns(tmp_path, method):
    store(tmp_path / "s", [demo(i, 8 + i % 4, success=i % 3 > 0, frames=False) for i in range(12)])
    for world in (1, 2):
        run_in(world, tmp_path / "s", tmp_path / f"run{world}", method)
    one, two = (read_lines(tmp_path / f"run{world}" / "metrics.jsonl") for world in (1, 2))
    assert [line["step"] for line in one] == [line["step"] for line in two] == [5, 10, 15, 20]
    for a, b in zip(one, two, strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
        assert ("val/loss" in a) == ("val/loss" in b)
        assert a.get("val/loss", 0.0) == pytest.approx(b.get("val/loss", 0.0), rel=1e-4)
    models = [DemoReward.load(tmp_path / f"run{world}").state_dict() for world in (1, 2)]
    for name in models[0]:
        np.testing.assert_allclose(models[0][name], models[1][name], rtol=1e-3, atol=1e-5, err_msg=name)


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    assert [Ranks(i, 2).part(8, "x") for i in range(2)] == [(0, 4), (4, 8)]
    with pytest.raises(UserError, match="--batch-size is 7, which 2 processes cannot share evenly"):
        Ranks(0, 2).part(7, "--batch-size")
