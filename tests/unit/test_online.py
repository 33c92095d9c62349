"""The loop as a whole: what the learner may see, what stops it, what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from apportion import (
    DQNConfig,
    LearnedReward,
    RewardModel,
    UserError,
    evaluate_run,
    film_run,
    train_online,
)
from apportion.agents import make_agent
from apportion.config import DDPGConfig
from apportion.envs.make import make_one, spec_of
from apportion.nets.normalizer import RunningNorm
from apportion.rng import Streams
from apportion.run import checkpoint
from apportion.run.metrics import read_lines
from apportion.train import online
from apportion.train.evaluate import Evaluator
from apportion.train.preflight import preflight
from apportion.types import Batch, Spec
from runs_for_tests import TINY


def parameters(run: Path) -> dict[str, bytes]:
    last = sorted((run / "checkpoints").iterdir())[-1]
    return {name: (last / name).read_bytes() for name in ("agent.safetensors", "method.safetensors")}


@pytest.mark.parametrize("alg", ["rrd", "ircr", "uniform", "none"])
def test_learner_cannot_see_the_rewards_that_are_withheld(alg, tmp_path):
    """Two worlds with the same returns and other per-step rewards teach the same networks, to the bit."""
    tiny = replace(TINY, reward=replace(TINY.reward, alg=alg))
    train_online(tiny, tmp_path / "forwards", progress=False)
    train_online(replace(tiny, env="envs_for_tests:ClockBackwards"), tmp_path / "backwards", progress=False)
    assert parameters(tmp_path / "forwards") == parameters(tmp_path / "backwards")
    if alg == "rrd":  # while the audit, which may look, sees the difference
        audits = [read_lines(tmp_path / run / "evaluations.jsonl")[-1]["audit"] for run in ("forwards", "backwards")]
        assert audits[0]["pearson"] == pytest.approx(-audits[1]["pearson"], abs=1e-5)


@pytest.mark.unchecked
def test_learner_sees_the_rewards_that_are_not_withheld(tmp_path):
    dense = replace(TINY, reward=replace(TINY.reward, alg="none"), env_type="normal")
    train_online(dense, tmp_path / "forwards", progress=False)
    train_online(replace(dense, env="envs_for_tests:ClockBackwards"), tmp_path / "backwards", progress=False)
    assert parameters(tmp_path / "forwards") != parameters(tmp_path / "backwards")


@pytest.mark.unchecked
def test_evaluations_repeat_their_seeds_and_keep_every_return(tmp_path):
    train_online(TINY, tmp_path / "run", progress=False)
    first, last = read_lines(tmp_path / "run" / "evaluations.jsonl")
    assert first["seeds"] == last["seeds"] and len(set(first["seeds"])) == 2
    assert last["returns"] == [21.0, 21.0] and last["lengths"] == [6, 6]


def test_metrics_have_no_clock_in_them_and_timing_does(tmp_path):
    train_online(TINY, tmp_path / "run", progress=False)
    names = set().union(*read_lines(tmp_path / "run" / "metrics.jsonl"))
    assert {"step", "episodes", "return", "reward/R_loss", "reward/R_var", "agent/q_loss", "agent/alpha"} <= names
    assert not {n for n in names if "second" in n or "steps_per" in n}
    assert read_lines(tmp_path / "run" / "timing.jsonl")[-1]["steps_per_s"] > 0


def test_warm_up_without_a_finished_episode_says_what_to_change(tmp_path):
    with pytest.raises(UserError, match=r"no episode .* raise --warmup"):
        train_online(replace(TINY, env="envs_for_tests:Walk", warmup=20), tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"env": "Reacher-v5", "warmup": 20}, "raise --warmup to 50 steps, an episode's length"),
        ({"env": "Reacher-v5", "warmup": 100, "num_envs": 3}, "raise --warmup to 150 = 3 environments x 50 steps"),
        ({"env": "envs_for_tests:Walk", "num_envs": 3}, "raise --warmup above 3 environments x an episode's length"),
    ],
)
def test_how_long_a_warm_up_must_be_counts_the_environments(more, says, tmp_path):
    with pytest.raises(UserError) as caught:
        train_online(replace(TINY, **more), tmp_path / "run", progress=False)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"buffer_size": 50}, "--buffer-size 50 cannot hold an episode of Reacher-v5, .* at least 51"),
        ({"warmup": 200}, "--warmup 200 leaves nothing of --steps 200"),
        ({"compile": True}, "needs a C[+][+] compiler, and no-such-compiler is not here"),
    ],
)
def test_a_slip_that_can_be_known_leaves_nothing_behind(more, says, tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=says):
        train_online(replace(TINY, env="Reacher-v5", **more), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    preflight(replace(TINY, env="Reacher-v5", buffer_size=51, warmup=199))


def test_a_run_says_where_it_is_and_what_to_do_next(tmp_path, capsys):
    path = tmp_path / "run"
    train_online(TINY, path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == f"writing to {path}"
    assert lines[-1] == f"{path}: finished; apportion report {path}"


@pytest.mark.unchecked
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_first_interrupt_is_acknowledged_at_once_and_the_run_saved(name, tmp_path, capsys, monkeypatch):
    real = online.iteration

    def interrupted(session, update):
        if session.step == 60:
            os.kill(os.getpid(), getattr(signal, name))
            assert capsys.readouterr().out.endswith("stopping after this iteration; Ctrl-C again stops at once\n")
        real(session, update)

    monkeypatch.setattr(online, "iteration", interrupted)
    train_online(TINY, tmp_path / "run")
    assert capsys.readouterr().out.endswith(f"stopped at step 62: go on with `apportion resume {tmp_path / 'run'}`\n")
    assert [p.name for p in checkpoint.steps(tmp_path / "run" / "checkpoints")] == ["step_000000062"]
    assert signal.getsignal(getattr(signal, name)) is not None


def test_a_run_under_nohup_does_not_hear_that_its_terminal_is_gone():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with online.interrupts(print) as stopping:
            os.kill(os.getpid(), signal.SIGHUP)
        assert not stopping.is_set()
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("alg", "k", "warned"), [("rrd", 8, 1), ("rd", 8, 1), ("rrd", 4, 0), ("none", 8, 0)])
def test_a_gradient_of_one_episode_is_warned_about(alg, k, warned, tmp_path, capsys):
    reward = replace(TINY.reward, alg=alg, rrd_sample_size=k)
    train_online(replace(TINY, reward=reward, steps=60), tmp_path / "run", progress=False)
    assert capsys.readouterr().err.count("each reward update learns from a single episode") == warned


def test_subsets_longer_than_any_episode_are_refused(tmp_path):
    too_long = replace(TINY, env="Reacher-v5", reward=replace(TINY.reward, rrd_batch_size=64, rrd_sample_size=64))
    with pytest.raises(UserError, match="64 is more than the 50 steps"):
        train_online(too_long, tmp_path / "run", progress=False)


def test_diverging_network_stops_the_run_names_the_tensor_and_keeps_the_checkpoint(tmp_path):
    """The reward network's step size is out of all proportion, so its weights overflow within the run."""
    wild = replace(TINY, reward=replace(TINY.reward, r_lr=1e30), warmup=120, save_freq=100, log_every=10)
    with pytest.raises(UserError, match=r"method: tensor model/net\.weights\.\d"):
        train_online(wild, tmp_path / "run", progress=False)
    kept = checkpoint.steps(tmp_path / "run" / "checkpoints")
    assert [path.name for path in kept] == ["step_000000100"]
    checkpoint.load(kept[0])


