"""A fit of 2N steps is N steps, a kill, a resume and N steps: bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apportion.cli import main
from apportion.config import FitConfig
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from apportion.train.offline import fit, resume
from demos_for_tests import demo, store

TESTS = str(Path(__file__).parents[1])


def config(path, **more) -> FitConfig:
    base = {"rrd_batch_size": 12, "rrd_sample_size": 4, "batch_size": 8, "r_hidden": (8,), "steps": 60}
    every = {"log_every": 7, "validate_every": 10, "save_freq": 13, "keep_checkpoints": 9}  # no two fall together
    return FitConfig(**{"data": str(path), **base, **every, **more})


def data(path: Path) -> Path:
    store(path, [demo(i, 5 + i % 4, success=i % 3 > 0, task=f"task {i % 2}", frames=False) for i in range(12)])
    return path


def contents(run: Path) -> dict[str, bytes]:
    """Everything that a fit promises to repeat."""
    last = sorted((run / "checkpoints").iterdir())[-1]
    names = ("metrics.jsonl", "split.json", "fit.json", "reward/reward.json", "reward/reward.safetensors")
    return {name: (run / name).read_bytes() for name in names} | {p.name: p.read_bytes() for p in last.iterdir()}


@pytest.mark.parametrize(
    "more",
    [
        {"method": "rrd", "dropout": 0.1},
        {"method": "rd", "form": "potential"},
        {"method": "success", "rewind": True, "patience": 3, "r_lr": 0.05},
        {"method": "progress", "val_share": 0.0},
    ],
    ids=lambda more: more["method"],
)
@pytest.mark.parametrize("keep", [0, 2])
def test_a_resumed_fit_is_the_uninterrupted_one(tmp_path, more, keep):
    settings = config(data(tmp_path / "s"), **more)
    fit(settings, tmp_path / "run", progress=False)
    copy = tmp_path / "copy" / "run"
    shutil.copytree(tmp_path / "run", copy)
    for later in sorted((copy / "checkpoints").iterdir())[keep:]:
        shutil.rmtree(later)
    (copy / "fit.json").unlink()
    RunDir(copy).mark("finished", False)
    resume(copy, progress=False)
    assert contents(copy) == contents(tmp_path / "run")


def test_a_polite_kill_saves_and_apportion_resume_goes_on(tmp_path):
    settings = config(data(tmp_path / "s"), steps=200_000, save_freq=100_000, validate_every=50_000, log_every=20)
    code = f"""if True:
        import sys
        sys.path.insert(0, {TESTS!r})
        from apportion.config import FitConfig
        from apportion.train.offline import fit
        fit({settings!r}, {str(tmp_path / "run")!r}, progress=False)
    """
    code = code.replace(repr(str(tmp_path / "run")), f"__import__('pathlib').Path({str(tmp_path / 'run')!r})")
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not read_lines(tmp_path / "run" / "metrics.jsonl"):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    run = RunDir(tmp_path / "run")
    assert run.info()["finished"] is False
    (saved,) = run.checkpoints.iterdir()
    at = int(saved.name.removeprefix("step_"))
    # the rest of it would take long: the same run with fewer steps to go
    text = run.config_file.read_text().replace('"steps": 200000', f'"steps": {at + 30}')
    run.config_file.write_text(text)
    assert main(["resume", str(run.path)]) == 0
    assert run.info()["finished"] is True
    assert read_lines(run.metrics)[-1]["step"] == at + 30
