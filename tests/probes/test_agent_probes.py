"""Tiny worlds with known values: each agent must find them (after rejax's probe environments)."""

import numpy as np
import pytest
import torch

from apportion.agents import make_agent
from apportion.agents.dqn import epsilon
from apportion.config import DDPGConfig, DQNConfig, SACConfig, TD3Config
from apportion.rng import Streams
from apportion.store import sample
from apportion.store.episodes import EpisodeStore
from apportion.types import Episode, Spec

SMALL = {"hidden": (32, 32)}
CONFIGS = {
    "sac": SACConfig(**SMALL, pi_lr=3e-3, q_lr=3e-3, polyak=0.95, alpha_init=1e-3, alpha_lr=0.0),
    "td3": TD3Config(**SMALL, pi_lr=3e-3, q_lr=3e-3, polyak=0.9, pi_t_std=0.05),
    "ddpg": DDPGConfig(**SMALL, pi_lr=3e-3, q_lr=3e-3, polyak=0.9, q_reg=0.0),
    "dqn": DQNConfig(**SMALL, q_lr=5e-3, adam_eps=1e-8, train_target=20),
    "dqn double dueling": DQNConfig(**SMALL, q_lr=5e-3, adam_eps=1e-8, train_target=20, double=True, dueling=True),
}
agents = pytest.mark.parametrize("name", CONFIGS)


def spec_for(name: str) -> Spec:
    if name.startswith("dqn"):
        return Spec((1,), "float32", "discrete", 3)
    return Spec((1,), "float32", "box", 1, (-1.0,), (1.0,))


def random_act(spec: Spec, steps: int, rng: np.random.Generator) -> np.ndarray:
    if spec.act_kind == "discrete":
        return rng.integers(spec.act_dim, size=steps)
    return rng.uniform(-1, 1, (steps, 1)).astype(np.float32)


def as_number(act: np.ndarray) -> float:
    """The action on the scale [-1, 1]: the discrete agent's 0, 1, 2 are -1, 0, 1."""
    return float(act) - 1.0 if act.dtype == np.int64 else float(act[0])


def train(name, episode, gamma, updates=500):
    """The agent after `updates` on 200 episodes of random actions, each made by `episode(act, rng)`."""
    spec, streams, rng = spec_for(name), Streams(0), np.random.default_rng(0)
    store = EpisodeStore(2000, spec)
    for _ in range(200):
        store.add(episode(random_act(spec, 2, rng), rng))
    agent = make_agent(spec, CONFIGS[name], streams.torch_generator("init"), None, torch.device("cpu"))
    for _ in range(updates):
        batch = sample.transitions(store, 64, gamma, streams.generator("batch"))
        agent.update(batch, agent.update_noise(streams, 64), agent.due())
    return agent


def value(agent, obs: float) -> float:
    """The critic's value of the greedy action in `obs`."""
    x = torch.tensor([[obs]])
    act = agent.act(x, None, 0)
    with torch.no_grad():
        if act.dtype == torch.int64:
            return float(agent.critic(x)[0, act[0]])
        return float(agent.critic(torch.cat([x, act], -1)).reshape(-1).min())


def steps(obs, act, reward, terminated):
    obs = np.array(obs, np.float32)[:, None]
    return Episode(obs, act[: len(reward)], np.array(reward, np.float32), terminated, env=0, seed=0)


@agents
def test_constant_reward_of_a_single_step_is_its_value(name):
    agent = train(name, lambda act, rng: steps([0, 0], act, [1.0], True), gamma=0.99)
    assert value(agent, 0.0) == pytest.approx(1.0, abs=0.05)


@agents
def test_value_depends_on_the_observation(name):
    def episode(act, rng):
        sign = rng.choice([-1.0, 1.0])
        return steps([sign, 0], act, [sign], True)

    agent = train(name, episode, gamma=0.99)
    assert value(agent, 1.0) == pytest.approx(1.0, abs=0.07)
    assert value(agent, -1.0) == pytest.approx(-1.0, abs=0.07)


@agents
def test_value_of_an_earlier_step_is_discounted(name):
    agent = train(name, lambda act, rng: steps([0, 1, 0], act, [0.0, 1.0], True), gamma=0.5, updates=800)
    assert value(agent, 1.0) == pytest.approx(1.0, abs=0.06)
    assert value(agent, 0.0) == pytest.approx(0.5, abs=0.06)


