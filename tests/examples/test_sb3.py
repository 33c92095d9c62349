"""Somebody else's agents on learned rewards: the real stable-baselines3 and sb3-contrib."""

import importlib
import sys
import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from sb3_contrib import TQC
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from apportion.config import RewardConfig
from apportion.envs.episodic import EpisodicReward
from apportion.sb3 import DecompositionReplayBuffer
from apportion.types import UserError
from envs_for_tests import Countdown, DictObservation, WalkOfSeven

SMALL = RewardConfig("rrd", rrd_batch_size=8, rrd_sample_size=4, r_hidden=(8,))
METHODS = {
    "rrd": SMALL,
    "rrd-lrd": RewardConfig("rrd", rrd_batch_size=8, rrd_sample_size=4, r_hidden=(8,), rrd_bias_correction=True),
    "rd": RewardConfig("rd", rrd_batch_size=8, rrd_sample_size=4, r_hidden=(8,)),
    "ircr": "ircr",
    "uniform": "uniform",
    "none": "none",
}


class Choices(WalkOfSeven):
    """Two actions instead of a box."""

    action_space = spaces.Discrete(2)


class Film(Countdown):
    """36 x 36 grey images, whose first pixels count."""

    observation_space = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    action_space = spaces.Discrete(2)

    def _obs(self):
        image = np.zeros((36, 36, 1), np.uint8)
        image[0, :2, 0] = self.start, self.t
        return image


def episodic(env_class):
    env = env_class()
    return EpisodicReward(TimeLimit(env, 7) if env_class in (WalkOfSeven, Choices) else env)


def made(agent, env_class, method="rrd", n_envs=1, starts=20, **more):
    """An agent with small networks on `n_envs` environments that pay at the end of an episode."""
    envs = DummyVecEnv([lambda: episodic(env_class)] * n_envs)
    return agent(
        more.pop("policy", "MlpPolicy"),
        more.pop("wrapped", lambda e: e)(envs),
        learning_starts=starts,
        batch_size=8,
        buffer_size=500,
        policy_kwargs={"net_arch": [8]},
        seed=0,
        device="cpu",
        replay_buffer_class=DecompositionReplayBuffer,
        replay_buffer_kwargs={"method": method, "seed": 5, **more.pop("buffer", {})},
        **more,
    )


