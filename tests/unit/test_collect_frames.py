"""Who sees stacks of frames: the policy in training and in evaluations, the learned reward, the one who films."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from apportion.agents import DQN
from apportion.agents.base import Noise
from apportion.config import DQNConfig, OnlineConfig, RewardConfig, SACConfig
from apportion.envs.collect import Collector
from apportion.envs.make import make_one, make_vector, spec_of
from apportion.rewards import Decomposition, model
from apportion.rng import Streams
from apportion.train import environments, evaluate
from apportion.train.evaluate import Evaluator, Slips, Trace, learned_rewards
from apportion.train.session import Policy, make_policy
from apportion.types import Spec
from frames_for_tests import made, played

CPU = torch.device("cpu")
DOTS = OnlineConfig("frames_for_tests:Dots", agent=DQNConfig(test_eps=0.5))
K = 3


@pytest.fixture(autouse=True)
def three_frames(monkeypatch):
    monkeypatch.setattr(environments, "frames_of", lambda env, atari: K)


class Watcher(DQN):
    """Remembers what it was shown, and takes action 1."""

    def __init__(self):
        super().__init__(Spec((12, 12), "uint8", "discrete", 3, frames=K), DQNConfig(), torch.Generator(), None, CPU)
        self.shown: list[np.ndarray] = []

    def act(self, obs: torch.Tensor, noise: Noise | None, step: int) -> torch.Tensor:
        self.shown.append(obs.numpy().copy())
        return torch.ones(len(obs), dtype=torch.int64)


def test_the_collector_shows_stacks_and_keeps_each_frame_once():
    envs = make_vector(DOTS.env, 2, "sync", True)
    collector, agent = Collector(envs, spec_of(envs, frames=K), Streams(0)), Watcher()
    closed = [e for _ in range(60) for e in collector.step(lambda x: agent.act(torch.from_numpy(x), None, 0).numpy())]
    assert len(closed) > 8
    for i in range(2):
        mine = [e for e in closed if e.env == i]
        assert all(
            e.obs.shape == (e.length + 1, 12, 12) and e.obs[:, 0, 0].tolist() == [*range(e.length + 1)] for e in mine
        )
        expected = [view for e in mine for view in played(e.obs, K)[:-1]]  # nobody is shown the last one
        for view, shown in zip(expected, agent.shown, strict=False):
            np.testing.assert_array_equal(shown[i], view)


def test_an_open_episode_that_is_taken_up_shows_the_same_stacks():
    one, other = (
        Collector(envs, spec_of(envs, frames=K), Streams(1), pytest.fail)
        for envs in (make_vector(DOTS.env, 2, "sync", True) for _ in range(2))
    )
    watch = [Watcher(), Watcher()]
    for _ in range(3):
        one.step(lambda x: watch[0].act(torch.from_numpy(x), None, 0).numpy())
    other.streams.load_state(one.streams.state())
    assert other.load_state(one.state())
    watch[0].shown.clear()
    for _ in range(20):
        for collector, agent in zip((one, other), watch, strict=True):
            collector.step(lambda x, agent=agent: agent.act(torch.from_numpy(x), None, 0).numpy())
    assert np.array_equal(np.stack(watch[0].shown), np.stack(watch[1].shown))


def evaluator(config: OnlineConfig, episodes: int = 3) -> Evaluator:
    spec = spec_of(make_one(config.env, False), frames=K)
    return Evaluator(config, spec, episodes, seed=5)


def test_an_evaluation_shows_stacks_of_each_episode_and_its_traces_hold_single_frames():
    agent = Watcher()
    traces = evaluator(DOTS).rollouts(agent, CPU)
    views = [played(t.obs, K) for t in traces]
    for t, shown in enumerate(agent.shown):
        active = [i for i, trace in enumerate(traces) if t < len(trace.act)]
        np.testing.assert_array_equal(shown, np.stack([views[i][t] for i in active]))


def test_slips_are_the_same_in_each_evaluation_and_an_episodes_own():
    first, again = (evaluator(DOTS).rollouts(Watcher(), CPU) for _ in range(2))
    assert [t.act.tolist() for t in first] == [t.act.tolist() for t in again]
    assert {a for t in first for a in t.act.tolist()} == {0, 1, 2}
    (alone,) = evaluator(DOTS, episodes=1).rollouts(Watcher(), CPU)
    assert alone.act.tolist() == first[0].act.tolist()  # nobody else's length shifts them


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.0), (0.3, 0.2), (1.0, 2 / 3)])
def test_a_share_of_actions_is_drawn_from_all_of_them(share, expected):
    """With three actions, a third of the random ones is the policy's own."""
    spec = Spec((1,), "float32", "discrete", 3)
    slips = Slips(replace(DOTS, agent=DQNConfig(test_eps=share)), spec, 0, 4)
    acts = np.stack([slips(np.ones(4, np.int64), [0, 1, 2, 3]) for _ in range(5000)])
    assert acts.dtype == np.int64 and set(acts.ravel().tolist()) <= {0, 1, 2}
    assert abs((acts != 1).mean() - expected) < 4 * np.sqrt(0.25 / acts.size)


def test_only_a_dqn_slips():
    act = np.full((2, 1), 0.5, np.float32)
    assert Slips(replace(DOTS, agent=SACConfig()), Spec((1,), "float32", "box", 1), 0, 2)(act, [0, 1]) is act


def rewarded() -> Policy:
    config = replace(DOTS, reward=RewardConfig(rrd_batch_size=4, rrd_sample_size=2))
    return make_policy(config, Spec((12, 12), "uint8", "discrete", 4, frames=K), Streams(0))


def test_the_learned_reward_of_a_long_trace_is_asked_for_in_parts(monkeypatch):
    method = rewarded().method
    assert isinstance(method, Decomposition)
    obs = np.random.default_rng(0).integers(256, size=(24, 12, 12), dtype=np.uint8)
    trace = Trace(obs, np.arange(23) % 4, np.zeros(23))
    views = torch.from_numpy(np.stack(played(obs, K)))
    with torch.no_grad():
        expected = method.model.predict(views[:-1], torch.from_numpy(trace.act), views[1:]).numpy()
    sizes, predict = [], method.model.predict
    monkeypatch.setattr(method.model, "predict", lambda o, a, n: sizes.append(len(o)) or predict(o, a, n))
    monkeypatch.setattr(model, "PIECE", 10)
    (learned,) = learned_rewards(method, [trace]) or []
    assert sizes == [10, 10, 3]
    np.testing.assert_allclose(learned, expected, rtol=1e-4, atol=1e-6)


def test_the_film_is_of_the_episode_that_the_evaluation_plays():
    agent, played_again = Watcher(), Watcher()
    (trace,) = evaluator(DOTS, episodes=1).rollouts(agent, CPU)
    policy = replace(rewarded(), config=DOTS, agent=played_again)
    pictures = list(evaluate._frames(make_one(DOTS.env, False, render_mode="rgb_array"), policy, 5, [], []))
    assert [int(p[0, 0, 0]) for p in pictures] == list(range(len(trace.act)))
    assert np.array_equal(np.stack(agent.shown), np.stack(played_again.shown))


def test_best_episodes_of_frames_are_kept_once():
    from apportion.store.sample import BestEpisodes
    from frames_for_tests import SPEC

    best = BestEpisodes(SPEC, count=2)
    for number, length in enumerate((3, 5, 2, 6)):  # the return grows with the length
        best.offer(made(number, length))
    assert [best.store.episode(i).length for i in range(2)] == [5, 6]
    assert best.store.obs.shape == (6 + 7, 3, 3)
