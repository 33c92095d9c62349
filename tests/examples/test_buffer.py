"""The replay buffer for anybody's agent, alone: what goes in, what comes out, what goes on after a save."""

import warnings

import jaxtyping
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from apportion.buffer import DecompositionBuffer
from apportion.config import RewardConfig
from apportion.envs.make import spec_of
from apportion.types import Spec, UserError
from envs_for_tests import Countdown

SPEC = Spec((1,), "float32", "box", 1, (-2.0,), (4.0,))
SMALL = RewardConfig("rrd", rrd_batch_size=8, rrd_sample_size=4, r_hidden=(8,))


def played(buffer, episodes, reward=lambda t, act, last: float(t), seed=0, terminated=True):
    """`episodes` of 6 steps in one environment: observation 100 * episode + t, actions from `seed`."""
    rng = np.random.default_rng(seed)
    for episode in range(episodes):
        for t in range(6):
            act, last = rng.uniform(-2, 4), t == 5
            obs = 100 * episode + t
            buffer.add([obs], [act], reward(t, act, last), last and terminated, last and not terminated, [obs + 1])
    return buffer


def same(a, b):
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


def test_only_closed_episodes_are_sampled():
    buffer = DecompositionBuffer(SPEC, "none", num_envs=2)
    for t in range(3):
        closed = buffer.add([[t], [100 + t]], [[0], [0]], [1, 1], [t == 2, False], [False, False], [[t + 1], [101 + t]])
        assert len(closed) == (t == 2) and buffer.ready == (t == 2)
    assert len(buffer) == 3
    batch = buffer.sample(200)
    assert set(batch.obs[:, 0].tolist()) == {0, 1, 2}
    assert torch.equal(batch.next_obs, batch.obs + 1)
    assert set(batch.episode_return.tolist()) == {3.0} and set(batch.length.tolist()) == {3}


def test_a_real_vector_environment_gives_whole_episodes():
    envs = SyncVectorEnv([Countdown] * 3, autoreset_mode=AutoresetMode.SAME_STEP)
    buffer = DecompositionBuffer(spec_of(envs), "none", num_envs=3)
    obs, _ = envs.reset(seed=0)
    closed = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            act = envs.action_space.sample()
            next_obs, reward, terminated, truncated, infos = envs.step(act)
            last = next_obs.copy()
            for i in np.flatnonzero(terminated):
                last[i] = infos["final_obs"][i]
            closed += buffer.add(obs, act, reward, terminated, truncated, last)
            obs = next_obs
    assert len(closed) > 15 and {e.env for e in closed} == {0, 1, 2}
    for episode in closed:  # Countdown: observation [start, t], reward t, ends at t = start
        start = int(episode.obs[0, 0])
        assert episode.obs[:, 1].tolist() == list(range(start + 1)) and episode.length == start
        assert episode.episode_return == start * (start + 1) / 2 and episode.terminated


def test_a_truncation_keeps_the_discount_and_a_termination_ends_it():
    for terminated in (True, False):
        batch = played(DecompositionBuffer(SPEC, "none", gamma=0.9), 3, terminated=terminated).sample(300)
        last = batch.obs[:, 0] % 100 == 5
        assert last.any() and not last.all()
        assert batch.discount[~last].unique().tolist() == pytest.approx([0.9])
        assert batch.discount[last].unique().tolist() == pytest.approx([0.0 if terminated else 0.9])


def test_rewards_at_each_step_or_all_at_the_end_teach_the_same():
    dense = played(DecompositionBuffer(SPEC, SMALL, seed=3), 5)
    late = played(DecompositionBuffer(SPEC, SMALL, seed=3), 5, lambda t, act, last: 15.0 if last else 0.0)
    for _ in range(5):
        one, other = dense.sample(16), late.sample(16)
        assert same(one, other)
    assert one.reward.std() > 0 and dense.metrics == late.metrics


def test_the_rewards_are_what_the_network_says_now():
    buffer = played(DecompositionBuffer(SPEC, SMALL), 5)
    before = [p.clone() for p in buffer.method.model.parameters()]
    batch = buffer.sample(16)
    assert all(not torch.equal(old, new) for old, new in zip(before, buffer.method.model.parameters(), strict=True))
    told = buffer.method.model.reward(batch.obs.numpy(), batch.act.numpy(), batch.next_obs.numpy())
    np.testing.assert_allclose(batch.reward.numpy(), told, atol=1e-5)
    assert set(buffer.metrics) == {"R_loss", "R_var", "R_rmse"}


def test_uniform_and_guidance_rewards_by_hand():
    # returns 15, 115, 215 over six steps each
    def pay(t, act, last):
        return float(t)

    for method, wanted in (("uniform", {2.5, 2.5 + 100 / 6, 2.5 + 200 / 6}), ("ircr", {0.0, 0.5, 1.0})):
        buffer = DecompositionBuffer(SPEC, method)
        for episode in range(3):
            for t in range(6):
                paid = pay(t, 0, False) + (100 * episode if t == 5 else 0)
                buffer.add([10 * episode + t], [0.0], paid, t == 5, False, [10 * episode + t + 1])
        found = buffer.sample(200).reward.unique().tolist()
        assert found == pytest.approx(sorted(wanted))