def test_reward_of_nan_stops_the_run_with_one_line(tmp_path):
    with pytest.raises(UserError, match="nan as reward"):
        train_online(replace(TINY, env="envs_for_tests:NaNReward"), tmp_path / "run", progress=False)


@pytest.mark.unchecked
def test_learned_reward_leaves_the_house(tmp_path):
    settings = replace(TINY, env="Reacher-v5", reward=replace(TINY.reward, rrd_ensemble=2), buffer_size=1000)
    train_online(settings, tmp_path / "run", progress=False)
    model = RewardModel.load(tmp_path / "run")
    copy = RewardModel.load(model.save(tmp_path / "elsewhere"))
    env = LearnedReward(gym.make("Reacher-v5"), copy)
    obs, _ = env.reset(seed=3)
    act = env.action_space.sample()
    next_obs, reward, _, _, info = env.step(act)
    assert reward == pytest.approx(float(model.reward(obs[None], act[None], next_obs[None])[0]), rel=1e-6)
    assert reward != info["env_reward"]
    assert {p.name for p in (tmp_path / "elsewhere").iterdir()} == {"reward.json", "reward.safetensors"}


@pytest.mark.parametrize("env", ["Hopper-v5", "CartPole-v1"])
def test_a_learned_reward_around_another_environment_is_refused(env):
    model = RewardModel(spec_of(gym.make("Reacher-v5")), (4,), 1, torch.Generator(), None)
    with pytest.raises(UserError, match=r"learned with obs_shape \(10,\), and the environment has"):
        LearnedReward(gym.make(env), model)


