"""A world as its robots see it: a proper Gymnasium environment, its humans' goals, and U_r as reward for any agent."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from apportion.cli import main
from apportion.envs.make import make_one, make_vector, spec_of
from apportion.power.grid.world import GridWorld, load_world
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.features import features, width
from apportion.power.learn.gym_view import PowerEnv, make_env
from apportion.power.learn.priors import make_prior
from apportion.power.learn.reward import PowerReward, on_arrival
from apportion.power.params import PowerParams
from apportion.power.point_mass import PointMass
from apportion.power.tag_along import world as tag_along
from apportion.rewards import load_reward
from apportion.run.rundir import RunDir
from apportion.train.evaluate import evaluate_run
from apportion.train.power import load_session, train_power
from apportion.types import Batch, RewardSource, UserError


class Stubborn:
    """Humans who take the action that has the number of their goal, as far as there are so many; still once there."""

    def __init__(self, world):
        self.world = world

    def __call__(self, states, t):
        most = max(len(self.world.actions[h]) for h in self.world.humans)
        pi = np.zeros((len(states), len(self.world.humans), len(self.world.goals), most), np.float32)
        for h, agent in enumerate(self.world.humans):
            for g in range(len(self.world.goals)):
                pi[:, h, g, g % len(self.world.actions[agent])] = 1
        return pi

    def state(self):
        return {}

    def load_state(self, state):
        pass


def env_of(world, **more):
    return PowerEnv(world, Stubborn(world), **more)


@pytest.mark.parametrize("make", [lambda: load_world("trivial"), PointMass, tag_along], ids=["grid", "points", "zoo"])
def test_gymnasium_finds_nothing_to_complain_about(make):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*Box observation space m.*infinity")
        warnings.filterwarnings("ignore", message=".*not within the observation space.*spec")
        check_env(env_of(make(), render_mode="rgb_array"), skip_render_check=True)


def test_it_sees_features_and_its_action_is_the_robots_joint_one():
    text = "Ay .. Ae .. Ae"
    world = GridWorld.from_config({"map": text, "max_steps": 3}, "two robots")
    env = env_of(world)
    assert env.action_space == gym.spaces.Discrete(16) and env.action_names[7] == "left + forward"
    obs, info = env.reset(seed=0)
    assert np.array_equal(obs, features(world, world.initial()[None], np.zeros(1, int))[0])
    wants = info["goals"][0]
    obs, reward, terminated, truncated, info = env.step(7)
    joint = np.zeros((1, 3), int)
    joint[0, [*world.humans, *world.robots]] = [wants % 4, 1, 3]
    expected = world.sample(world.initial()[None], joint, np.zeros(1))
    assert np.array_equal(info["state"], expected[0])
    assert np.array_equal(obs, features(world, expected, np.ones(1, int))[0])
    assert (reward, terminated, truncated) == (0.0, False, False)


def test_the_horizon_ends_an_episode_and_a_cut_does_not():
    env = env_of(load_world("trivial"))
    env.reset(seed=1)
    ends = [env.step(0)[2:4] for _ in range(10)]
    assert ends == [(False, False)] * 9 + [(True, False)]
    env = env_of(PointMass(None), steps=4)
    env.reset(seed=1)
    assert [env.step(0)[2:4] for _ in range(4)] == [(False, False)] * 3 + [(False, True)]


def test_a_seed_decides_everything():
    def course(seed):
        env = env_of(PointMass())
        seen = [env.reset(seed=seed)[0]]
        goals = []
        for k in range(20):
            obs, *_, info = env.step(k % 3)
            seen.append(obs)
            goals.append(info["goals"])
        return np.stack(seen), np.stack(goals)

    (a, ga), (b, gb), (c, _) = course(5), course(5), course(6)
    assert np.array_equal(a, b) and np.array_equal(ga, gb)
    assert not np.array_equal(a, c)


def test_nobody_wants_what_holds_already():
    env, world = env_of(PointMass()), PointMass()
    for seed in range(10):
        _, info = env.reset(seed=seed)
        for k in range(20):
            holds = world.attained(info["state"][None])[0]
            assert not holds[np.arange(2), info["goals"]].any()
            *_, info = env.step(k % 3)


def test_humans_act_as_the_prior_says_for_the_goal_they_have():
    """In a corridor of two cells the exact prior turns and goes; against 600 episodes of one step."""
    world = GridWorld.from_config({"map": "Ay .. We Ae", "max_steps": 4}, "apart")
    prior = make_prior("exact", world, PowerParams(), steps=0, seed=0, say=print)
    env, counts = PowerEnv(world, prior), np.zeros((len(world.goals), 4))
    for seed in range(600):
        goal = env.reset(seed=seed)[1]["goals"][0]
        *_, info = env.step(0)
        turned = (info["state"][1] - world.initial()[1]) % 4
        moved = info["state"][0] != world.initial()[0]
        counts[goal, 2 if moved else {0: 0, 3: 1, 1: 3}[int(turned)]] += 1
    pi = prior(world.initial()[None], np.zeros(1, int))[0, 0]  # still, left, right, forward
    for goal in np.flatnonzero(counts.sum(1)):
        still, left, right, forward = pi[goal]
        blocked = 0.0 if counts[goal, 2] else forward
        expected = np.array([still + blocked, left, forward - blocked, right])
        np.testing.assert_allclose(counts[goal] / counts[goal].sum(), expected, atol=0.1)


# ---------------------------------------------------------------- U_r


def u_r(features):
    return -1 - features.abs().sum(1)


def a_batch(n=4, o=3):
    rng = torch.Generator().manual_seed(0)
    obs, after = torch.randn(n, o, generator=rng), torch.randn(n, o, generator=rng)
    zero = torch.zeros(n)
    discount = torch.tensor([0.99, 0.0, 0.99, 0.99])
    return Batch(obs, torch.zeros(n, dtype=torch.int64), after, zero, discount, zero, zero.long() + 5, zero.long())


def test_the_reward_is_u_r_on_arrival_and_nothing_at_the_end():
    source, batch = PowerReward(u_r), a_batch()
    assert isinstance(source, RewardSource)
    expected = -1 - batch.next_obs.abs().sum(1)
    expected[1] = 0  # terminated
    assert torch.equal(source(batch), expected) and not source(batch).requires_grad


def test_an_environment_with_u_r_pays_it():
    env, seen, paid = env_of(PointMass(3), u_r=u_r), [], []
    env.reset(seed=2)
    for _ in range(3):
        obs, reward, *_ = env.step(1)
        seen.append(obs)
        paid.append(reward)
    assert paid[:2] == pytest.approx([-1 - float(np.abs(x).sum()) for x in seen[:2]], rel=1e-6) and paid[2] == 0
    rewards = PowerReward(u_r).rewards(np.stack([seen[0], *seen]), terminated=True)
    assert rewards == pytest.approx(paid, rel=1e-6)


def test_optimal_values_of_this_reward_are_those_of_the_robot():
    """V_r(s) = U_r(s) + gamma_r E V_r(s') on a chain 0 -> 1 -> 2 (the end), and an agent's values by hand."""
    reward = on_arrival(lambda f: f[:, 0], torch.tensor([[-3.0], [-7.0]]), torch.tensor([False, True]))
    assert reward.tolist() == [-3.0, 0.0]
    agent_0, gamma = reward[0] + 0.9 * reward[1], 0.9
    v_r_1 = -3.0  # U_r of state 1, and V_r = 0 at the end
    assert gamma * agent_0 == pytest.approx(gamma * v_r_1)  # Q_r of (4)


def test_u_r_of_another_run_is_not_taken_for_the_same():
    PowerReward(u_r, "a").load_state(PowerReward(u_r, "a").state())
    with pytest.raises(UserError, match="another one than when this run began"):
        PowerReward(u_r, "a").load_state({"digest": "b"})


# ---------------------------------------------------------------- by name


def test_a_world_is_an_environment_by_its_name():
    env = make_one("power:trivial", False)
    assert spec_of(env).act_dim == 4 and spec_of(env).obs_shape == (width(load_world("trivial")),)
    env.reset(seed=0)
    assert env.step(1)[1] == 0.0
    both = make_vector("power:trivial", 2, "sync", False)
    assert both.reset(seed=[1, 2])[0].shape == (2, width(load_world("trivial")))


def test_a_seeded_episode_can_be_played_again():
    env = make_one("power:trivial", False)
    env.reset(seed=7)
    acts = np.array([1, 2, 3, 0, 3])
    seen = [env.step(a)[0] for a in acts][-1]
    assert np.array_equal(make_one("power:trivial", False).replay([(7, acts)]), seen)


def test_what_cannot_be_made_is_one_line():
    with pytest.raises(UserError, match="there is no world 'trivail'; did you mean trivial"):
        make_one("power:trivail", False)
    with pytest.raises(UserError, match=r"point-mass.*only be sampled.*power:RUN"):
        make_one("power:apportion.power.point_mass:PointMass", False)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
    """A few steps of training: enough for there to be a U_r."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    config = Phase2Config(
        **{"world": "trivial", "horizon": "6", "num_episodes": 4, "steps_per_episode": 6, "epsilon_decay_steps": 20},
        **{"warmup_v_h_e_steps": 2, "warmup_x_h_steps": 2, "warmup_q_r_steps": 2, "beta_r_rampup_steps": 2},
        **{"batch_size": 4, "hidden": (16,), "check": "never"},
    )
    train_power(config, folder, progress=False)
    return folder