def test_actions_come_back_in_the_environments_units():
    buffer = played(DecompositionBuffer(SPEC, "none"), 2)
    stored = buffer.store.episode(0).act[:, 0]
    drawn = np.random.default_rng(0).uniform(-2, 4, 6)
    np.testing.assert_allclose(stored, (drawn - 1) / 3, atol=1e-6)
    batch = buffer.sample(100)
    first = batch.obs[:, 0] < 100
    np.testing.assert_allclose(batch.act[first, 0], drawn[batch.obs[first, 0].int()], atol=1e-5)
    unit = DecompositionBuffer(SPEC, "none", actions="unit")
    unit.add([0], [0.25], 0.0, True, False, [1])
    assert unit.sample(1).act.tolist() == [[0.25]]


def test_integers_keep_the_environments_names():
    buffer = DecompositionBuffer(Spec((1,), "float32", "discrete", 3, act_start=5), "none")
    for t in range(3):
        buffer.add([t], 5 + t, 0.0, t == 2, False, [t + 1])
    assert buffer.store.episode(0).act.tolist() == [0, 1, 2]
    batch = buffer.sample(50)
    assert torch.equal(batch.act, 5 + batch.obs[:, 0].long())


@pytest.mark.parametrize("method", [SMALL, RewardConfig("rd", return_correction=True, r_hidden=(8,)), "ircr", "none"])
def test_a_saved_buffer_goes_on_as_if_it_had_never_been_saved(method, tmp_path):
    one, other = (DecompositionBuffer(SPEC, method, seed=seed) for seed in (1, 2))
    played(one, 4)
    for t in range(2):  # an open episode
        one.add([t], [0.1], 1.0, False, False, [t + 1])
    for _ in range(3):
        one.sample(8)
    one.save(tmp_path / "buffer")
    other.load(tmp_path / "buffer")
    for buffer in (one, other):
        [closed] = buffer.add([2], [0.2], 1.0, True, False, [3])
        assert closed.length == 3 and closed.episode_return == 3.0
    for _ in range(5):
        assert same(one.sample(8), other.sample(8))
    assert len(one) == len(other) == 27


def test_another_methods_state_is_refused_in_one_line(tmp_path):
    played(DecompositionBuffer(SPEC, "ircr"), 1).save(tmp_path / "buffer")
    for buffer in (DecompositionBuffer(SPEC, "rrd"), DecompositionBuffer(SPEC, "ircr", num_envs=2)):
        with pytest.raises(UserError, match=r"a buffer with another (method: ircr, here rrd|num_envs: 1, here 2)"):
            buffer.load(tmp_path / "buffer")
    DecompositionBuffer(SPEC, RewardConfig("rrd")).save(tmp_path / "buffer")
    with pytest.raises(
        UserError, match=r"another method: rrd_sample_size 64, here 32, rrd_bias_correction False, here True$"
    ):
        other = RewardConfig("rrd", rrd_sample_size=32, rrd_bias_correction=True)
        DecompositionBuffer(SPEC, other).load(tmp_path / "buffer")
    (tmp_path / "buffer").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be loaded into this buffer: ValueError"):
        DecompositionBuffer(SPEC, "ircr").load(tmp_path / "buffer")


def test_it_learns_which_step_paid():
    """The reward of a step is its action's square; returns alone are told."""
    config = RewardConfig("rrd", rrd_batch_size=96, rrd_sample_size=3, r_hidden=(32,), r_lr=5e-3)
    buffer, rng = DecompositionBuffer(SPEC, config), np.random.default_rng(0)
    for _ in range(300):
        acts = rng.uniform(-2, 4, 6)
        for t, act in enumerate(acts):  # the observation, the time, says nothing about it
            buffer.add([t / 6], [act], (acts**2).sum() if t == 5 else 0.0, t == 5, False, [(t + 1) / 6])
    for _ in range(400):
        batch = buffer.sample(256)
    assert np.corrcoef(batch.reward, batch.act[:, 0] ** 2)[0, 1] > 0.9


def test_forgetting_leaves_what_was_learned():
    buffer = played(DecompositionBuffer(SPEC, SMALL), 3)
    buffer.sample(8)
    weights = [p.clone() for p in buffer.method.model.parameters()]
    buffer.forget()
    assert len(buffer) == 0 and not buffer.ready
    assert all(torch.equal(a, b) for a, b in zip(weights, buffer.method.model.parameters(), strict=True))
    played(buffer, 1)
    assert set(buffer.sample(50).obs[:, 0].tolist()) == set(range(6))


def test_sampling_too_early_says_what_to_do():
    buffer = DecompositionBuffer(SPEC, "rrd")
    buffer.add([0], [0.0], 0.0, False, False, [1])
    with pytest.raises(
        UserError, match=r"no episode has ended yet \(the longest open one has 1 steps\).*learning_starts"
    ):
        buffer.sample(4)


