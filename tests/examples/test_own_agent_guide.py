"""The Python in docs/guides/your-own-agent.md runs as it is printed, and so do its commands."""

import re
import shlex
import sys
import warnings
from pathlib import Path

import pytest
from stable_baselines3.common.logger import Logger

from apportion.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "your-own-agent.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.S | re.M)


def test_there_are_blocks_to_run():
    assert len(blocks("python")) == 6 and len(blocks("bash")) == 1


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_block_runs(number, capsys, monkeypatch):
    code, names, logged = blocks("python")[number], {}, {}
    # theirs forgets its values with every line that it prints
    monkeypatch.setattr(Logger, "record", lambda self, name, value, exclude=None: logged.update({name: value}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        exec(compile(code, f"block {number}", "exec"), names)
    if number == 0:
        assert "R_rmse" in capsys.readouterr().out
    if number == 1:
        assert logged["reward/R_rmse"] > 0
    if number == 3:
        assert len(names["buffer"]) == 200 and names["batch"].reward.shape == (256,)


def test_their_atari_wrappers_give_whole_games_in_stacked_frames():
    names = {}
    exec(compile("\n".join(blocks("python")[1:3]), "blocks 1 and 2", "exec"), names)
    model = names["model"]
    model.learn(60)
    core = model.replay_buffer.core
    assert core.spec.obs_shape == (84, 84, 4) and core.spec.obs_dtype == "uint8" and len(core) == 0  # no game is over


def test_stacks_go_in_a_frame_at_a_time_and_come_out_as_they_were_seen():
    names = {}
    exec(compile("\n".join(blocks("python")[3:5]), "blocks 3 and 4", "exec"), names)
    envs, buffer = names["envs"], names["buffer"]
    envs.action_space.seed(0)
    (obs, _), seen = envs.reset(seed=0), set()
    while not buffer.ready:
        seen.add(obs[0].tobytes())
        act = envs.action_space.sample()
        next_obs, reward, terminated, truncated, infos = envs.step(act)
        last_obs = infos["final_obs"][0][None] if "final_obs" in infos else next_obs
        buffer.add(obs[:, -1], act, reward, terminated, truncated, last_obs[:, -1])
        obs = next_obs
    batch = buffer.sample(32)
    assert batch.obs.shape == (32, 4, 84, 84) and {x.numpy().tobytes() for x in batch.obs} <= seen


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_labelled_episodes_are_read_back_by_minari(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    first, *commands = blocks("bash")[0].splitlines()
    assert first.startswith("export MINARI_DATASETS_PATH=$PWD/data ")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    Path("data").mkdir()
    from label_minari import record

    record("pendulum/random-v0", episodes=4, seed=0)
    for line in commands:
        program, *args = shlex.split(line)
        assert program == "apportion"
        assert main([*args, *(["--steps", "20"] if args[0] == "fit" else [])]) == 0
    exec(compile(blocks("python")[5], "the last block", "exec"), {})
    assert "200 steps with learned rewards" in capsys.readouterr().out
    sys.modules.pop("label_minari", None)


def test_every_example_that_is_named_is_there():
    named = set(re.findall(r"examples/\w+\.py", PAGE))
    assert len(named) >= 4 and all((ROOT / name).is_file() for name in named)