def test_reward_model_takes_actions_in_the_environments_own_units():
    spec = Spec((2,), "float32", "box", 1, (-2.0,), (6.0,))
    model = RewardModel(spec, (4,), 1, torch.Generator().manual_seed(0), None)
    obs, next_obs = np.ones((1, 2)), np.zeros((1, 2))
    inside = model.predict(torch.ones(1, 2), torch.tensor([[0.5]]), torch.zeros(1, 2))
    assert model.reward(obs, np.array([[4.0]]), next_obs)[0] == pytest.approx(
        inside.item()
    )  # 4 is half way from 2 to 6


def test_no_reward_model_and_a_damaged_one_are_told_apart(tmp_path):
    with pytest.raises(UserError, match="holds no reward model"):
        RewardModel.load(tmp_path)
    spec = Spec((2,), "float32", "discrete", 3)
    RewardModel(spec, (4,), 1, torch.Generator(), None).save(tmp_path)
    (tmp_path / "reward.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match=r"reward.safetensors cannot be read"):
        RewardModel.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"spec": {}}', '{"spec": 3}'])
def test_a_damaged_description_of_a_reward_model_is_one_line(text, tmp_path):
    RewardModel(Spec((2,), "float32", "discrete", 3), (4,), 1, torch.Generator(), None).save(tmp_path)
    (tmp_path / "reward.json").write_text(text)
    with pytest.raises(UserError, match=r"reward.json cannot be read") as caught:
        RewardModel.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.unchecked
def test_evaluate_run_uses_the_newest_checkpoint_and_its_own_seeds(tmp_path):
    train_online(replace(TINY, reward=replace(TINY.reward, alg="rd")), tmp_path / "run", progress=False)
    result = evaluate_run(tmp_path / "run", episodes=3, seed=7)
    assert (result["step"], result["returns"], len(set(result["seeds"]))) == (200, [21.0] * 3, 3)
    trained_on = read_lines(tmp_path / "run" / "evaluations.jsonl")[-1]["seeds"]
    assert not set(result["seeds"]) & set(trained_on)
    assert len(evaluate_run(tmp_path / "run")["returns"]) == 10


def evaluation_of(env: str, spoil: bool = False) -> None:
    """Two evaluation episodes of an untrained policy, or of one that has diverged."""
    config = replace(TINY, env=f"envs_for_tests:{env}")
    spec = spec_of(make_one(config.env, False))
    agent = make_agent(spec, config.agent, torch.Generator().manual_seed(0), None, torch.device("cpu"))
    if spoil:
        with torch.no_grad():
            for parameter in agent.parameters():
                parameter.fill_(float("nan"))
    Evaluator(config, spec, 2, 0).rollouts(agent, torch.device("cpu"))


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ("NaNReward", "evaluation environment 0 gave nan as reward, at step 2 of its episode with seed {}:"),
        ("NaNObservation", "evaluation environment 0 gave nan as observation entry 1, at step 3 of its episode with"),
        ("Crash", "environment 0 raised ZeroDivisionError: the cart fell off, at step 3 of its episode with seed {}:"),
        ("WrongShape", "environment 0 gave an observation of shape (2,) where its space says (3,), at its reset"),
    ],
)
def test_a_fault_in_an_evaluation_is_one_line(env, says):
    with pytest.raises(UserError) as caught:
        evaluation_of(env)
    assert says.format(Streams(0).integer("evaluation")) in str(caught.value) and "\n" not in str(caught.value)


def test_a_policy_of_nan_does_not_pass_an_evaluation():
    with pytest.raises(UserError, match=r"the policy, for evaluation environment 0, gave nan as action entry 0, at st"):
        evaluation_of("Clock", spoil=True)


@pytest.fixture
def drawn(tmp_path) -> Path:
    train_online(replace(TINY, env="envs_for_tests:Drawn"), tmp_path / "run", progress=False)
    return tmp_path / "run"


