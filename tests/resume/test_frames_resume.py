"""Runs on frames, in memory and on the disk: the same bits, through interruptions and `kill -9`."""

import os
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apportion.config import AtariConfig, DQNConfig, OnlineConfig, RewardConfig
from apportion.run import checkpoint
from apportion.run.rundir import RunDir
from apportion.store.ring import NAME, open_ring
from apportion.train import environments, online
from apportion.train.online import resume, train_online
from apportion.train.session import newest
from apportion.types import UserError
from frames_for_tests import work

DOTS = OnlineConfig(
    env="frames_for_tests:Dots",
    reward=RewardConfig(rrd_batch_size=8, rrd_sample_size=4),
    agent=DQNConfig(train_target=20, eps_decay=100, test_eps=0.2, double=True),
    steps=300,
    warmup=50,
    timesteps=5,
    train_batches=1,
    batch_size=4,
    buffer_size=120,  # it goes around several times
    eval_every=100,
    test_rollouts=2,
    log_every=50,
    save_freq=110,
)


@pytest.fixture(autouse=True)
def three_frames(monkeypatch):
    monkeypatch.setattr(environments, "frames_of", lambda env, atari: 3)


def bits(run: Path) -> dict[str, bytes]:
    """Everything that a run promises to repeat; where the replay lies is not part of it."""
    last = sorted((run / "checkpoints").iterdir())[-1]
    parts = {p.name: p.read_bytes() for p in last.iterdir() if p.name != "manifest.json"}
    return parts | {name: (run / name).read_bytes() for name in ("metrics.jsonl", "evaluations.jsonl")}


def left_at(step: int, copy: Path, monkeypatch) -> None:
    """The next run's directory is copied to `copy` in the midst of things, at `step`: what a kill would leave."""
    go_on = online.iteration

    def iteration(session, update):
        go_on(session, update)
        if session.step == step:
            shutil.copytree(session.log.directory.parent, copy)

    monkeypatch.setattr(online, "iteration", iteration)


@pytest.mark.parametrize(("alg", "num_envs"), [("rrd", 1), ("rd", 3), ("ircr", 1)])
def test_an_interrupted_run_ends_in_the_same_bits_wherever_its_frames_lie(alg, num_envs, tmp_path, monkeypatch, capsys):
    reward = RewardConfig(alg=alg, rrd_batch_size=8, rrd_sample_size=4, return_correction=alg == "rrd")
    config = replace(DOTS, reward=reward, num_envs=num_envs, timesteps=6 if num_envs == 3 else 5)
    train_online(config, tmp_path / "memory", progress=False)
    assert ("warning: --alg rd looks at every image of whole episodes" in capsys.readouterr().err) == (alg == "rd")
    left_at(270, tmp_path / "left", monkeypatch)  # 50 steps after the second checkpoint
    train_online(replace(config, store="memmap"), tmp_path / "disk", progress=False)
    assert bits(tmp_path / "memory") == bits(tmp_path / "disk")
    assert [p.name for p in (tmp_path / "left" / "checkpoints").iterdir()]
    monkeypatch.undo()
    monkeypatch.setattr(environments, "frames_of", lambda env, atari: 3)
    resume(tmp_path / "left", progress=False)
    assert bits(tmp_path / "left") == bits(tmp_path / "disk")


def test_an_interrupted_run_on_a_game_ends_in_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.undo()  # the game's own number of frames
    game = replace(
        DOTS, env="Assault", atari=AtariConfig(sticky=True), buffer_size=27_100, test_timesteps=10, warmup=1200,
        steps=1300, eval_every=1300, save_freq=1250, timesteps=10,
    )  # fmt: skip
    train_online(game, tmp_path / "memory", progress=False)
    left_at(1280, tmp_path / "left", monkeypatch)  # in the middle of a game, 30 steps after the first checkpoint
    train_online(replace(game, store="memmap"), tmp_path / "disk", progress=False)
    monkeypatch.undo()
    resume(tmp_path / "left", progress=False)
    assert bits(tmp_path / "memory") == bits(tmp_path / "disk") == bits(tmp_path / "left")


def test_where_all_frames_are_damaged_there_is_nothing_to_go_on_from(tmp_path, monkeypatch, capsys):
    left_at(270, tmp_path / "left", monkeypatch)
    train_online(replace(DOTS, store="memmap"), tmp_path / "whole", progress=False)
    monkeypatch.setattr(online, "iteration", lambda session, update: pytest.fail("nothing is left to go on from"))
    for path in (tmp_path / "left" / "replay").glob("episodes_aside_*"):
        path.unlink()
    obs = open_ring(tmp_path / "left" / "replay" / NAME)
    obs[:, 5, 5] ^= 1
    with pytest.raises(UserError, match=r"all 2 checkpoints .* are damaged: there is nothing to go on from"):
        resume(tmp_path / "left", progress=False)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and all("observations of episode" in line for line in said)


