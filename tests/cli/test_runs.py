"""Whole runs from the command line, small ones, in processes of their own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from apportion.cli import main
from apportion.config import to_json
from apportion.run.rundir import RunDir
from apportion.train import evaluate, seeds
from apportion.types import UserError
from run_dirs_for_tests import config

ROOT = Path(__file__).parents[2]
SMALL = (
    "--steps 300 --warmup 100 --log-every 100 --eval-every 150 --test-rollouts 2 --save-freq 150 --batch-size 16 "
    "--hidden 16 --r-hidden 16 --rrd-batch-size 64"
)


def run(*argv: object, cwd: Path, script: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(script)] if script else [sys.executable, "-m", "apportion"]
    return subprocess.run([*command, *map(str, argv)], capture_output=True, text=True, cwd=cwd)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The directory in which one small run of `quickstart` was made."""
    cwd = tmp_path_factory.mktemp("cli")
    done = run("train", "quickstart", *SMALL.split(), cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd


def test_train_leaves_a_run_directory_named_after_its_settings(trained):
    path = trained / "runs" / "Reacher-v5-rrd-sac-0"
    config = json.loads((path / "config.json").read_text())
    assert (config["env"], config["steps"], config["reward"]["rrd_sample_size"]) == ("Reacher-v5", 300, 32)
    assert lines(path / "metrics.jsonl")[-1]["step"] == 300
    assert [row["step"] for row in lines(path / "evaluations.jsonl")] == [150, 300]
    assert json.loads((path / "run.json").read_text())["command"][:3] == ["apportion", "train", "quickstart"]


def test_a_run_is_never_overwritten(trained):
    again = run("train", "quickstart", *SMALL.split(), cwd=trained)
    assert again.returncode == 2
    assert "apportion resume" in again.stderr and "--name" in again.stderr and again.stderr.count("\n") == 1


def test_evaluate_prints_what_it_found(trained):
    path = "runs/Reacher-v5-rrd-sac-0"
    done = run("evaluate", path, "--episodes", 3, "--json", cwd=trained)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (len(result["returns"]), result["lengths"]) == (3, [50, 50, 50])
    told = run("evaluate", path, "--episodes", 3, cwd=trained)
    assert f"return   {np.mean(result['returns']):.2f}" in told.stdout
    assert "pearson" in told.stdout


def test_a_checkpoint_is_given_by_its_path_or_its_name(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    run, name = "runs/Reacher-v5-rrd-sac-0", "step_000000150"
    said = []
    for given in (name, f"{run}/checkpoints/{name}"):
        assert main(["evaluate", run, "--episodes", "1", "--json", "--checkpoint", given]) == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1] and said[0]["step"] == 150
    (trained / "empty").mkdir()
    for given, what in (("nope", "does not exist"), ("empty", "is no complete checkpoint")):
        assert main(["evaluate", run, "--checkpoint", given]) == 2
        assert capsys.readouterr().err == (
            f"apportion: --checkpoint {given} {what}; {run} has step_000000300, step_000000150\n"
        )


def test_a_film_that_fails_does_not_take_the_returns_with_it(trained, monkeypatch, capsys):
    def film(*_: object, **__: object) -> None:
        raise UserError("cannot film here")

    monkeypatch.chdir(trained)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setattr(evaluate, "film_run", film)
    assert main(["evaluate", "runs/Reacher-v5-rrd-sac-0", "--episodes", "1", "--video"]) == 2
    said = capsys.readouterr()
    assert "return   " in said.out and "video" not in said.out
    assert said.err == "apportion: cannot film here\n"


def test_without_a_display_a_film_is_made_all_the_same_or_refused_in_one_line(trained):
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", "apportion", "evaluate", "runs/Reacher-v5-rrd-sac-0", "--episodes", "1", "--video"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=trained, env=env)
    assert "return   " in done.stdout and "Traceback" not in done.stderr
    film = trained / "runs/Reacher-v5-rrd-sac-0/video.mp4"
    if done.returncode == 0:
        assert b"ftyp" in film.read_bytes()[:16] and done.stdout.endswith("video.mp4\n")
    else:  # a machine that cannot draw at all
        assert done.returncode == 2 and "film" in done.stderr and not film.exists()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [({}, "egl"), ({"MUJOCO_GL": "osmesa"}, "osmesa"), ({"DISPLAY": ":0"}, None), ({"WAYLAND_DISPLAY": "w"}, None)],
)
def test_mujoco_is_told_how_to_draw_where_there_is_no_display(monkeypatch, given, wanted):
    from ctypes import util

    from apportion.train.evaluate import _render_without_a_display

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(util, "find_library", lambda name: "libEGL.so.1")
    monkeypatch.setattr(os, "environ", dict(given))
    _render_without_a_display()
    assert os.environ.get("MUJOCO_GL") == wanted
    monkeypatch.setattr(util, "find_library", lambda name: None)  # with egl, MuJoCo could not even be imported
    monkeypatch.setattr(os, "environ", {})
    _render_without_a_display()
    assert not os.environ