def test_a_runs_world_is_an_environment_that_pays_its_u_r(a_run):
    env = make_env(str(a_run))
    assert isinstance(env, PowerEnv) and env.world.horizon == 6
    env.reset(seed=0)
    learner = load_session(RunDir.open(a_run), None).learner
    for t in range(1, 7):
        _, reward, terminated, *_, info = env.step(2)
        there = learner.estimates(learner.world, info["state"][None], np.array([t]), 0.0)
        expected = 0.0 if t == 6 else float(there.u(1.1))
        assert reward == pytest.approx(expected, rel=1e-5) and reward <= -1 + terminated


def test_an_agent_trains_on_the_power_of_people(a_run, tmp_path, capsys):
    steps = ["--steps", "60", "--warmup", "20", "--timesteps", "20", "--train-batches", "2", "--hidden", "8"]
    words = ["train", "--env", f"power:{a_run}", "--reward", str(a_run), "--basis-alg", "dqn", *steps]
    assert main([*words, "--runs-dir", str(tmp_path), "--name", "dqn"]) == 0
    assert (tmp_path / "dqn" / "checkpoints").exists()
    found = evaluate_run(tmp_path / "dqn", episodes=2)
    assert found["lengths"] == [6, 6] and max(found["returns"]) <= -5  # U_r <= -1 at each step but the last
    capsys.readouterr()


def test_its_reward_is_for_environments_that_show_the_same(a_run):
    spec = spec_of(make_one("power:trivial", False))  # 10 steps, not 6: another clock
    with pytest.raises(UserError, match=r"act there with --env power:"):
        load_reward(str(a_run), spec, "", torch.device("cpu"))
    fitting = spec_of(make_one(f"power:{a_run}", False))
    source = load_reward(str(a_run), fitting, "", torch.device("cpu"))
    batch = a_batch(4, fitting.obs_shape[0])
    assert isinstance(source, PowerReward) and torch.equal(source(batch) == 0, batch.discount == 0)
    assert (source(batch)[batch.discount > 0] <= -1).all()