@agents
def test_policy_finds_the_better_action(name):
    agent = train(
        name, lambda act, rng: steps([0, 0], act, [1 - abs(as_number(act[0]) - 1.0)], True), gamma=0.99, updates=1500
    )
    assert as_number(agent.act(torch.zeros(1, 1), None, 0).numpy()[0]) > 0.85
    assert value(agent, 0.0) == pytest.approx(1.0, abs=0.12)


@agents
def test_policy_looks_at_the_observation_and_the_action_together(name):
    def episode(act, rng):
        sign = rng.choice([-1.0, 1.0])
        return steps([sign, 0], act, [-abs(as_number(act[0]) - sign)], True)

    agent = train(name, episode, gamma=0.99, updates=1000)
    chosen = agent.act(torch.tensor([[1.0], [-1.0]]), None, 0).numpy()
    assert as_number(chosen[0]) > 0.8 and as_number(chosen[1]) < -0.8


@agents
def test_truncation_keeps_bootstrapping_and_termination_ends_it(name):
    truncated = train(name, lambda act, rng: steps([0, 0], act, [1.0], False), gamma=0.5, updates=800)
    assert value(truncated, 0.0) == pytest.approx(2.0, abs=0.15)  # 1 / (1 - 0.5)
    terminated = train(name, lambda act, rng: steps([0, 0], act, [1.0], True), gamma=0.5)
    assert value(terminated, 0.0) == pytest.approx(1.0, abs=0.05)


@agents
def test_state_brings_back_the_same_agent(name):
    def episode(act, rng):
        return steps([0, 1, 0], act, [0.3, 1.0], True)

    agent = train(name, episode, gamma=0.9, updates=20)
    spec = spec_for(name)
    twin = make_agent(spec, CONFIGS[name], torch.Generator().manual_seed(5), None, torch.device("cpu"))
    twin.load_state(agent.state())
    store = EpisodeStore(100, spec)
    for _ in range(9):
        store.add(episode(random_act(spec, 2, np.random.default_rng(1)), None))
    for a in (agent, twin):
        streams = Streams(3)
        for _ in range(25):  # far enough for every part of the update, the target copy included
            batch = sample.transitions(store, 16, 0.9, streams.generator("batch"))
            a.update(batch, a.update_noise(streams, 16), a.due())
    for (key, x), y in zip(agent.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(x, y), key


def test_dqn_explores_by_env_steps():
    config = DQNConfig(eps_l=1.0, eps_r=0.1, eps_decay=1000)
    assert [round(epsilon(config, step), 6) for step in (0, 500, 1000, 5000)] == [1.0, 0.55, 0.1, 0.1]
    spec, streams, n = Spec((1,), "float32", "discrete", 4), Streams(0), 4000
    agent = make_agent(spec, config, streams.torch_generator("init"), None, torch.device("cpu"))
    obs = torch.ones(n, 1)
    greedy = agent.act(obs, None, 0)
    for step in (0, 500, 5000):
        noise = agent.act_noise(streams, n)
        differs = (agent.act(obs, noise, step) != greedy).float().mean().item()
        assert differs == pytest.approx(0.75 * epsilon(config, step), abs=0.03)  # 1 in 4 is greedy


def test_dqn_copies_its_target_every_so_many_updates_and_not_in_between():
    spec, streams = Spec((1,), "float32", "discrete", 2), Streams(0)
    config = DQNConfig(hidden=(8,), q_lr=1e-2, train_target=3)
    agent = make_agent(spec, config, streams.torch_generator("init"), None, torch.device("cpu"))
    store = EpisodeStore(100, spec)
    store.add(Episode(np.ones((5, 1), np.float32), np.zeros(4, np.int64), np.ones(4, np.float32), True, 0, 0))
    before = agent.target(torch.ones(1, 1))
    for update in range(1, 7):
        agent.update(sample.transitions(store, 8, 0.9, streams.generator("replay")), {}, agent.due())
        now, online = agent.target(torch.ones(1, 1)), agent.critic(torch.ones(1, 1))
        assert torch.equal(now, online if update % 3 == 0 else before)
        assert torch.equal(now, online) == (update % 3 == 0)
        before = now
