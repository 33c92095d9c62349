"""A model learned before as the reward of an online run: raw in place of the environment's, a potential on top."""

import json

import gymnasium as gym
import numpy as np
import pytest
import torch

from apportion.cli import main
from apportion.config import RewardConfig
from apportion.data.schema import Demo, Source
from apportion.envs.make import spec_of
from apportion.rewards import Fitted, Given, make_method
from apportion.rewards.fitted import load_fitted
from apportion.rewards.model import RewardModel
from apportion.types import Episode, UserError
from rewards_for_tests import fitted_run, reward_model

CPU = torch.device("cpu")
SMALL = ["--steps", "160", "--warmup", "60", "--timesteps", "20", "--train-batches", "2", "--batch-size", "16"]
SMALL += ["--eval-every", "160", "--test-rollouts", "1", "--save-freq", "80"]


@pytest.fixture(scope="module")
def spec():
    env = gym.make("Reacher-v5")
    yield spec_of(env)
    env.close()


def played(spec, terminated=True):
    rng = np.random.default_rng(0)
    size = spec.obs_shape[0]
    return Episode(
        obs=rng.normal(size=(6, size)).astype(np.float32),
        act=rng.uniform(-1, 1, (5, spec.act_dim)).astype(np.float32),
        reward=np.array([0, 0, 0, 0, 3], np.float32),
        terminated=terminated,
        env=0,
        seed=0,
    )


def as_demo(episode, spec, sizes=(4, 6)):
    """The same episode as it would have been recorded: two low-dimensional observations, actions in the env's units."""
    parts = np.split(episode.obs, [sizes[0]], axis=1)
    low, high = np.array(spec.act_low), np.array(spec.act_high)
    action = (low + (episode.act + 1) / 2 * (high - low)).astype(np.float32)
    zeros = np.zeros(5, np.float32)
    return Demo({}, {"a": parts[0], "b": parts[1]}, action, zeros, True, False, None, "", "t", Source("", 0))


def fitted(tmp_path, spec, **settings):
    model = reward_model(as_demo(played(spec), spec), proprio=("a", "b"), **settings)
    return load_fitted(str(fitted_run(tmp_path / "fit", model)), spec, "", CPU), model


@pytest.mark.parametrize("method", ["rrd", "rd"])
def test_a_raw_reward_takes_the_place_of_the_environments(tmp_path, spec, method):
    source, model = fitted(tmp_path, spec, method=method)
    episode = played(spec)
    paid = source.closed(episode)
    np.testing.assert_allclose(paid.reward, model.rewards(as_demo(episode, spec)), rtol=1e-5)
    assert paid.obs is episode.obs


@pytest.mark.parametrize("terminated", [True, False])
def test_a_potential_difference_is_added_and_taken_back_at_the_end(tmp_path, spec, terminated):
    source, model = fitted(tmp_path, spec, method="success", gamma=0.9)
    episode = played(spec, terminated)
    phi = model.potential(as_demo(episode, spec)).astype(np.float64)
    after = phi[1:] * np.array([1, 1, 1, 1, 0 if terminated else 1])
    paid = source.closed(episode).reward
    np.testing.assert_allclose(paid, episode.reward + 0.9 * after - phi[:-1], rtol=1e-5)
    # discounted, everything but the first potential cancels, so that no policy gains by it
    discount = 0.9 ** np.arange(5)
    tail = 0 if terminated else 0.9**5 * phi[-1]
    assert discount @ paid == pytest.approx(discount @ episode.reward - phi[0] + tail, rel=1e-5)


def test_the_reward_of_another_online_run(tmp_path, spec):
    model = RewardModel(spec, (8,), 1, torch.Generator().manual_seed(0), None)
    model.save(tmp_path / "run" / "reward")
    episode = played(spec)
    obs, act = torch.from_numpy(episode.obs), torch.from_numpy(episode.act)
    source = make_method(spec, RewardConfig("model", model=str(tmp_path / "run")), torch.Generator(), None, CPU)
    assert isinstance(source, Fitted)
    assert isinstance(source, Given)
    np.testing.assert_array_equal(source.closed(episode).reward, model.predict(obs[:-1], act, obs[1:]).numpy())


def test_models_that_do_not_fit_the_environment_are_one_line(tmp_path, spec):
    demo = as_demo(played(spec), spec)

    def refused(said, model, task=""):
        with pytest.raises(UserError, match=said):
            load_fitted(str(fitted_run(tmp_path / said[:8], model)), spec, task, CPU)

    refused(r"sees 4 numbers \(a 4\), and the environment's observation has 10", reward_model(demo, proprio=("a",)))
    two = reward_model(demo, proprio=("a", "b"), tasks=("left", "right"))
    refused("knows 2 tasks: say which, --model-task 'left', 'right'", two)
    refused("was not fitted on task 'up'", two, "up")
    assert load_fitted(str(fitted_run(tmp_path / "ok", two)), spec, "right", CPU).task == "right"
    other = gym.make("CartPole-v1")
    with pytest.raises(UserError, match="observation has 4"):
        load_fitted(str(tmp_path / "ok"), spec_of(other), "left", CPU)
    with pytest.raises(UserError, match="holds no reward model"):
        load_fitted(str(tmp_path), spec, "", CPU)


def test_train_on_a_fitted_reward_and_go_on_with_it(tmp_path, spec, capsys):
    model = reward_model(as_demo(played(spec), spec), proprio=("a", "b"), method="progress")
    run = fitted_run(tmp_path / "fit", model)
    words = ["train", "--env", "Reacher-v5", "--reward", str(run), *SMALL, "--runs-dir", str(tmp_path), "--name", "r"]
    assert main(words) == 0
    config = json.loads((tmp_path / "r" / "config.json").read_text())
    assert config["reward"]["alg"] == "model"
    assert config["env_type"] == "normal"
    assert json.loads((tmp_path / "r" / "evaluations.jsonl").read_text())["audit"]["pearson"] is not None
    assert main(["evaluate", str(tmp_path / "r"), "--episodes", "1"]) == 0
    other = reward_model(as_demo(played(spec), spec), proprio=("a", "b"), method="progress", r_hidden=(9,))
    other.save(run / "reward")
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "r"), "--episodes", "1"]) == 2
    assert "another one than when this run began" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--reward"], "--reward needs the run"),
        (["--reward", "x", "--alg", "rrd"], "exclude each other"),
        (["--alg", "model"], "--reward runs/NAME says both"),
        (["--model", "x"], "--model is a setting of --reward RUN"),
        (["--reward=nowhere"], "nowhere holds no reward model"),
        (["--reward", "FIT", "--gamma", "0.9"], "was made for an agent with --gamma 0.99: take that one"),
    ],
)
def test_slips_are_one_line(tmp_path, spec, capsys, words, said):
    model = reward_model(as_demo(played(spec), spec), proprio=("a", "b"), method="progress")
    run = fitted_run(tmp_path / "fit", model)
    words = [str(run) if word == "FIT" else word for word in words]
    assert main(["train", "--env", "Reacher-v5", *SMALL, "--runs-dir", str(tmp_path / "runs"), *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