def test_the_checkpoint_before_is_taken_where_a_frame_of_the_newest_alone_is_damaged(tmp_path, monkeypatch, capsys):
    left_at(270, tmp_path / "left", monkeypatch)
    train_online(replace(DOTS, store="memmap"), tmp_path / "whole", progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(environments, "frames_of", lambda env, atari: 3)
    run = RunDir.open(tmp_path / "left")
    last = sorted(run.checkpoints.iterdir())[-1]
    obs = open_ring(run.replay / NAME)
    for row in range(len(obs)):  # until it is one that the newest checkpoint has to itself
        obs[row, 5, 5] ^= 1
        with suppress(UserError):
            if newest(run, lambda line: None)[0] != last:
                break
        obs[row, 5, 5] ^= 1
    else:
        pytest.fail("no such row")
    resume(tmp_path / "left", progress=False)
    assert capsys.readouterr().err.count("passing over a damaged checkpoint") == 1
    assert bits(tmp_path / "left") == bits(tmp_path / "whole")


@pytest.mark.parametrize("store", ["memory", "memmap"])
def test_a_run_is_not_resumed_on_another_view_of_its_environment_and_loses_nothing(store, tmp_path, monkeypatch):
    left_at(270, tmp_path / "left", monkeypatch)
    train_online(replace(DOTS, store=store), tmp_path / "whole", progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(environments, "frames_of", lambda env, atari: 2)
    with pytest.raises(
        UserError, match=r"do not fit frames_for_tests:Dots as it is now, with observations \(2, 12, 12\)"
    ):
        resume(tmp_path / "left", progress=False)
    monkeypatch.setattr(environments, "frames_of", lambda env, atari: 3)
    resume(tmp_path / "left", progress=False)
    assert bits(tmp_path / "left") == bits(tmp_path / "whole")


def test_a_damaged_agent_is_no_loss_the_frames_of_the_checkpoint_before_are_there(tmp_path, monkeypatch, capsys):
    left_at(270, tmp_path / "left", monkeypatch)
    train_online(replace(DOTS, store="memmap"), tmp_path / "whole", progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(environments, "frames_of", lambda env, atari: 3)
    last = sorted((tmp_path / "left" / "checkpoints").iterdir())[-1]
    (last / "agent.safetensors").write_bytes(b"")
    resume(tmp_path / "left", progress=False)
    assert capsys.readouterr().err.count("passing over a damaged checkpoint") == 1
    assert bits(tmp_path / "left") == bits(tmp_path / "whole")


def test_a_run_on_the_disk_that_has_no_checkpoint_yet_starts_anew(tmp_path, monkeypatch):
    left_at(40, tmp_path / "left", monkeypatch)
    train_online(replace(DOTS, store="memmap"), tmp_path / "whole", progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(environments, "frames_of", lambda env, atari: 3)
    assert (tmp_path / "left" / "replay" / NAME).is_file()
    resume(tmp_path / "left", progress=False)
    assert bits(tmp_path / "left") == bits(tmp_path / "whole")


def test_early_checkpoints_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("apportion.store.ring.WORTH", 1)
    train_online(DOTS, tmp_path / "memory", progress=False)
    saved = []
    save = online.save
    monkeypatch.setattr(online, "save", lambda session, run: saved.append(session.step) or save(session, run))
    train_online(replace(DOTS, store="memmap"), tmp_path / "disk", progress=False)
    assert {110, 220, 300} < set(saved)
    assert bits(tmp_path / "memory") == bits(tmp_path / "disk")


@pytest.mark.parametrize("seed", range(2))
def test_a_process_killed_while_it_writes_frames_loses_nothing_that_it_promised(tmp_path, seed):
    rng = np.random.default_rng(seed)
    promised = 0
    for life in range(8):
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read_end)
            try:
                work(tmp_path, write_end)
            finally:
                os._exit(99)  # an error instead of the kill
        os.close(write_end)
        with os.fdopen(read_end) as pipe:
            assert pipe.readline() == "ready\n", f"life {life}: what was promised is not there"
            for _ in range(int(rng.integers(1, 12))):  # by then it is somewhere in what follows that line
                pipe.readline()
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, f"life {life}: status {status}"
        step = checkpoint.newest(tmp_path / "checkpoints", pytest.fail)[2]["step"]
        assert step > promised
        promised = step
    assert promised > 60  # a hundred rows hold 14 episodes: several times around
