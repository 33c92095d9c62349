"""2N steps are N steps, a kill, a resume and N steps: bit for bit, in the middle of episodes too."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from apportion.config import AGENTS, OnlineConfig, RewardConfig, to_json
from apportion.train import online
from apportion.train.evaluate import evaluate_run
from apportion.train.online import resume, train_online
from apportion.types import UserError

TESTS = str(Path(__file__).parents[1])


def config(alg="rrd", agent="sac", env="envs_for_tests:WalkOfSeven", **more) -> OnlineConfig:
    """300 steps of 7-step episodes: no checkpoint (every 110 steps) falls on the end of one."""
    reward = RewardConfig(
        alg=alg, rrd_batch_size=12, rrd_sample_size=4, r_hidden=(8,), return_correction=alg == "rd", rrd_ensemble=2
    )
    base = OnlineConfig(
        env=env,
        reward=reward,
        agent=replace(AGENTS[agent](), hidden=(8,)),
        env_type="normal" if alg == "none" else "ep_rews",
        steps=300,
        warmup=50,
        timesteps=3,
        train_batches=2,
        batch_size=8,
        buffer_size=150,  # so that episodes are evicted
        eval_every=60,
        test_rollouts=2,
        log_every=40,
        save_freq=110,
        keep_checkpoints=9,
        obs_normalization=agent == "ddpg",
    )
    return replace(base, **more)


def go_back(run: Path, copy: Path, keep: int) -> Path:
    """A copy of `run` as a kill right after its `keep`-th checkpoint, and some more steps, would have left it."""
    shutil.copytree(run, copy)
    for later in sorted((copy / "checkpoints").iterdir())[keep:]:
        shutil.rmtree(later)
    return copy


def contents(run: Path) -> dict[str, bytes]:
    """Everything that a run promises to repeat."""
    names = ["metrics.jsonl", "evaluations.jsonl", *(str(p.relative_to(run)) for p in (run / "credit").glob("*"))]
    last = sorted((run / "checkpoints").iterdir())[-1]
    return {name: (run / name).read_bytes() for name in names} | {p.name: p.read_bytes() for p in last.iterdir()}


def assert_same(a: Path, b: Path) -> None:
    first, second = contents(a), contents(b)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name] == second[name], f"{name} differs"


@pytest.mark.parametrize(
    ("alg", "agent", "more"),
    [
        ("rrd", "sac", {"num_envs": 3}),
        ("rd", "td3", {}),
        ("ircr", "ddpg", {}),
        ("uniform", "sac", {"num_envs": 2, "vector": "async"}),
        ("none", "td3", {}),
        ("rrd", "dqn", {"env": "envs_for_tests:Levers"}),
    ],
)
def test_interrupted_run_ends_in_the_same_bits(alg, agent, more, tmp_path):
    whole = tmp_path / "whole"
    if agent == "dqn":  # the shortest of these episodes has 2 steps: less than K, and masked
        more = {**more, "buffer_size": 60}
    train_online(config(alg, agent, **more), whole, progress=False)
    again = go_back(whole, tmp_path / "again", keep=1)
    resume(again, progress=False)
    assert_same(whole, again)


def test_real_mujoco_run_resumes_in_the_same_bits(tmp_path):
    settings = config(env="Hopper-v5", steps=260, save_freq=130, num_envs=2, buffer_size=1001)
    train_online(settings, tmp_path / "whole", progress=False)
    again = go_back(tmp_path / "whole", tmp_path / "again", keep=1)
    resume(again, progress=False)
    assert_same(tmp_path / "whole", again)
    assert "resume" not in json.loads((again / "run.json").read_text())


def test_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_online(config(seed=seed), tmp_path / name, progress=False)
    assert_same(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "metrics.jsonl").read_bytes() != (tmp_path / "c" / "metrics.jsonl").read_bytes()


def test_environment_that_cannot_repeat_is_said_and_marked(tmp_path, capsys):
    train_online(config(env="envs_for_tests:OwnNoise"), tmp_path / "whole", progress=False)
    again = go_back(tmp_path / "whole", tmp_path / "again", keep=1)
    resume(again, progress=False)
    assert "this resume is not exact" in capsys.readouterr().err
    assert json.loads((again / "run.json").read_text())["resume"] == "approximate"


@pytest.mark.parametrize("part", ["agent.safetensors", "manifest.json", "replay"])
def test_damaged_checkpoint_is_passed_over_with_one_line_and_the_run_repeats_itself(part, tmp_path, capsys):
    train_online(config(), tmp_path / "whole", progress=False)
    again = go_back(tmp_path / "whole", tmp_path / "again", keep=2)
    newest = sorted((again / "checkpoints").iterdir())[-1]
    if part == "replay":
        entries = json.loads((newest / "manifest.json").read_text())["body"]["extra"]["replay"]
        damaged = again / "replay" / entries[-1]["file"]
    else:
        damaged = newest / part
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    resume(again, progress=False)
    assert capsys.readouterr().err.count("passing over a damaged checkpoint") == 1
    assert_same(tmp_path / "whole", again)


def test_what_lies_beyond_a_checkpoint_that_a_run_falls_back_to_is_taken_away(tmp_path, monkeypatch):
    """Stopped right after it fell back from 220 to 110, the run holds nothing that is newer than 110."""
    train_online(config(), tmp_path / "whole", progress=False)
    early = go_back(tmp_path / "whole", tmp_path / "early", keep=1)
    again = go_back(tmp_path / "whole", tmp_path / "again", keep=2)
    damaged = sorted((again / "checkpoints").iterdir())[-1] / "agent.safetensors"
    damaged.write_bytes(b"no")
    monkeypatch.setattr(online, "iteration", stop)
    for run in (early, again):
        with pytest.raises(InterruptedError):
            resume(run, progress=False)
        assert [path.name for path in (run / "credit").iterdir()] == ["step_000000060.safetensors"]
    weights = [(run / "reward" / "reward.safetensors").read_bytes() for run in (tmp_path / "whole", early, again)]
    assert weights[0] != weights[1] == weights[2]
    method = load_file(sorted((early / "checkpoints").iterdir())[0] / "method.safetensors")
    saved = load_file(early / "reward" / "reward.safetensors")
    assert all(torch.equal(saved[name], method[f"model/{name}"]) for name in saved)


def stop(*_: object) -> None:
    raise InterruptedError


def test_a_finished_run_says_so_and_is_left_alone(tmp_path, capsys):
    train_online(config(), tmp_path / "run", progress=False)
    before = contents(tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text(json.dumps({"finished": False}))  # as if killed before the last word
    capsys.readouterr()
    resume(tmp_path / "run")
    said = f"{tmp_path / 'run'}: already finished at step 300; apportion report {tmp_path / 'run'}\n"
    assert capsys.readouterr().out == said
    assert contents(tmp_path / "run") == before
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"] is True


def test_a_configuration_without_an_environment_is_one_line(tmp_path):
    train_online(config(), tmp_path / "run", progress=False)
    path = tmp_path / "run" / "config.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "env"}))
    for go_on in (resume, evaluate_run):
        with pytest.raises(UserError, match=r"config\.json: OnlineConfig: field 'env' is missing"):
            go_on(tmp_path / "run")


RUN = """
import json, sys
sys.path.insert(0, sys.argv[3])
from pathlib import Path
from apportion.config import OnlineConfig, from_json
from apportion.train.online import resume, train_online
path = Path(sys.argv[1])
if (path / "config.json").exists():
    resume(path, progress=False)