def test_a_film_shows_the_first_episode_of_the_evaluation_with_the_same_seed(drawn):
    import av

    path = film_run(drawn, drawn / "film.mp4", seed=3)
    with av.open(str(path)) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(film.streams.video[0])]
    assert len(frames) == evaluate_run(drawn, episodes=1, seed=3)["lengths"][0]


def test_a_film_that_cannot_be_made_is_one_line(drawn):
    with pytest.raises(UserError, match="cannot be written"):
        film_run(drawn, Path("/proc/film.mp4"))
    config = json.loads((drawn / "config.json").read_text())
    (drawn / "config.json").write_text(json.dumps({**config, "env": "envs_for_tests:NotDrawn"}))
    with pytest.raises(UserError, match=r"cannot film here: OSError: no display; .*leave out --video"):
        film_run(drawn, drawn / "film.mp4")
    assert not (drawn / "film.mp4").exists()


FILM = """
import sys
from pathlib import Path
from apportion import UserError, film_run
try:
    print(film_run(Path(sys.argv[1]), Path(sys.argv[2])).stat().st_size > 0)
except UserError as error:
    print(error)
"""


@pytest.mark.unchecked
@pytest.mark.parametrize("backend", ["", "osmesa"])
def test_mujoco_is_filmed_without_a_display_or_says_in_one_line_why_not(backend, tmp_path):
    train_online(replace(TINY, env="Reacher-v5", steps=60), tmp_path / "run", progress=False)
    unset = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY")}
    env = {**unset, "OMP_NUM_THREADS": "1", **({"MUJOCO_GL": backend} if backend else {})}
    command = [sys.executable, "-c", FILM, str(tmp_path / "run"), str(tmp_path / "film.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    (line,) = done.stdout.splitlines()
    assert line == "True" or "cannot film here: " in line or "MUJOCO_GL is osmesa" in line
    assert done.stderr == ""


def test_discrete_agents_learn_from_learned_rewards(tmp_path):
    settings = replace(TINY, env="envs_for_tests:Levers", agent=DQNConfig(hidden=(8,)))
    train_online(settings, tmp_path / "run", progress=False)
    assert RewardModel.load(tmp_path / "run").spec.act_kind == "discrete"


def test_observations_are_normalised_once():
    """An agent with a normaliser on raw data is the agent without one on normalised data."""
    spec = Spec((2,), "float32", "box", 1, (-1.0,), (1.0,))
    norm = RunningNorm((2,))
    norm.observe(torch.tensor([[100.0, 3.0], [104.0, 5.0]]))

    def build(n):
        return make_agent(spec, DDPGConfig(hidden=(8,)), torch.Generator().manual_seed(0), n, torch.device("cpu"))

    with_norm, without = build(norm), build(None)
    raw = torch.tensor([[101.0, 4.5], [103.0, 3.5]])
    rest = {
        "act": torch.tensor([[0.1], [0.2]]),
        "reward": torch.ones(2),
        "discount": torch.full((2,), 0.9),
        "episode_return": torch.ones(2),
        "length": torch.ones(2, dtype=torch.int64),
        "episode": torch.zeros(2, dtype=torch.int64),
    }
    for _ in range(3):
        with_norm.update(Batch(obs=raw, next_obs=raw + 1, **rest), {}, with_norm.due())
        without.update(Batch(obs=norm(raw), next_obs=norm(raw + 1), **rest), {}, without.due())
    assert torch.equal(with_norm.act(raw, None, 0), without.act(norm(raw), None, 0))


def test_run_directory_tells_what_made_it(tmp_path):
    train_online(TINY, tmp_path / "run", command=["apportion", "train"], progress=False)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["finished"] is True and info["versions"]["torch"] == torch.__version__


@pytest.mark.unchecked
@pytest.mark.parametrize(("num_envs", "timesteps"), [(1, 1), (4, 1), (8, 3), (3, 100)])
def test_several_environments_keep_the_updates_per_step(num_envs, timesteps, tmp_path):
    settings = replace(TINY, num_envs=num_envs, timesteps=timesteps, train_batches=1, warmup=48, steps=480)
    train_online(settings, tmp_path / "run", progress=False)
    _, parts, _ = checkpoint.newest(tmp_path / "run" / "checkpoints", print)
    taken, steps = parts["agent"]["count"]["updates"], parts["collector"]["env_steps"]
    assert abs(taken - (steps - 48) / timesteps) <= max(1, num_envs)
