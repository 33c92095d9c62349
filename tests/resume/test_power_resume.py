"""A run of human power goes on exactly where it was; actors elsewhere in lock-step do exactly what actors here do."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from apportion.power.learn.config import Phase2Config
from apportion.power.learn.priors import make_prior
from apportion.power.learn.worlds import open_kept
from apportion.run import checkpoint
from apportion.run.metrics import read_lines
from apportion.run.rundir import RunDir
from apportion.train.actors import build, make_crew
from apportion.train.power import resume, train_power
from apportion.train.workers import WorkerLost
from apportion.types import UserError

SHORT = Phase2Config(
    world="trivial",
    horizon="6",
    num_episodes=12,
    steps_per_episode=20,
    warmup_v_h_e_steps=40,
    warmup_x_h_steps=40,
    warmup_q_r_steps=40,
    beta_r_rampup_steps=80,
    epsilon_decay_steps=300,
    num_envs=4,
    batch_size=16,
    updates_per_step=0.5,
    target_update_freq=10,
    hidden=(16, 16),
    goal_features=4,
    log_every=40,
    save_freq=60,
    check="never",
)
KINDS = {
    "networks": {},
    "all-networks": {"u_r_use_network": True, "warmup_u_r_steps": 20, "v_r_use_network": True, "x_h_batch_size": 24},
    "averaged": {"average_copies": 3, "dropout": 0.0},
    "lookup": {"estimators": "lookup", "imagine": 0.5, "replay": "backward", "x_h_use_network": False},
    "sampled": {"targets": "sampled", "human_prior": "learned", "prior_steps": 20},
    "curious": {"target_batches": 2, "target_epochs": 3, "curiosity": 1.0, "num_actors": 2, "q_r_output": "z"},
}
if "robot_belief" not in KINDS["sampled"]:
    KINDS["sampled"]["params"] = replace(SHORT.params, robot_belief="mean")


def _leaves(tree, path=""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{path}/{key}")
    elif isinstance(tree, list):
        for i, value in enumerate(tree):
            yield from _leaves(value, f"{path}/{i}")
    else:
        yield path, tree


def assert_same_end(one, other, but=()):
    """Both runs' newest checkpoints hold the same, bit for bit."""
    a, b = (dict(_leaves(checkpoint.load(checkpoint.steps(RunDir(run).checkpoints)[0])[0])) for run in (one, other))
    assert a.keys() == b.keys()
    for name, value in a.items():
        if name.startswith(but):
            continue
        if isinstance(value, torch.Tensor | np.ndarray):
            assert np.array_equal(np.asarray(value), np.asarray(b[name])), name
        else:
            assert value == b[name], name


def _without_later(run, step):
    """As if the run had been killed before the checkpoint after `step`."""
    for path in checkpoint.steps(RunDir(run).checkpoints):
        if _step(path) > step:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_goes_on_bit_for_bit(tmp_path, kind):
    config = replace(SHORT, **KINDS[kind], keep_checkpoints=10)
    train_power(config, tmp_path / "whole", progress=False)
    train_power(config, tmp_path / "cut", progress=False)
    assert len(checkpoint.steps(RunDir(tmp_path / "cut").checkpoints)) >= 3
    _without_later(tmp_path / "cut", 170)
    resume(tmp_path / "cut", progress=False)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")
    assert (tmp_path / "whole" / "metrics.jsonl").read_bytes() == (tmp_path / "cut" / "metrics.jsonl").read_bytes()
    assert "resume" not in RunDir(tmp_path / "cut").info()


def test_a_finished_run_is_left_as_it_is(tmp_path, capsys):
    train_power(SHORT, tmp_path / "run", progress=False)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    resume(tmp_path / "run", progress=False)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
    assert "already finished" in capsys.readouterr().out


def test_actors_in_lockstep_processes_equal_actors_in_this_one_bit_for_bit(tmp_path):
    here = replace(SHORT, num_actors=2, num_envs=2)
    train_power(here, tmp_path / "here", progress=False)
    train_power(replace(here, use_async=True, lockstep=True), tmp_path / "there", progress=False)
    assert_same_end(tmp_path / "here", tmp_path / "there")
    assert read_lines(tmp_path / "here" / "metrics.jsonl") == read_lines(tmp_path / "there" / "metrics.jsonl")


@pytest.mark.long
def test_lockstep_goes_on_bit_for_bit(tmp_path):
    config = replace(SHORT, num_actors=2, actor_steps=2, num_envs=2, use_async=True, lockstep=True, keep_checkpoints=10)
    train_power(config, tmp_path / "whole", progress=False)
    train_power(config, tmp_path / "cut", progress=False)
    _without_later(tmp_path / "cut", 170)
    resume(tmp_path / "cut", progress=False)
    assert_same_end(tmp_path / "whole", tmp_path / "cut")


def test_actors_that_run_ahead_come_to_the_same_number_of_steps_and_training_steps(tmp_path):
    config = replace(
        SHORT, num_actors=2, actor_steps=5, num_envs=2, use_async=True, max_lead=40, on_ramp="age", log_every=20
    )
    train_power(config, tmp_path / "run", progress=False)
    parts = checkpoint.load(checkpoint.steps(RunDir(tmp_path / "run").checkpoints)[0])[0]
    step, updates = parts["loop"]["step"], parts["learner"]["updates"]
    assert 240 <= step <= 280  # what was on its way at the end is taken, not dropped
    lines = read_lines(tmp_path / "run" / "metrics.jsonl")
    first = 20  # steps of the first rounds, which come before there is a batch
    for line in lines:  # training steps keep up with environment steps
        assert 0.5 * (line["step"] - first - 40) - 1 <= line["updates"] <= 0.5 * line["step"]
    assert 0.5 * (step - first) - 1 <= updates <= 0.5 * step  # what was still due at the end is done
    info = RunDir(tmp_path / "run").info()
    assert info["finished"]


