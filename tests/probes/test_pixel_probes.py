"""A dot that moves over a small image, and pays by where it is: RRD must find that from returns alone."""

import numpy as np
import pytest
import torch

from apportion.config import RewardConfig
from apportion.rewards import make_method
from apportion.rng import Streams
from apportion.stats import pearson
from apportion.store.episodes import EpisodeStore
from apportion.types import Episode, Spec

SIDE = 10
STACKS = Spec((SIDE, SIDE), "uint8", "discrete", 2, frames=2)
SINGLE = Spec((SIDE, SIDE, 1), "uint8", "discrete", 2)


def episode(spec: Spec, rng: np.random.Generator) -> tuple[Episode, np.ndarray]:
    """5 to 20 steps; the hidden reward is the dot's column (0 to 1) where action 1 is taken, else 0."""
    length = int(rng.integers(5, 21))
    moves = rng.integers(-1, 2, (length + 1, 2))
    place = np.clip(rng.integers(0, SIDE, 2) + np.cumsum(moves, 0), 0, SIDE - 1)
    obs = np.zeros((length + 1, SIDE, SIDE), np.uint8)
    obs[np.arange(length + 1), place[:, 0], place[:, 1]] = 255
    act = (rng.random(length) < rng.random()).astype(np.int64)
    reward = act * place[:-1, 1] / (SIDE - 1)
    shown = np.zeros(length, np.float32)
    shown[-1] = reward.sum()  # the learner is shown the return alone
    return Episode(obs.reshape(length + 1, *spec.obs_shape), act, shown, False, 0, 0), reward


@pytest.mark.parametrize("spec", [STACKS, SINGLE], ids=["stacks", "single"])
def test_rrd_recovers_the_reward_of_a_moving_dot(spec):
    rng, streams = np.random.default_rng(0), Streams(0)
    config = RewardConfig(rrd_batch_size=64, rrd_sample_size=4, r_lr=2e-3)
    method = make_method(spec, config, streams.torch_generator("init"), None, torch.device("cpu"))
    store = EpisodeStore(20_000, spec)
    for _ in range(800):
        store.add(method.closed(episode(spec, rng)[0]))
    fresh = [episode(spec, rng) for _ in range(30)]

    def correlation() -> float:
        learned = [method.model.steps(played.obs, played.act).numpy() for played, _ in fresh]
        return pearson(np.concatenate([reward for _, reward in fresh]), np.concatenate(learned))

    assert correlation() < 0.5
    for _, subsets in method.draws(store, 200, 8, 0.99, streams):
        method.learn(subsets)
    assert correlation() > 0.9
