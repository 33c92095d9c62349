"""The offline loop as a whole: what a run leaves, when it stops, what it says."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from apportion.config import FitConfig, from_json
from apportion.data.as_store import as_store, located, settled
from apportion.data.schema import Camera
from apportion.data.store import DemoStore
from apportion.rewards.demo_model import DemoReward
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from apportion.train.fit_session import make_fit
from apportion.train.fit_validate import validate
from apportion.train.offline import fit, resume
from apportion.train.ranks import Ranks
from apportion.types import UserError
from demos_for_tests import demo, store


def demos(count=12, **more):
    return [demo(i, 5 + i % 4, success=i % 3 > 0, task=f"task {i % 2}", frames=False, **more) for i in range(count)]


def config(path, **more) -> FitConfig:
    base = {"rrd_batch_size": 12, "rrd_sample_size": 4, "batch_size": 8, "r_hidden": (8,), "steps": 30, "log_every": 10}
    return FitConfig(**{"data": str(path), "validate_every": 10, "save_freq": 20, "val_share": 0.25, **base, **more})


def test_a_run_leaves_a_model_its_split_and_its_figures(tmp_path):
    store(tmp_path / "s", demos())
    run = tmp_path / "run"
    fit(config(tmp_path / "s", method="success"), run, progress=False)
    lines = read_lines(run / "metrics.jsonl")
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert {"loss", "accuracy", "val/loss", "val/auroc"} <= lines[-1].keys()
    split = json.loads((run / "split.json").read_text())
    assert sorted(split["train"] + split["val"]) == list(range(12))
    assert list(split["ids"]) == [str(i) for i in range(12)]
    summary = json.loads((run / "fit.json").read_text())
    assert summary["best_step"] == min(lines, key=lambda line: line["val/loss"])["step"]
    assert RunDir(run).info()["finished"] is True
    model = DemoReward.load(run)
    assert model.config.proprio == ("state",)
    assert model.rewards(demos()[0]).shape == (5,)
    timing = read_lines(run / "timing.jsonl")[-1]
    assert 0 < timing["loader_share"] < 1


def test_a_fit_is_not_resumed_with_other_episodes(tmp_path):
    store(tmp_path / "s", demos()).close()
    run = tmp_path / "run"
    fit(config(tmp_path / "s", steps=1), run, progress=False)
    RunDir(run).mark("finished", False)
    shutil.rmtree(tmp_path / "s")
    store(tmp_path / "s", demos()[::-1]).close()
    with pytest.raises(UserError, match=r"does not hold the episodes that .*run began with"):
        resume(run, progress=False)


def test_the_statistics_are_of_the_training_episodes_only(tmp_path):
    all_ = demos()
    store(tmp_path / "s", all_)
    fit(config(tmp_path / "s", steps=1), tmp_path / "run", progress=False)
    train = json.loads((tmp_path / "run" / "split.json").read_text())["train"]
    model = DemoReward.load(tmp_path / "run")
    rows = np.concatenate([all_[i].proprio["state"] for i in train])
    np.testing.assert_allclose(model.net.norm.mean.numpy(), rows.mean(0, dtype=np.float64), rtol=1e-5)
    assert model.net.act_norm is not None
    steps = np.concatenate([all_[i].action for i in train])
    np.testing.assert_allclose(model.net.act_norm.mean.numpy(), steps.mean(0, dtype=np.float64), rtol=1e-5)


def test_early_stopping_keeps_the_best_weights(tmp_path):
    store(tmp_path / "s", demos())
    fit(config(tmp_path / "s", method="success", steps=5000, r_lr=0.1, patience=2), tmp_path / "run", progress=False)
    lines = [line for line in read_lines(tmp_path / "run" / "metrics.jsonl") if "val/loss" in line]
    best = min(range(len(lines)), key=lambda i: lines[i]["val/loss"])
    assert lines[-1]["step"] < 5000
    assert len(lines) - 1 - best == 2
    summary = json.loads((tmp_path / "run" / "fit.json").read_text())
    assert summary["validation"]["val/loss"] == pytest.approx(lines[best]["val/loss"])


def test_without_held_out_episodes_the_newest_model_is_kept(tmp_path):
    store(tmp_path / "s", demos())
    fit(config(tmp_path / "s", val_share=0.0), tmp_path / "run", progress=False)
    assert not any("val/loss" in line for line in read_lines(tmp_path / "run" / "metrics.jsonl"))
    assert json.loads((tmp_path / "run" / "fit.json").read_text())["best_step"] == 30


@pytest.mark.parametrize(
    "more",
    [
        {"method": "rrd", "rrd_bias_correction": True},
        {"method": "rd", "target": "sum", "form": "potential"},
        {"method": "rrd", "return_": "dense", "condition": "words", "dropout": 0.2},
        {"method": "rrd", "return_": "progress", "prefixes": True},
        {"method": "progress", "rewind": True, "other_instructions": True, "weight_decay": 0.1},
        {"method": "success", "failures": False, "prefixes": True, "rewind": True, "max_grad_norm": 1.0},
        {"method": "success", "split": "task", "difference": False},
        {"method": "progress", "bf16": True},
    ],
)
def test_every_kind_of_fit_runs(tmp_path, more, capsys):
    store(tmp_path / "s", demos())
    fit(config(tmp_path / "s", steps=10, **more), tmp_path / "run", progress=False)
    line = read_lines(tmp_path / "run" / "metrics.jsonl")[-1]
    assert np.isfinite([line["loss"], line["val/loss"]]).all()
    assert DemoReward.load(tmp_path / "run").config.method == more["method"]


def test_pixels_are_learned_from_at_the_size_asked_for(tmp_path):
    store(tmp_path / "s", [demo(i, 4, success=i % 2 > 0) for i in range(6)])
    run = tmp_path / "run"
    fit(config(tmp_path / "s", features="pixels", image_size=84, steps=2, r_hidden=(4,)), run, progress=False)
    cached = DemoStore(run / "cache" / "demos")
    assert cached.info.cameras == {"image": Camera(84, 84, "opengl"), "wrist_image": Camera(84, 84, "opengl")}
    assert DemoReward.load(run).inputs.cameras == ("image", "wrist_image")


def test_what_is_no_store_becomes_one_without_frames_where_none_are_needed(tmp_path):
    class Counted:
        """A set that counts the frames it is asked for."""

        info = replace(store(tmp_path / "s", [demo(0)]).info, format="rlds")

        def __init__(self):
            self.asked = []

        def __len__(self):
            return 3

        def read(self, index, frames="all"):
            self.asked.append(frames)
            return demo(index, frames=frames == "all")

        def close(self):
            pass

    said, demos_ = [], Counted()
    ready = settled(FitConfig(data="there"), Counted.info)
    opened = as_store(ready, demos_, tmp_path / "cache" / "demos", said.append)
    assert demos_.asked == ["none"] * 3
    assert "writing 3 episodes of there" in said[0]
    assert set(opened.columns) == {"proprio.state", "proprio.joint_state", "action", "reward"}
    as_store(ready, demos_, tmp_path / "cache" / "demos", said.append)
    assert len(said) == 1  # it is there already


def test_successes_alone_are_warned_about_loudly_and_the_survival_incentive_too(tmp_path, capsys):
    store(tmp_path / "s", [demo(i, 6, frames=False) for i in range(8)])
    fit(config(tmp_path / "s", steps=200, r_lr=1e-2), tmp_path / "run", progress=False)
    said = capsys.readouterr().err
    assert "WARNING: all 6 episodes return 1" in said
    assert "gains by NOT finishing" in said


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({"proprio": ("gripper",)}, "--proprio gripper: .* has state, joint_state"),
        ({"features": "pixels"}, "has no cameras"),
        ({"features": "feature:0123456789ab"}, "has no features 0123456789ab"),
        ({"return_": "column:phases"}, "extra columns: phase"),
        ({"method": "progress", "prefixes": True}, "adds nothing"),
        ({"rewind": True, "return_": "dense"}, "have no --return dense"),
        ({"other_instructions": True, "condition": "none"}, "needs several tasks"),
        ({"condition": "vectors"}, "needs --instructions FILE"),
    ],
)
def test_slips_end_in_one_line(tmp_path, more, line):
    store(tmp_path / "s", demos())
    with pytest.raises(UserError, match=line):
        fit(config(tmp_path / "s", **more), tmp_path / "run", progress=False)
    fit(config(tmp_path / "s", steps=1), tmp_path / "run", progress=False)  # its place is free for the next


@pytest.mark.parametrize(
    "more",
    [
        {"rrd_batch_size": 10, "rrd_sample_size": 4},
        {"method": "success", "rrd_bias_correction": True},
        {"image_size": 256},
        {"features": "pixel"},
        {"val_share": 1.0},
    ],
)
def test_settings_out_of_range_are_refused(more):
    with pytest.raises(UserError):
        FitConfig(data="x", **more)


def test_settings_survive_json(tmp_path):
    store(tmp_path / "s", demos())
    fit(config(tmp_path / "s", steps=1), tmp_path / "run", progress=False)
    back = from_json(FitConfig, RunDir(tmp_path / "run").config())
    assert (back.features, back.proprio) == ("proprio", ("state",))
    resume(tmp_path / "run", progress=False)  # finished: left as it is


def test_a_held_out_side_of_one_task_knows_the_instructions_of_all_tasks_learned(tmp_path):
    made = [demo(i, 8, task=f"task {i % 2}", frames=False) for i in range(6)]
    opened = store(tmp_path / "s", made)
    settings = settled(config(tmp_path / "s", method="success", rewind=True, other_instructions=True), opened.info)
    session = make_fit(settings, opened, Ranks(), lambda line: None, "cpu", ([1, 2, 3, 5], [0, 4]))
    assert session.held is not None and session.held.tasks == session.pool.tasks == 2
    assert validate(session)["val/loss"] > 0


def test_a_run_knows_where_its_data_lies(tmp_path, monkeypatch):
    store(tmp_path / "s", demos())
    monkeypatch.chdir(tmp_path)
    assert located(FitConfig("s")).data == str(tmp_path / "s")