def test_an_episode_that_does_not_go_on_is_dropped_with_one_warning():
    buffer = DecompositionBuffer(SPEC, "none")
    buffer.add([0], [0.0], 1.0, False, False, [1])
    with pytest.warns(
        UserWarning, match="environment 0: obs is not the next_obs .* open episode of 1 steps is dropped"
    ):
        buffer.add([50], [0.0], 1.0, False, False, [51])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        buffer.add([70], [0.0], 1.0, True, False, [71])
    assert [buffer.store.episode(i).obs.ravel().tolist() for i in range(buffer.store.n_episodes)] == [[70, 71]]


def test_the_first_observation_of_the_next_episode_as_last_one_is_noticed():
    buffer = DecompositionBuffer(SPEC, "none")
    buffer.add([0], [0.0], 1.0, True, False, [30])
    with pytest.warns(
        UserWarning, match="environment 0 begins an episode with the observation that the one before end"
    ):
        buffer.add([30], [0.0], 1.0, False, False, [31])
    constant = DecompositionBuffer(SPEC, "none")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            constant.add([0], [0.0], 1.0, True, False, [0])


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (([np.nan], [0.0], 0.0, False, False, [1]), "obs of environment 0 is not finite, at step 1"),
        (([0], [0.0], np.inf, False, False, [1]), "reward of environment 0 is not finite"),
        (([0], [np.nan], 0.0, False, False, [1]), "act of environment 0 is not finite"),
        (([0, 1], [0.0], 0.0, False, False, [1]), r"obs has shape \(2,\), expected \(1, 1\)"),
    ],
)
def test_a_slip_at_adding_is_one_line(step, said):
    with pytest.raises(UserError, match=said) as error:
        DecompositionBuffer(SPEC, "rrd").add(*step)
    assert "\n" not in str(error.value)


def test_an_unknown_method_names_the_known_ones():
    with pytest.raises(UserError, match="method 'rdd': choose from rrd, rd, ircr, uniform, none, model"):
        DecompositionBuffer(SPEC, "rdd")
    with pytest.raises(UserError, match="give RewardConfig"):
        DecompositionBuffer(SPEC, "model")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"missing/buffer cannot be written: No such file or directory$"):
        DecompositionBuffer(SPEC).save(tmp_path / "missing" / "buffer")


@pytest.mark.parametrize("act", [[7], [-1], [1.7]])
def test_an_action_that_there_is_not_is_one_line(act):
    buffer = DecompositionBuffer(Spec((1,), "float32", "discrete", 3), "rrd")
    with pytest.raises(UserError, match=r"expected whole numbers from 0 to 2"):
        buffer.add([0], act, 0.0, False, False, [1])


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: DecompositionBuffer(SPEC, "rrd", num_envs=0), "one environment at least"),
        (lambda: DecompositionBuffer(SPEC, seed=None), "seed=None: a whole number"),  # type: ignore[arg-type]
        (lambda: DecompositionBuffer(SPEC, seed=-1), "seed=-1: a whole number"),
        (lambda: DecompositionBuffer(SPEC, gamma=2.0), r"gamma=2\.0: a discount"),
        (lambda: DecompositionBuffer(SPEC, None), "method None: give a name"),  # type: ignore[arg-type]
        (
            lambda: DecompositionBuffer(SPEC, "rrd").add([0], [0.0, 1.0], 0.0, False, False, [1]),
            r"act has shape \(2,\)",
        ),
        (lambda: played(DecompositionBuffer(SPEC, "rrd"), 1).sample(0), "1 transition at least"),
        (lambda: DecompositionBuffer(SPEC, "rrd", capacity=10**14), "give a smaller capacity"),
        (lambda: played(DecompositionBuffer(SPEC, "ircr"), 1).sample(1), "2 transitions at least"),
    ],
)
def test_a_slip_is_one_line(call, said, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # outside of tests nobody else looks
    with pytest.raises(UserError, match=said) as error:
        call()
    assert "\n" not in str(error.value)


def test_an_open_episode_is_dropped_on_request():
    """Where a reset shows what the episode stood at, nobody else can tell."""
    buffer = DecompositionBuffer(SPEC, "none")
    buffer.add([0], [0.0], 1.0, False, False, [0])
    buffer.drop_open()
    (episode,) = buffer.add([0], [0.0], 1.0, True, False, [0])
    assert episode.length == 1


def test_a_state_that_does_not_fit_changes_nothing(tmp_path):
    other = played(DecompositionBuffer(SPEC, RewardConfig("rrd", r_hidden=(8,)), seed=3), 2)
    state = {**other.state(), "about": (buffer := DecompositionBuffer(SPEC, SMALL)).state()["about"]}
    state["method"] = DecompositionBuffer(SPEC, RewardConfig("rrd", r_hidden=(9,))).state()["method"]
    with pytest.raises(RuntimeError):
        buffer.load_state(state)
    assert len(buffer) == 0 and buffer.streams.seed == 0
