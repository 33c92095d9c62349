"""Metrics in TensorBoard, Weights & Biases and Trackio, each the real one and offline."""

import os
import subprocess
import sys

import pytest

from apportion.run.sinks import NAMES, open_sinks
from apportion.types import UserError

ONE_RUN = """
import sys
from pathlib import Path
from apportion.run.sinks import open_sinks
[sink] = open_sinks([sys.argv[1]], Path(sys.argv[2]), "a run", {"env": "Reacher-v5", "agent": {"pi_lr": 3e-4}})
sink.write(100, {"return": -7.5, "agent/q_loss": 0.25})
sink.write(200, {"return": -6.5})
sink.close()
"""


def run_elsewhere(name, directory, **env):
    """In a process of its own: both packages read their environment once and keep services running."""
    done = subprocess.run(
        [sys.executable, "-c", ONE_RUN, name, str(directory)],
        env={k: v for k, v in os.environ.items() if not k.startswith(("WANDB_", "TRACKIO_"))} | env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def test_tensorboard_reads_back_what_was_written_and_hides_what_a_resume_undid(tmp_path):
    from tensorboard.backend.event_processing import event_accumulator as accumulator

    [sink] = open_sinks(["tensorboard"], tmp_path, "run", {})
    for step in (100, 200, 300):
        sink.write(step, {"return": step / 100, "agent/q_loss": 0.5})
    sink.close()
    [sink] = open_sinks(["tensorboard"], tmp_path, "run", {}, resumed_at=200)
    sink.write(300, {"return": 9.0})
    sink.close()
    events = accumulator.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("return")] == [(100, 1.0), (200, 2.0), (300, 9.0)]
    assert "agent/q_loss" in events.Tags()["scalars"]


def test_wandb_is_offline_and_in_the_run_directory(tmp_path):
    run_elsewhere("wandb", tmp_path)
    [recorded] = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert recorded.stat().st_size > 0


@pytest.mark.long  # its package is large: `make check-long` installs it
def test_trackio_is_a_local_database(tmp_path):
    run_elsewhere("trackio", tmp_path, TRACKIO_DIR=str(tmp_path / "trackio"))
    assert (tmp_path / "trackio" / "apportion.db").stat().st_size > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_package_names_the_line_to_type(name, tmp_path, monkeypatch):
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install 'apportion\[{name}\]'"):
        open_sinks([name], tmp_path, "run", {})


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(UserError, match="--log tensorbord is unknown: choose from tensorboard, wandb, trackio"):
        open_sinks(["tensorbord"], tmp_path, "run", {})


def test_no_names_no_sinks(tmp_path):
    assert open_sinks([], tmp_path, "run", {}) == []
