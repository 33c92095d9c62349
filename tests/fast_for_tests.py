"""Compares a compiled update with the plain one, in a process of its own: the tests' type checks cannot be traced.

python fast_for_tests.py AGENT 'REWARD SETTINGS AS JSON'
"""

import json
import sys
from dataclasses import replace

import numpy as np
import torch

from apportion.agents import make_agent
from apportion.config import AGENTS, RewardConfig
from apportion.fast.compile import accelerate
from apportion.rewards import make_method
from apportion.rng import Streams
from apportion.store.episodes import EpisodeStore
from apportion.train.update import learner_update
from apportion.types import Episode, Spec

CPU = torch.device("cpu")


def trained(agent_name: str, reward: RewardConfig, compiled: bool, bf16: bool = False, updates: int = 6):
    """All parameters after some updates on noise."""
    discrete = agent_name == "dqn"
    spec = (
        Spec((5,), "float32", "discrete", 3) if discrete else Spec((5,), "float32", "box", 2, (-1.0,) * 2, (1.0,) * 2)
    )
    rng, streams = np.random.default_rng(0), Streams(0)
    store = EpisodeStore(1000, spec)
    agent = make_agent(spec, replace(AGENTS[agent_name](), hidden=(32, 32)), streams.torch_generator("init"), None, CPU)
    method = make_method(spec, reward, streams.torch_generator("init"), None, CPU)
    for seed in range(10):
        act = rng.integers(3, size=40) if discrete else rng.uniform(-1, 1, (40, 2)).astype(np.float32)
        obs, ret = rng.normal(size=(41, 5)).astype(np.float32), rng.normal(size=40).astype(np.float32)
        episode = Episode(obs, act, ret, seed % 2 == 0, 0, seed)
        store.add(episode)
        method.closed(episode)
    update = accelerate(learner_update, compiled, bf16, CPU)
    for _ in range(updates):
        batch, subsets = method.draw(store, 32, 0.99, streams)
        metrics = update(method, agent, batch, subsets, agent.update_noise(streams, 32), agent.due())
    model = list(method.model.parameters()) if hasattr(method, "model") else []
    return [p.detach().clone() for p in [*agent.parameters(), *model]], {k: float(v) for k, v in metrics.items()}


def main() -> None:
    agent, reward = sys.argv[1], RewardConfig(**json.loads(sys.argv[2]))
    torch.set_num_threads(1)
    plain, said = trained(agent, reward, compiled=False)
    fast, also_said = trained(agent, reward, compiled=True)
    for a, b in zip(plain, fast, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)
    assert said.keys() == also_said.keys()
    for name, value in said.items():
        assert abs(also_said[name] - value) <= 1e-4 + 1e-3 * abs(value), (name, value, also_said[name])


if __name__ == "__main__":
    main()
