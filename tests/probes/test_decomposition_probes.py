"""The hidden per-step reward is known here: a decomposition must find it from returns alone."""

import numpy as np
import pytest
import torch

from apportion.config import RewardConfig
from apportion.rewards import make_method
from apportion.rng import Streams
from apportion.stats import pearson
from apportion.store.episodes import EpisodeStore
from apportion.types import Episode, Spec

SPEC = Spec((3,), "float32", "box", 1, (-1.0,), (1.0,))


def hidden_reward(obs: np.ndarray, act: np.ndarray) -> np.ndarray:
    return obs[:, 0] + 0.5 * np.abs(obs[:, 1]) - act[:, 0] ** 2


def episodes(count: int, rng: np.random.Generator, independent: bool = False):
    """Episodes of 5 to 40 random steps; nothing but the returns says which step was good.

    Observations move slowly, as in control tasks, or are `independent` from step to step.
    """
    for _ in range(count):
        length = int(rng.integers(5, 41))
        noise = rng.normal(size=(length + 1, 3))
        obs = (noise if independent else rng.normal(size=3) + np.cumsum(0.2 * noise, axis=0)).astype(np.float32)
        act = np.clip(rng.uniform(-1, 1) + 0.5 * rng.normal(size=(length, 1)), -1, 1).astype(np.float32)
        reward = hidden_reward(obs[:-1], act)
        shown = np.zeros(length, np.float32)
        shown[-1] = reward.sum()  # the learner is shown the return alone
        yield Episode(obs, act, shown, False, 0, 0), reward


def fit(config: RewardConfig, updates: int, independent: bool = False):
    rng, streams = np.random.default_rng(0), Streams(0)
    store = EpisodeStore(60_000, SPEC)
    method = make_method(SPEC, config, streams.torch_generator("init"), None, torch.device("cpu"))
    for episode, _ in episodes(1500, rng, independent):
        store.add(episode)
        method.closed(episode)
    for _ in range(updates):
        _, subsets = next(iter(method.draws(store, 1, 8, 0.99, streams)))
        method.learn(subsets)
    return method, store


def within_episode_correlation(method, independent: bool = False) -> float:
    """On fresh episodes."""
    found = []
    for episode, reward in episodes(30, np.random.default_rng(1), independent):
        obs, act = torch.from_numpy(episode.obs), torch.from_numpy(episode.act)
        found.append(pearson(reward, method.model.predict(obs[:-1], act, obs[1:]).numpy()))
    return float(np.mean(found))


BASE = {"r_hidden": (64, 64), "r_lr": 2e-3, "rrd_batch_size": 256, "rrd_sample_size": 16}


def test_rd_recovers_the_hidden_reward():
    method, _ = fit(RewardConfig(alg="rd", **BASE), 1500, independent=True)
    assert within_episode_correlation(method, independent=True) > 0.99


@pytest.mark.parametrize("bias_correction", [False, True])
@pytest.mark.parametrize("target", ["mean", "sum"])
def test_rrd_recovers_the_hidden_reward(bias_correction, target):
    config = RewardConfig(alg="rrd", rrd_bias_correction=bias_correction, target=target, **BASE)
    method, _ = fit(config, 1500)
    assert within_episode_correlation(method) > 0.95


@pytest.mark.long
def test_variance_penalty_shares_rewards_with_the_next_step_and_the_correction_does_not():
    # independent observations: r(s) and r(s') have nearly the same sum, and their average varies less within a subset
    plain, _ = fit(RewardConfig(alg="rrd", **BASE), 1500, independent=True)
    corrected, _ = fit(RewardConfig(alg="rrd", rrd_bias_correction=True, **BASE), 1500, independent=True)
    assert (
        within_episode_correlation(corrected, independent=True)
        > within_episode_correlation(plain, independent=True) + 0.1
    )


@pytest.mark.long
def test_ensemble_running_scale_and_uniform_episodes_recover_it_too():
    config = RewardConfig(alg="rrd", rrd_ensemble=3, reward_scale="running", episode_sampling="uniform", **BASE)
    method, _ = fit(config, 1500)
    assert within_episode_correlation(method) > 0.95


def test_return_correction_makes_stored_episodes_add_up_to_their_return():
    """Exactly so right after a pass over the store (at update 256), and for an episode that has just closed."""
    streams, store = Streams(0), EpisodeStore(2000, SPEC)
    config = RewardConfig(alg="rrd", return_correction=True, **BASE)
    method = make_method(SPEC, config, streams.torch_generator("init"), None, torch.device("cpu"))
    made = [episode for episode, _ in episodes(20, np.random.default_rng(0))]
    for episode in made[:-1]:
        store.add(episode)
        method.closed(episode)
    for _ in range(256):
        _, subsets = next(iter(method.draws(store, 1, 8, 0.99, streams)))
        method.learn(subsets)
    store.add(made[-1])
    method.closed(made[-1])
    batch, _ = next(
        iter(method.draws(store, 1, 30_000, 0.99, streams))
    )  # every one of some 450 transitions, many times over
    seen = {
        (int(e), o.numpy().tobytes()): float(r) for e, o, r in zip(batch.episode, batch.obs, method(batch), strict=True)
    }
    for number, episode in enumerate(made):
        rewards = [r for (e, _), r in seen.items() if e == number]
        assert len(rewards) == episode.length
        assert sum(rewards) == pytest.approx(episode.episode_return, abs=1e-3)