def test_report_says_where_the_page_is(trained):
    done = run("report", "runs/Reacher-v5-rrd-sac-0", "--out", "page.html", cwd=trained)
    assert (done.returncode, done.stdout) == (0, "report: page.html\n"), done.stderr
    assert "Reacher-v5" in (trained / "page.html").read_text()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--env Antt-v5", "did you mean Ant-v5?"),
        ("--env Reacher-v5 --rrd-sample-size 64", "--rrd-sample-size 64 is more than the 50 steps"),
        ("--env CartPole-v1", "--basis-alg sac cannot act here"),
        ("--env Reacher-v5 --alg none --device cuda:99", "--device cuda:99 cannot be used"),
        ("--env Reacher-v5 --alg none --log tensorbord", "--log tensorbord is unknown"),
        ("--env Antt-v5 --seeds 0,1", "did you mean Ant-v5?"),
    ],
)
def test_a_slip_leaves_nothing_behind(flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *flags.split()]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not list(tmp_path.iterdir())


OWN_ENVIRONMENT = """
from envs_for_tests import Walk


class Sixty(Walk):
    def step(self, action):
        obs, reward, _, _, info = super().step(action)
        return obs, reward, self.t >= 60, False, info
"""


def test_a_slip_that_shows_itself_in_training_does_not_take_the_runs_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "sixty.py").write_text(OWN_ENVIRONMENT)
    small = "--steps 200 --test-rollouts 1 --batch-size 16 --hidden 16 --timesteps 10 --train-batches 1"
    command = ["train", "--env", "sixty:Sixty", "--alg", "none", "--name", "a", *small.split(), "--warmup"]
    assert main([*command, "50"]) == 2
    assert "no episode" in capsys.readouterr().err
    assert main([*command, "70"]) == 0
    assert json.loads((tmp_path / "runs/a/config.json").read_text())["warmup"] == 70
    assert main([*command, "70"]) == 2
    assert "holds a run already" in capsys.readouterr().err


def test_without_run_json_nothing_is_resumed(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "runs/Reacher-v5-rrd-sac-0", "a")
    Path("a/run.json").unlink()
    before = sorted(Path("a").rglob("*"))
    assert main(["resume", "a"]) == 2
    assert "run.json cannot be read" in capsys.readouterr().err
    assert sorted(Path("a").rglob("*")) == before


def test_resume_of_what_is_no_run_is_a_users_slip(trained):
    done = run("resume", "runs/nothing", cwd=trained)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_an_environment_that_works_and_one_that_is_unknown(trained):
    assert run("check", "Reacher-v5", cwd=trained).returncode == 0
    unknown = run("check", "Raecher-v5", cwd=trained)
    assert unknown.returncode == 1
    assert "Reacher-v5" in unknown.stdout