@pytest.mark.long
def test_an_async_run_goes_on_approximately_and_says_so(tmp_path):
    config = replace(SHORT, num_actors=2, actor_steps=5, num_envs=2, use_async=True, keep_checkpoints=10, max_lead=40)
    train_power(config, tmp_path / "run", progress=False)
    _without_later(tmp_path / "run", 170)
    resume(tmp_path / "run", progress=False)
    info = RunDir(tmp_path / "run").info()
    assert info["finished"] and info["resume"] == "approximate"


def _start(tmp_path, *flags):
    words = [sys.executable, "-m", "apportion", "power", "train", "trivial", "--horizon", "6", "--name", "run"]
    words += ["--runs-dir", str(tmp_path), "--num-episodes", "20000", "--save-freq", "200", "--check", "never", *flags]
    words += ["--hidden", "16", "16", "--epsilon-decay-steps", "20000", "--log-every", "100", "--num-envs", "4"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def _wait_for_checkpoint(run, process, after=0, seconds=120.0):
    """The newest one, once it is of more than `after` steps."""
    end = time.monotonic() + seconds
    while True:
        found = checkpoint.steps(RunDir(run).checkpoints)
        if found and _step(found[0]) > after:
            return _step(found[0])
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.02)


def _step(path):
    return int(path.name.removeprefix("step_"))


@pytest.mark.long
@pytest.mark.parametrize("flags", [(), ("--async", "--num-actors", "2")])
def test_a_killed_run_goes_on(tmp_path, flags):
    run = tmp_path / "run"
    process = _start(tmp_path, *flags)
    try:
        _wait_for_checkpoint(run, process, after=300)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    at = _step(checkpoint.steps(RunDir(run).checkpoints)[0])
    process = subprocess.Popen(
        [sys.executable, "-m", "apportion", "resume", str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        _wait_for_checkpoint(run, process, after=at + 300)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130 and "apportion resume" in out
    assert not json.loads((run / "run.json").read_text())["finished"]


class _Restarted:
    """Two workers; keeps what they are begun anew with."""

    count = 2

    def __init__(self):
        self.specs = []

    def restart(self, i, spec):
        self.specs.append((i, spec))


def test_what_a_lost_actor_had_counted_is_not_lost_and_a_fault_is_shown_whole_once(monkeypatch):
    workers, said = _Restarted(), []
    monkeypatch.setattr("apportion.train.actors.processes", lambda *args, **kwargs: workers)
    config = replace(SHORT, use_async=True, num_actors=2, human_prior="shortest-path")
    world, kept = open_kept(config)
    prior = make_prior("shortest-path", world, config.params, steps=0, seed=0, say=print)
    crew = make_crew(world, kept, prior, config, [{"episodes": 5}, {"episodes": 7}], said.append)
    assert crew.episodes() == 12
    fault = "Traceback\n  File a\nValueError: boom\n"
    for _ in range(2):
        crew._replace(WorkerLost(1, fault))
    with pytest.raises(UserError, match=r"actor 1 was lost 3 times in a row; the last time: ValueError: boom$"):
        crew._replace(WorkerLost(1, fault))
    assert [line.count("\n") for line in said] == [2, 0]
    assert crew.episodes() == 12
    (i, spec), *_ = workers.specs
    assert i == 1 and build(spec).actor.episodes == 7


@pytest.mark.long
def test_a_killed_actor_is_told_and_replaced(tmp_path):
    process = _start(tmp_path, "--async", "--num-actors", "2")
    run = tmp_path / "run"
    try:
        at = _wait_for_checkpoint(run, process, after=300)
        found = subprocess.run(["ps", "--ppid", str(process.pid), "-o", "pid=,args="], capture_output=True, text=True)
        actors = [int(line.split()[0]) for line in found.stdout.splitlines() if "spawn_main" in line]
        assert len(actors) == 2
        os.kill(actors[0], signal.SIGKILL)
        _wait_for_checkpoint(run, process, after=at + 300)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
    assert "actor" in out and "was lost and is replaced" in out and process.returncode == 130


@pytest.mark.long
@pytest.mark.parametrize("kind", ["all-networks", "sampled"])
def test_a_compiled_run_learns_what_a_plain_one_learns_and_goes_on_exactly(tmp_path, kind):
    plain = replace(SHORT, **KINDS[kind], dropout=0.5)
    compiled = replace(plain, compile=True)
    train_power(plain, tmp_path / "plain", progress=False)
    for name in ("whole", "broken"):
        train_power(compiled, tmp_path / name, progress=False)
    a, b = (read_lines(tmp_path / name / "metrics.jsonl") for name in ("plain", "whole"))
    for one, other in zip(a, b, strict=True):
        assert one.keys() == other.keys()
        assert [one[name] for name in one] == pytest.approx([other[name] for name in one], rel=2e-3, abs=1e-5)
    _without_later(tmp_path / "broken", 180)
    resume(tmp_path / "broken", progress=False)
    assert_same_end(tmp_path / "whole", tmp_path / "broken")
