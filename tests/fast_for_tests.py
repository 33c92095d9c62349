"""Compares a compiled update with the plain one, in a process of its own: the tests' type checks cannot be traced.

python fast_for_tests.py AGENT 'REWARD SETTINGS AS JSON'
AGENT: sac, td3, ddpg, dqn, rmsprop (dqn with it), frames (dqn on stacks of images)
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


def _spec(agent_name: str) -> Spec:
    if agent_name in ("sac", "td3", "ddpg"):
        return Spec((5,), "float32", "box", 2, (-1.0, -1.0), (1.0, 1.0))
    if agent_name == "frames":
        return Spec((12, 12), "uint8", "discrete", 3, frames=3, pixel_max=8)
    return Spec((5,), "float32", "discrete", 3)


def trained(agent_name: str, reward: RewardConfig, compiled: bool, bf16: bool = False, updates: int = 8):
    """All parameters after some updates on noise, while episodes of changing length go on closing."""
    discrete = agent_name not in ("sac", "td3", "ddpg")
    spec = _spec(agent_name)
    rng, streams = np.random.default_rng(0), Streams(0)
    store, norm = EpisodeStore(1000, spec), None if spec.is_image else RunningNorm((5,))
    config = replace(AGENTS["dqn" if discrete else agent_name](), train_target=3, max_grad_norm=0.5)
    if discrete:
        kind = "rmsprop" if agent_name == "rmsprop" else "adam"
        config = replace(config, double=True, dueling=True, optimizer=kind)
    config = config if spec.is_image else replace(config, hidden=(32, 32))
    agent = make_agent(spec, config, streams.torch_generator("init"), norm, CPU)
    method = make_method(spec, reward, streams.torch_generator("init"), norm, CPU)

    def close_one(length: int) -> None:
        act = rng.integers(3, size=length) if discrete else rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        shape = (length + 1, *spec.obs_shape)
        obs = rng.integers(0, 9, shape).astype(np.uint8) if spec.is_image else rng.normal(size=shape).astype(np.float32)
        shown = rng.normal(size=length).astype(np.float32)
        episode = Episode(obs, act, shown, length % 2 == 0, 0, 0)
        if norm is not None:
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