def test_seeds_run_side_by_side_and_are_reported_together(tmp_path):
    done = run("train", "quickstart", *SMALL.split(), "--seeds", "0,5", "--jobs", 2, "--name", "both", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    seeds = [json.loads((tmp_path / f"runs/both/seed_{s}/config.json").read_text())["seed"] for s in (0, 5)]
    assert seeds == [0, 5]
    assert "report: runs/both/report.html" in done.stdout
    assert "2 runs" in (tmp_path / "runs/both/report.html").read_text()
    again = run("train", "quickstart", *SMALL.split(), "--seeds", "5,6", "--name", "both", cwd=tmp_path)
    assert again.returncode == 2 and "apportion resume runs/both" in again.stderr


def test_ctrl_c_stops_every_seed_and_resume_goes_on_with_all(tmp_path):
    command = [
        sys.executable,
        "-m",
        "apportion",
        "train",
        "quickstart",
        *SMALL.split(),
        "--steps",
        "100000",
        "--no-compile",
        "--seeds",
        "0,1",
    ]
    process = subprocess.Popen(
        [*command, "--jobs", "2", "--name", "x"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    runs = [tmp_path / "runs/x" / f"seed_{s}" for s in (0, 1)]
    patience = time.monotonic() + 120
    while not all((r / "evaluations.jsonl").exists() and lines(r / "metrics.jsonl") for r in runs):
        assert process.poll() is None and time.monotonic() < patience
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.strip().splitlines()[-1] == "apportion: stopped: go on with apportion resume runs/x"
    for path in runs:
        holder = int((path / "lock").read_text())
        with pytest.raises(ProcessLookupError):
            os.kill(holder, 0)
        assert any(path.glob("checkpoints/step_*/manifest.json"))


@pytest.mark.long
def test_seeds_that_were_not_started_before_ctrl_c_are_started_by_resume(tmp_path):
    command = [sys.executable, "-m", "apportion", "train", "quickstart", *SMALL.split(), "--steps", "150"]
    with subprocess.Popen(
        [*command, "--seeds", "0,3", "--jobs", "1", "--name", "x"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        patience = time.monotonic() + 120
        while not (tmp_path / "runs/x/seed_0.log").exists():
            assert process.poll() is None and time.monotonic() < patience
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and err.endswith("stopped: go on with apportion resume runs/x\n")
    assert not (tmp_path / "runs/x/seed_3").exists()
    (tmp_path / "runs/x").rename(tmp_path / "moved")
    done = run("resume", "moved", cwd=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    for seed in (0, 3):
        path = tmp_path / f"moved/seed_{seed}"
        assert json.loads((path / "config.json").read_text())["seed"] == seed
        assert json.loads((path / "run.json").read_text())["finished"] is True
    assert "2 runs" in (tmp_path / "moved/report.html").read_text()


def test_resume_goes_on_with_the_seeds_that_were_started_and_starts_the_others(tmp_path, monkeypatch, capsys):
    asked = []

    def run_all(jobs, count, threads, steps):
        asked.append((jobs, count, threads, steps))
        return [2] * len(jobs)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seeds, "run_all", run_all)
    assert main(["train", "quickstart", "--name", "m", "--seeds", "2,10", "--jobs", "1", "--steps", "2000"]) == 2
    planned = asked.pop()[0]
    assert [job.run for job in planned] == [Path("runs/m/seed_2"), Path("runs/m/seed_10")]
    assert main(["resume", "runs/m"]) == 2  # none was started
    assert [job.args[0] for job in asked[-1][0]] == ["train", "train"] and asked.pop()[2:] == (1, 2000)
    Path("runs/m/seed_2").mkdir()
    Path("runs/m/seed_2/config.json").write_text(json.dumps(to_json(config(seed=2))))
    assert main(["resume", "runs/m", "--jobs", "3", "--log", "tensorboard"]) == 2
    (started, other), *rest = asked.pop()
    assert rest == [3, 1, 2000]
    assert started.args == ("resume", "runs/m/seed_2", "--log", "tensorboard")
    place = ("--runs-dir", str(tmp_path / "runs"), "--name", "m/seed_10", "--log", "tensorboard")
    assert (other.args, other.run) == ((*planned[1].args, *place), Path("runs/m/seed_10"))
    Path("runs/m/seeds.json").unlink()  # made by an older version
    assert main(["resume", "runs/m"]) == 2
    assert [job.args for job in asked.pop()[0]] == [("resume", "runs/m/seed_2")]
    assert "1 of 1 failed" in capsys.readouterr().err


def test_seeds_that_came_to_nothing_do_not_keep_the_name_and_one_at_work_does(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seeds, "run_all", lambda jobs, *_: [2] * len(jobs))
    command = ["train", "quickstart", "--name", "m", "--seeds", "0,1", "--steps", "2000"]
    run = RunDir.create(Path("runs/m/seed_1"), to_json(config(seed=1)), [])
    assert main(command) == 2
    assert "2 of 2 failed" in capsys.readouterr().err  # they were let go
    with run.lock():
        assert main(command) == 2
    assert "seed_1 is in use by process" in capsys.readouterr().err
    run.evaluations.write_text('{"step": 1000, "returns": [1.0]}\n')
    assert main(command) == 2
    assert capsys.readouterr().err == (
        "apportion: runs/m/seed_1 exists already: apportion resume runs/m, or another --name\n"
    )


def test_the_old_front_door_trains_and_keeps_cumulative_rewards(tmp_path):
    flags = (
        "--alg=rrd --basis_alg=td3 --env=Reacher-v2 --rrd_bias_correction=True --epochs=1 --cycles=2 --iterations=2 "
        "--timesteps=50 --train_batches=2 --warmup=100 --batch_size=16 --rrd_batch_size=64 --rrd_sample_size=32 "
        "--test_rollouts=2 --seed=3"
    )
    done = run("--tag=RRD-TD3 Reacher", *flags.split(), cwd=tmp_path, script=ROOT / "train.py")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "runs" / "RRD-TD3-Reacher-seed-3"
    rows = lines(path / "evaluations.jsonl")
    assert [row["step"] for row in rows] == [100, 200]
    info = np.load(path / "rews" / "Reacher-v2.npz")["info"]
    np.testing.assert_allclose(info, [(row["step"], np.mean(row["returns"])) for row in rows])
    assert "Reacher-v2 is now Reacher-v5" in done.stdout + done.stderr
