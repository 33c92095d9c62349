"""The reward model beside the agent, in a thread of its own: the same numbers, and nothing lost."""

import shutil
from dataclasses import replace
from pathlib import Path
from threading import current_thread
from threading import enumerate as enumerate_threads

import pytest
import torch

import runs_for_tests
from apportion import RewardConfig, resume, train_online
from apportion.config import DQNConfig
from apportion.train import online

pytestmark = pytest.mark.unchecked

TINY = replace(runs_for_tests.TINY, timesteps=4, train_batches=3, buffer_size=100, test_rollouts=1)
OF_IMAGES = RewardConfig(rrd_batch_size=8, rrd_sample_size=4)


def outcome(run: Path) -> dict[str, bytes]:
    last = sorted((run / "checkpoints").iterdir())[-1]
    files = [last / "agent.safetensors", last / "method.safetensors", run / "metrics.jsonl", run / "evaluations.jsonl"]
    return {file.name: file.read_bytes() for file in files}


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        replace(TINY, reward=replace(TINY.reward, alg="rd", return_correction=True)),
        replace(TINY, reward=replace(TINY.reward, reward_scale="running", rrd_ensemble=2), obs_normalization=True),
        replace(TINY, env="films_for_tests:Planes", agent=DQNConfig(), reward=OF_IMAGES),
    ],
    ids=["rrd", "rd-corrected", "scaled-and-normalised", "images"],
)
def test_two_sides_learn_what_one_after_the_other_learns_to_the_bit(config, tmp_path):
    train_online(config, tmp_path / "one", progress=False)
    train_online(replace(config, threads=2), tmp_path / "two", progress=False)
    assert outcome(tmp_path / "one") == outcome(tmp_path / "two")


def test_a_run_of_two_sides_goes_on_exactly(tmp_path):
    config = replace(TINY, threads=2)
    train_online(config, tmp_path / "whole", progress=False)
    train_online(config, tmp_path / "broken", progress=False)
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step_000000200")
    resume(tmp_path / "broken", progress=False)
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")


def spied(monkeypatch, look) -> None:
    """`look` is called before each step of the reward model, in its thread."""
    make = online.make_session

    def made(*args):
        session = make(*args)
        learn = session.policy.method.learn
        session.policy.method.learn = lambda subsets: (look(), learn(subsets))[1]
        return session

    monkeypatch.setattr(online, "make_session", made)


@pytest.mark.parametrize(
    ("more", "side", "count"),
    [
        ({"threads": 1}, "", 1),
        ({"threads": 2}, "apportion-reward_0", 1),
        ({"threads": 4}, "apportion-reward_0", 2),
        ({"threads": 2, "reward": RewardConfig("uniform")}, "", 2),
    ],
)
def test_threads_are_shared_by_the_sides(more, side, count, monkeypatch, tmp_path):
    seen = set()

    def look():
        subnormal = float(torch.tensor([1e-40]) * 1.0)  # is 0 where such numbers are flushed
        seen.add((current_thread().name, torch.get_num_threads(), subnormal))

    spied(monkeypatch, look)
    train_online(replace(TINY, **more), tmp_path / "run", progress=False)
    assert seen == {(side or current_thread().name, count, 0.0)}


def test_a_fault_beside_the_agent_stops_the_run(monkeypatch, tmp_path):
    left = iter(range(4))

    def look():
        if next(left, None) is None:
            raise RuntimeError("no more")

    spied(monkeypatch, look)
    with pytest.raises(RuntimeError, match="no more"):
        train_online(replace(TINY, threads=2), tmp_path / "run", progress=False)
    assert not [thread for thread in enumerate_threads() if thread.name.startswith("apportion-reward")]


@pytest.mark.parametrize("corrected", [False, True])
def test_a_correction_over_all_stored_images_is_warned_about(corrected, tmp_path, capsys):
    reward = replace(OF_IMAGES, return_correction=corrected)
    config = replace(TINY, env="films_for_tests:Planes", agent=DQNConfig(), reward=reward, steps=60)
    train_online(config, tmp_path / "run", progress=False)
    assert capsys.readouterr().err.count("asks the reward network about every stored image again") == corrected
