"""Compares a compiled update with the plain one, in a process of its own: the tests' type checks cannot be traced.

python fast_for_tests.py AGENT 'REWARD SETTINGS AS JSON'
"""

import json
import sys
from dataclasses import replace

import numpy as np
import torch

from apportion.agents import make_agent
from apportion.config import AGENTS, RewardConfig, from_json
from apportion.fast.compile import accelerate
from apportion.nets.normalizer import RunningNorm
from apportion.rewards import Decomposition, make_method
from apportion.rng import Streams
from apportion.store.episodes import EpisodeStore
from apportion.train.update import learner_update
from apportion.types import Episode, Spec

CPU = torch.device("cpu")


def trained(agent_name: str, reward: RewardConfig, compiled: bool, bf16: bool = False, updates: int = 8):
    """All parameters after some updates on noise, while episodes of changing length go on closing."""
    discrete = agent_name == "dqn"
    box = Spec((5,), "float32", "box", 2, (-1.0, -1.0), (1.0, 1.0))
    spec = Spec((5,), "float32", "discrete", 3) if discrete else box
    rng, streams = np.random.default_rng(0), Streams(0)
    store, norm = EpisodeStore(1000, spec), RunningNorm((5,))
    more = {"double": True, "dueling": True} if discrete else {}
    config = replace(AGENTS[agent_name](), hidden=(32, 32), train_target=3, max_grad_norm=0.5, **more)
    agent = make_agent(spec, config, streams.torch_generator("init"), norm, CPU)
    method = make_method(spec, reward, streams.torch_generator("init"), norm, CPU)

    def close_one(length: int) -> None:
        act = rng.integers(3, size=length) if discrete else rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        obs, shown = rng.normal(size=(length + 1, 5)).astype(np.float32), rng.normal(size=length).astype(np.float32)
        episode = Episode(obs, act, shown, length % 2 == 0, 0, 0)
        norm.observe(torch.from_numpy(obs))
        store.add(episode)
        method.closed(episode)

    for _ in range(10):
        close_one(40)
    update, metrics = accelerate(learner_update, compiled, bf16, CPU), {}
    for i in range(updates):
        batch, subsets = next(iter(method.draws(store, 1, 32, 0.99, streams)))
        metrics = update(method, agent, batch, subsets, agent.update_noise(streams, 32), agent.due())
        close_one(30 + i)
    model = list(method.model.parameters()) if isinstance(method, Decomposition) else []
    return [p.detach().clone() for p in [*agent.parameters(), *model]], {k: float(v) for k, v in metrics.items()}


def main() -> None:
    agent, reward = sys.argv[1], from_json(RewardConfig, json.loads(sys.argv[2]))
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
