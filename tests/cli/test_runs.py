"""Whole runs from the command line, small ones, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from apportion.cli import main

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