def stored(model):
    store = model.replay_buffer.core.store
    return [store.episode(number) for number in range(store.first_id, store.next_id)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("agent", [SAC, TD3, DDPG, TQC, DQN])
def test_every_agent_takes_steps_with_every_method(agent, method):
    more = {"train_freq": 1} if agent is DQN else {}
    model = made(agent, Choices if agent is DQN else WalkOfSeven, METHODS[method], **more)
    net = model.q_net if agent is DQN else model.critic
    before = [p.clone() for p in net.parameters()]
    model.learn(26)
    assert model._n_updates == 6 and len(stored(model)) == 3
    assert any(not torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    metrics = model.replay_buffer.core.metrics
    assert all(np.isfinite(value) for value in metrics.values())
    assert ("R_loss" in metrics) == method.startswith("r")


@pytest.mark.parametrize(("agent", "env_class"), [(SAC, WalkOfSeven), (DQN, Choices)])
def test_the_sampled_rewards_are_what_the_model_says(agent, env_class):
    model = made(agent, env_class, SMALL)
    model.learn(40)
    batch = model.replay_buffer.sample(32)
    act = batch.actions[:, 0] if agent is DQN else batch.actions
    told = model.replay_buffer.core.method.model.predict(batch.observations, act, batch.next_observations)
    assert torch.equal(batch.rewards, told[:, None]) and batch.rewards.std() > 0
    low, high = (np.array([[-2, 0], [2, 10]])) if agent is SAC else (None, None)
    if agent is SAC:  # a model that leaves takes the environment's own units
        act = low + (batch.actions.numpy() + 1) / 2 * (high - low)
        own = model.replay_buffer.core.method.model.reward(
            batch.observations.numpy(), act, batch.next_observations.numpy()
        )
        np.testing.assert_allclose(own, told, atol=1e-5)


def test_uniform_rewards_add_up_to_each_episodes_return():
    model = made(SAC, Countdown, "uniform", n_envs=3)
    model.learn(60)
    batch = model.replay_buffer.sample(500)
    start = batch.observations[:, 0]  # Countdown: T = start, R = start (start + 1) / 2
    assert len(start.unique()) > 3
    torch.testing.assert_close(batch.rewards[:, 0], (start + 1) / 2)


def test_several_environments_give_whole_episodes_with_their_last_observation():
    model = made(TD3, Countdown, SMALL, n_envs=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(120)
    episodes = stored(model)
    assert len(episodes) > 12 and {e.env for e in episodes} == {0, 1, 2}
    for episode in episodes:
        start = int(episode.obs[0, 0])
        assert episode.obs[:, 1].tolist() == list(range(start + 1)) and episode.terminated
        assert episode.episode_return == start * (start + 1) / 2


@pytest.mark.parametrize("handled", [True, False])
@pytest.mark.parametrize("env_class", [Countdown, WalkOfSeven])
def test_dones_are_those_of_their_own_buffer(env_class, handled):
    """Both buffers see the same steps; every transition of ours has its like in theirs, `dones` and all."""
    model = made(SAC, env_class, "none", n_envs=2, starts=1000, buffer={"handle_timeout_termination": handled})
    theirs = ReplayBuffer(
        500, model.observation_space, model.action_space, "cpu", 2, handle_timeout_termination=handled
    )
    ours, add = model.replay_buffer, model.replay_buffer.add

    def both(*step):
        theirs.add(*step)
        add(*step)

    ours.add = both
    model.learn(80)
    wanted = {}
    for t in range(theirs.pos):
        for i in range(2):
            key = (*theirs.observations[t, i].astype(np.float32), *theirs.actions[t, i])
            wanted[key] = (
                theirs.dones[t, i] * (1 - theirs.timeouts[t, i]),
                theirs.rewards[t, i],
                *theirs.next_observations[t, i].astype(np.float32),
            )
    batch = ours.sample(400)
    rows = torch.cat([batch.observations, batch.actions], 1).numpy()
    found = torch.cat([batch.dones, batch.rewards, batch.next_observations], 1).numpy()
    for row, values in zip(rows, found, strict=True):
        np.testing.assert_array_equal(np.float32(wanted[tuple(row)]), values)
    ended = batch.dones.mean().item()
    assert (0 < ended < 1) == (env_class is Countdown or not handled)


@pytest.mark.parametrize("method", ["rrd", "ircr"])
def test_their_save_and_load_go_on_identically(method, tmp_path):
    model = made(SAC, WalkOfSeven, METHODS[method], n_envs=2)
    model.learn(60)
    model.save_replay_buffer(tmp_path / "buffer")
    assert (tmp_path / "buffer.pkl").stat().st_size < 60_000  # what is in it, not what would fit
    other = made(SAC, WalkOfSeven, METHODS[method], n_envs=2)
    other.load_replay_buffer(tmp_path / "buffer")
    step = (np.zeros((2, 2)), np.ones((2, 2)), np.zeros((2, 2)), np.ones(2), np.array([True, True]), [{}, {}])
    for buffer in (model.replay_buffer, other.replay_buffer):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the open episodes do not go on
            buffer.add(*step)  # a loaded buffer samples what is added to it
        assert buffer.size() == 58 and buffer.core.store.episode(buffer.core.store.next_id - 1).obs.tolist() == [
            [0, 0],
            [1, 1],
        ]
    for _ in range(5):
        one, same = model.replay_buffer.sample(8), other.replay_buffer.sample(8)
        assert all(torch.equal(a, b) for a, b in zip(one[:5], same[:5], strict=True))
    other.learn(30)


def test_a_saved_buffer_for_another_number_of_environments_is_refused_at_its_first_step(tmp_path):
    one, two = made(SAC, WalkOfSeven, SMALL), made(SAC, WalkOfSeven, SMALL, n_envs=2)
    one.learn(30)
    one.save_replay_buffer(tmp_path / "buffer")
    two.load_replay_buffer(tmp_path / "buffer")
    with pytest.raises(UserError, match="as many environments and the same spaces"):
        two.learn(30)


def test_its_own_file_holds_no_pickle(tmp_path):
    model, other = (made(SAC, WalkOfSeven, SMALL) for _ in range(2))
    model.learn(30)
    model.replay_buffer.core.save(tmp_path / "buffer")
    other.replay_buffer.core.load(tmp_path / "buffer")
    for one, same in zip(model.replay_buffer.sample(8)[:5], other.replay_buffer.sample(8)[:5], strict=True):
        assert torch.equal(one, same)


def test_a_normalising_vector_normalises_what_is_sampled_and_not_what_is_kept(tmp_path):
    model = made(SAC, WalkOfSeven, SMALL, wrapped=lambda envs: VecNormalize(envs, clip_obs=3.0))
    model.learn(40)
    norm, episodes = model.get_vec_normalize_env(), stored(model)
    kept = np.concatenate([e.obs[:-1] for e in episodes])
    assert kept[:, 1].max() == 6  # the seventh step begins in it
    model.replay_buffer.core.save(tmp_path / "buffer")
    seen = model.replay_buffer.sample(64, env=norm)
    model.replay_buffer.core.load(tmp_path / "buffer")
    raw = model.replay_buffer.sample(64)
    np.testing.assert_allclose(seen.observations, norm.normalize_obs(raw.observations.numpy()), rtol=1e-6)
    np.testing.assert_allclose(seen.rewards, norm.normalize_reward(raw.rewards.numpy()), rtol=1e-5)
    assert torch.equal(seen.dones, raw.dones) and not torch.equal(seen.observations, raw.observations)


def test_images_come_back_as_their_convolutions_take_them():
    model = made(DQN, Film, "uniform", policy="CnnPolicy", train_freq=4)
    model.learn(40)
    batch = model.replay_buffer.sample(32)
    assert batch.observations.shape == (32, 1, 36, 36) and batch.observations.dtype == torch.uint8
    now, then = batch.observations[:, 0, 0, :2].float(), batch.next_observations[:, 0, 0, :2].float()
    assert torch.equal(then - now, torch.tensor([[0.0, 1.0]]).expand(32, 2))
    torch.testing.assert_close(batch.rewards[:, 0], (now[:, 0] + 1) / 2)
    assert model.replay_buffer.core.spec.obs_shape == (36, 36, 1)


def test_a_second_call_of_learn_begins_new_episodes():
    model = made(SAC, WalkOfSeven, "none", starts=1000)
    model.learn(10)
    with pytest.warns(UserWarning, match="open episode of 3 steps is dropped"):
        model.learn(10)
    assert [e.length for e in stored(model)] == [7, 7] and len(model.replay_buffer.core) == model.replay_buffer.size()


def test_learning_before_the_first_episode_ends_names_learning_starts():
    with pytest.raises(UserError, match=r"no episode has ended yet .* learning_starts") as error:
        made(SAC, WalkOfSeven, starts=3).learn(20)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: made(SAC, WalkOfSeven, "best"), "method 'best': choose from rrd"),
        (lambda: made(SAC, WalkOfSeven, optimize_memory_usage=True), "leave optimize_memory_usage out"),
        (lambda: made(SAC, DictObservation, policy="MultiInputPolicy"), "only Box is supported"),
    ],
)
def test_a_slip_is_one_line(make, said):
    with pytest.raises(UserError, match=said) as error:
        make()
    assert "\n" not in str(error.value)


def test_without_the_package_the_install_line_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3.common.buffers", None)
    monkeypatch.delitem(sys.modules, "apportion.sb3")
    with pytest.raises(UserError, match=r"pip install 'apportion\[sb3\]'"):
        importlib.import_module("apportion.sb3")
