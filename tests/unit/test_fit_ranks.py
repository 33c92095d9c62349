"""Several processes: the same batch in parts is the same step."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apportion.cli import main
from apportion.rewards.demo_model import DemoReward
from apportion.run.metrics import read_lines
from apportion.train.ranks import Ranks
from apportion.types import UserError
from demos_for_tests import demo, store

SETTINGS = "--r-hidden 8 --steps 20 --log-every 5 --validate-every 10 --val-share 0.25 --dropout 0.1 --device cpu"
BATCHES = {"rrd": "--rrd-batch-size 16 --rrd-sample-size 4", "success": "--batch-size 8"}


def words(method: str, data: Path, run: Path) -> list[str]:
    settings = f"{SETTINGS} --method {method} {BATCHES[method]}".split()
    return ["fit", "--data", str(data), "--runs-dir", str(run.parent), "--name", run.name, *settings]


def torchrun(command: list[str]) -> subprocess.CompletedProcess:
    """`apportion` in two processes, as a user starts them."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    whole = [*launcher, "-m", "apportion", *command]
    return subprocess.run(whole, env=env, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("method", ["rrd", pytest.param("success", marks=pytest.mark.long)])
def test_two_processes_learn_what_one_learns(tmp_path, method):
    store(tmp_path / "s", [demo(i, 8 + i % 4, success=i % 3 > 0, frames=False) for i in range(12)])
    assert main(words(method, tmp_path / "s", tmp_path / "run1")) == 0
    done = torchrun(words(method, tmp_path / "s", tmp_path / "run2"))
    assert done.returncode == 0, done.stderr
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


def test_a_slip_of_one_process_is_no_traceback_in_the_others(tmp_path):
    store(tmp_path / "s", [demo(i, 8, success=i % 3 > 0, frames=False) for i in range(12)])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    done = torchrun(words("rrd", tmp_path / "s", tmp_path / "run"))
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert sum(line.startswith("apportion: ") and "holds a run already" in line for line in said) == 1
    assert sum("another process is gone" in line for line in said) <= 1  # torchrun may end it before it speaks
    assert not any(line.startswith("[rank") for line in said)  # how torch marks a traceback of a process of its own
