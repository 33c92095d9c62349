"""Many runs from one file: which they are, that one's failure is its own, and that a second call goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from apportion.cli import main
from apportion.run.rundir import RunDir
from apportion.train.sweep_runs import as_job, option, read_sweep, unfinished, write_plan
from apportion.types import UserError

SMALL = (
    "--steps 300 --warmup 100 --log-every 100 --eval-every 150 --test-rollouts 2 --save-freq 150 --batch-size 16 "
    "--hidden 16 --r-hidden 16 --rrd-batch-size 64"
)


def file(tmp_path, text, name="lr.yaml"):
    path = tmp_path / name
    path.write_text(text)
    return path


# -------------------------------------------------------------------- the file


def test_flags_multiply_in_order_and_seeds_vary_fastest(tmp_path):
    sweep = read_sweep(
        file(
            tmp_path,
            "command: apportion train --env 'A-v0'\nvary: {q_lr: [1e-3, 0.5], bf16: [true, false]}\nseeds: [7, 8]",
        )
    )
    assert sweep.name == "lr"
    first = ("train", "--env", "A-v0")
    assert list(sweep.runs) == [
        f"q-lr={lr}_bf16={on}_seed={seed}" for lr in ("1e-3", "0.5") for on in (True, False) for seed in (7, 8)
    ]
    assert sweep.runs["q-lr=1e-3_bf16=True_seed=7"] == (*first, "--q-lr=1e-3", "--bf16", "--seed=7")
    assert sweep.runs["q-lr=0.5_bf16=False_seed=8"] == (*first, "--q-lr=0.5", "--no-bf16", "--seed=8")


def test_lists_defaults_and_paths_are_spelt_for_the_flag_and_for_the_name(tmp_path):
    text = "name: x1\ncommand: [power, train, trivial]\nvary: {hidden: [[64, 64], null], world: [/data/a b.yaml]}"
    assert read_sweep(file(tmp_path, text)).runs == {
        "hidden=64-64_world=data-a-b.yaml": ("power", "train", "trivial", "--hidden=64,64", "--world=/data/a b.yaml"),
        "hidden=None_world=data-a-b.yaml": ("power", "train", "trivial", "--world=/data/a b.yaml"),
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("command: train\nseed: [1]", "unknown key 'seed'; did you mean seeds"),
        ("command: evaluate runs/x\nseeds: [1]", "must begin with a verb that makes runs"),
        ("seeds: [1]", "must begin with a verb that makes runs"),
        ("command: train", "nothing varies"),
        ("command: train --help\nseeds: [1]", "--help does not belong there"),
        ("command: train\nvary: [1]", "vary: must be flags with lists"),
        ("command: train\nvary: {lr: 3}", "vary: lr must be a list of values, not 3"),
        ("command: train\nseeds: []", r"seeds: must be a list of values, not \[\]"),
        ("command: train\nseeds: [1]\nvary: {seed: [2]}", "keep one of them"),
        ("command: train\nvary: {name: [a]}", "--name cannot vary"),
        ("command: train --runs_dir=x\nseeds: [1]", "--runs-dir in command: is for the sweep to decide"),
        ("command: train --q-lr 1\nvary: {q_lr: [2]}", "--q-lr in command: is for the sweep to decide"),
        ("command: train\nvary: {env: [a/b, a b]}", "two runs would be called env=a-b"),
        ("name: ../x\ncommand: train\nseeds: [1]", "cannot be a directory's"),
        ("- 1", "must say command: and what to vary, not be a list"),
        ("a: [", "is no YAML"),
    ],
)
def test_a_slip_in_the_file_is_one_line(tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read_sweep(file(tmp_path, text))
    assert "lr.yaml" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("sweep {}/nowhere.yaml", "nowhere.yaml cannot be read (No such file or directory)"),
        ("sweep {}/lr.yaml", "unknown flag --q-lt; did you mean --q-lr?"),
        ("sweep {}/lr.yaml --on slurm", "--on slurm: local, ray, or ray:ADDRESS"),
        ("sweep {}/lr.yaml --send-back", "--send-back is for --on ray"),
    ],
)
def test_a_slip_in_the_command_line_starts_nothing(tmp_path, capsys, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "command: train --env Reacher-v5\nvary: {q-lt: [1, 2]}")
    assert main(words.format(tmp_path).split()) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1 and not (tmp_path / "runs").exists()


def test_a_dry_run_shows_every_command_line(tmp_path, capsys):
    path = file(tmp_path, "command: train --env Reacher-v5\nseeds: [3, 4]")
    assert main(["sweep", str(path), "--dry-run"]) == 0
    assert capsys.readouterr().out == "".join(
        f"seed={n}: apportion train --env Reacher-v5 --seed={n}\n" for n in (3, 4)
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("command: power train trivial\nvary: {xi: [2, 0]}", "xi 0 is out of range"),
        ("command: power train trival\nseeds: [0]", "there is no world 'trival'"),
    ],
)
def test_a_value_that_a_run_would_refuse_is_refused_before_any_begins(tmp_path, capsys, text, says):
    assert main(["sweep", str(file(tmp_path, text)), "--dry-run"]) == 2
    assert says in capsys.readouterr().err


# -------------------------------------------------------------------- the directory


def test_what_is_finished_is_left_what_was_begun_is_resumed_and_the_rest_is_started(tmp_path):
    root = tmp_path / "runs" / "lr"
    sweep = read_sweep(file(tmp_path, "command: train --env A-v0\nseeds: [0, 1, 2]"))
    write_plan(root, sweep)
    for seed in (0, 1):
        run = RunDir.create(root / f"seed={seed}", {"kind": "OnlineConfig"}, ["apportion"])
        run.mark("finished", seed == 0)
    todo = unfinished(root, sweep)
    assert [(one.name, one.started) for one in todo] == [("seed=1", True), ("seed=2", False)]
    assert as_job(todo[0], root, root).args == ("resume", str(root / "seed=1"))
    new = as_job(todo[1], root, root)
    assert new.args == (*sweep.runs["seed=2"], "--runs-dir", str(root.parent), "--name", "lr/seed=2")
    assert (new.run, new.log) == (root / "seed=2", root / "seed=2.log")


def test_a_name_never_stands_for_two_runs(tmp_path):
    root = tmp_path / "lr"
    one = read_sweep(file(tmp_path, "command: train --env A-v0\nseeds: [0, 1]"))
    two = read_sweep(file(tmp_path, "command: train --env B-v0\nseeds: [0, 2]"))
    write_plan(root, one)
    write_plan(root, two)  # nothing was begun
    write_plan(root, one)
    RunDir.create(root / "seed=0", {}, ["apportion"])
    with pytest.raises(UserError, match=r"seed=0 was begun with other settings \(train --env A-v0 --seed=0\)"):
        write_plan(root, two)
    write_plan(root, read_sweep(file(tmp_path, "command: train --env A-v0\nseeds: [0, 5]")))
    assert list(json.loads((root / "sweep.json").read_text())["runs"]) == ["seed=0", "seed=1", "seed=2", "seed=5"]
    (root / "sweep.json").write_text("{")
    with pytest.raises(UserError, match=r"sweep\.json cannot be read"):
        write_plan(root, one)
    with pytest.raises(UserError, match="is a run and no sweep"):
        write_plan(root / "seed=0", one)


def test_the_last_mention_of_a_flag_counts():
    args = ("train", "--threads", "2", "--batch-size", "3", "--threads=4", "--batch_size=5")
    assert [option(args, flag, "9") for flag in ("threads", "batch-size", "steps")] == ["4", "5", "9"]


# -------------------------------------------------------------------- runs


def sweep(tmp_path, *flags):
    command = [sys.executable, "-m", "apportion", "sweep", "s.yaml", *flags]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)


def again(run):
    """Makes a finished run one that was killed after its first checkpoint."""
    shutil.rmtree(run / "checkpoints" / "step_000000300")
    RunDir(run).mark("finished", False)


WORLDS = f"command: train rrd-sac {SMALL}\nvary: {{env: [Reacher-v5, Nowhere-v0]}}\n"


@pytest.mark.long
@pytest.mark.parametrize("flags", [(), ("--on", "ray:local"), ("--on", "ray:local", "--send-back")])
def test_a_failure_is_told_the_others_go_on_and_a_second_call_with_the_unfinished(tmp_path, flags):
    file(tmp_path, WORLDS, "s.yaml")
    first = sweep(tmp_path, *flags)
    assert first.returncode == 2  # a slip of the user's, and nothing else
    assert "env=Nowhere-v0: failed with exit code 2" in first.stderr and "unknown environment" in first.stderr
    assert "1 of 2 failed: env=Nowhere-v0" in first.stderr
    run = tmp_path / "runs" / "s" / "env=Reacher-v5"
    metrics = (run / "metrics.jsonl").read_bytes()
    assert [json.loads(line)["step"] for line in metrics.splitlines()] == [100, 200, 300]
    again(run)
    second = sweep(tmp_path, *flags)
    assert second.returncode == 2 and "env=Reacher-v5: done" in second.stdout
    assert RunDir(run).info()["finished"] is True and (run / "metrics.jsonl").read_bytes() == metrics
    log = (run.parent / "env=Reacher-v5.log").read_text()
    assert (log.count("steps 100 of 300"), log.count("steps 300 of 300")) == (1, 2)  # it went on from 150
    third = sweep(tmp_path, *flags)
    assert "2 runs in runs/s, 1 of them finished already" in third.stdout and "env=Reacher-v5" not in third.stdout


@pytest.mark.long
@pytest.mark.parametrize("flags", [(), ("--on", "ray:local")])
def test_ctrl_c_stops_every_run_with_a_checkpoint(tmp_path, flags):
    text = f"command: train rrd-sac --env Reacher-v5 {SMALL} --steps 1e6 --no-compile\nseeds: [0, 1]\n"
    file(tmp_path, text, "s.yaml")
    command = [sys.executable, "-u", "-m", "apportion", "sweep", "s.yaml", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=tmp_path, start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        seen = set()
        for line in process.stdout:
            seen |= {name for name in ("seed=0", "seed=1") if f"{name}: " in line and " steps" in line}
            if len(seen) == 2:
                break
        os.killpg(process.pid, signal.SIGINT)
        err = process.communicate(timeout=120)[1]
    assert process.returncode == 130 and "the same command goes on" in err
    runs = [RunDir(tmp_path / "runs" / "s" / name) for name in ("seed=0", "seed=1")]
    assert all(list(run.checkpoints.glob("step_*/manifest.json")) for run in runs)
    assert all(run.info()["finished"] is False for run in runs)


POWER = (
    "command: power train trivial --preset lookup --horizon 6 --num-episodes 12 --steps-per-episode 20 --num-envs 2 "
    "--warmup-v-h-e-steps 40 --warmup-q-r-steps 40 --beta-r-rampup-steps 80 --log-every 40\nseeds: [0, 1]\n"
)


@pytest.mark.long
def test_runs_of_human_power_are_the_same_on_a_cluster_as_here(tmp_path):
    found = []
    for name, flags in {"here": (), "there": ("--on", "ray:local")}.items():
        (tmp_path / name).mkdir()
        file(tmp_path / name, POWER, "s.yaml")
        done = sweep(tmp_path / name, *flags)
        assert done.returncode == 0, done.stderr
        runs = [tmp_path / name / "runs" / "s" / seed for seed in ("seed=0", "seed=1")]
        assert all(RunDir(run).info()["finished"] for run in runs)
        found.append([(run / "metrics.jsonl").read_bytes() for run in runs])
    assert found[0] == found[1] and found[0][0] != found[0][1]