else:
    train_online(from_json(OnlineConfig, json.loads(sys.argv[2])), path, progress=False)
"""


@pytest.mark.parametrize("store", ["memory", "memmap"])
def test_kill_minus_nine_at_random_points_loses_nothing(store, tmp_path):
    """Kill the process again and again, anywhere; a last life finishes with the bits of a run that was let alone."""
    settings = config(steps=600, save_freq=50, keep_checkpoints=2, store=store)
    train_online(settings, tmp_path / "whole", progress=False)
    path, chance = tmp_path / "killed", random.Random(0)
    command = [sys.executable, "-c", RUN, str(path), json.dumps(to_json(settings)), TESTS]
    kills = 0
    for _ in range(3):
        life = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60  # wait until this life has begun to work, then let chance decide
        before = sorted(p.name for p in path.glob("checkpoints/step_*"))
        while life.poll() is None and sorted(p.name for p in path.glob("checkpoints/step_*")) == before:
            assert time.monotonic() < deadline, "no progress"
            time.sleep(0.002)
        time.sleep(chance.uniform(0, 0.15))
        if life.poll() is None:
            life.send_signal(signal.SIGKILL)
            kills += 1
        life.wait()
    assert kills >= 2
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    for name in ("metrics.jsonl", "evaluations.jsonl"):
        assert (path / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert contents(path)["agent.safetensors"] == contents(tmp_path / "whole")["agent.safetensors"]


@pytest.mark.long
@pytest.mark.parametrize("alg", ["rrd", "rd"])
def test_compiled_run_resumes_in_the_same_bits(alg, tmp_path):
    """In processes of their own: the tests' type checks cannot be compiled."""
    settings = json.dumps(to_json(config(alg, compile=True)))

    def live(path: Path) -> None:
        command = [sys.executable, "-c", RUN, str(path), settings, TESTS]
        subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    live(tmp_path / "whole")
    live(go_back(tmp_path / "whole", tmp_path / "again", keep=1))
    assert_same(tmp_path / "whole", tmp_path / "again")
