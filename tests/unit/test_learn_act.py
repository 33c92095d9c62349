"""What humans and robots do while data are collected."""

import numpy as np
import pytest
import torch

from apportion.power.grid.world import load_world
from apportion.power.learn.act import Actor, nodes_of
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.estimators import make_estimators
from apportion.power.learn.goals import NONE, chances
from apportion.power.learn.priors import make_prior
from apportion.power.learn.replay import Steps
from apportion.power.learn.targets import policy


def _actor(name="trivial", horizon=6, **settings):
    world = load_world(name).with_horizon(horizon)
    config = Phase2Config(world=name, **{"num_envs": 4, **settings})
    prior = make_prior("exact", world, config.params, steps=0, seed=0, say=print)
    nets = make_estimators(world, config, torch.Generator().manual_seed(1))
    return Actor(world, prior, config, "0"), nets, world, prior


def test_every_step_leads_where_the_world_says_and_time_runs():
    actor, nets, world, _ = _actor()
    steps = actor.collect(20, nets, 0.0, 1.0)
    assert len(steps.t) == 80
    for state, joint, following in zip(steps.state, steps.joint, steps.next_state, strict=True):
        states, _ = world.transitions(state, joint)
        assert following.tolist() in states.tolist()
    of_first = steps.t[0::4]
    assert of_first.tolist() == [i % 6 for i in range(20)]  # the horizon ends an episode
    again = steps.state[0::4][of_first == 0]
    assert (again == world.initial()).all()


def test_an_episode_is_cut_after_its_number_of_steps():
    actor, nets, *_ = _actor(horizon=10, steps_per_episode=4, num_episodes=10_000)
    assert actor.collect(10, nets, 0.0, 1.0).t[0::4].tolist() == [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]
    assert actor.episodes == 4 * 3


def test_goals_stay_within_a_segment_and_are_never_those_that_hold():
    actor, nets, world, _ = _actor(goal_resample_prob=0.0)
    steps = actor.collect(60, nets, 0.0, 1.0)
    attained = world.attained(steps.state)
    held = attained[np.arange(len(steps.t)), 0, steps.goals[:, 0]]
    assert not held.any()  # in this world a human never has all goals at once
    for env in range(4):
        rows = slice(env, None, 4)
        goals, t, reached = steps.goals[rows, 0], steps.t[rows], world.attained(steps.next_state[rows])
        for i in range(1, len(goals)):
            if t[i] > 0 and not reached[i - 1, 0, goals[i - 1]]:
                assert goals[i] == goals[i - 1]


def test_humans_act_by_their_prior_and_robots_by_what_is_written_down():
    actor, nets, world, prior = _actor(num_envs=512, goal_resample_prob=0.3)
    steps = actor.collect(6, nets, 10.0, 0.25)
    at = np.flatnonzero(steps.t == 0)
    assert len(at) == 512
    pi = prior(world.initial()[None], np.array([0]))[0, 0]
    robot = world.robots[0]
    q = policy(nets, nodes_of(world, world.initial()[None], np.array([0])), 10.0)[0].detach().numpy()
    wanted = 0.25 / 4 + 0.75 * q
    np.testing.assert_allclose(steps.robot_prob[at], wanted[steps.joint[at, robot]], rtol=1e-4)
    found = np.bincount(steps.joint[at, robot], minlength=4) / 512
    assert np.abs(found - wanted).max() < 4 * 0.5 / 512**0.5
    human = world.humans[0]
    before = np.full_like(steps.goals, NONE)
    before[512:] = np.where(steps.t[512:, None] > 0, steps.goals[:-512], NONE)  # of the same environment
    wanted = chances(before, world.attained(steps.state), world.goal_weights, 0.3)[:, 0]
    does = prior(steps.state, steps.t)[np.arange(len(steps.t)), 0, :, steps.joint[:, human]]
    np.testing.assert_allclose(steps.human_prob[:, 0], (wanted * does).sum(1), rtol=1e-5)
    for goal in np.unique(steps.goals[at, 0]):
        mine = at[steps.goals[at, 0] == goal]
        share = np.bincount(steps.joint[mine, human], minlength=4) / len(mine)
        assert np.abs(share - pi[goal]).max() < 4 * 0.5 / len(mine) ** 0.5


def test_without_exploration_and_beta_r_the_robot_is_uniform():
    actor, nets, *_ = _actor()
    assert set(actor.collect(5, nets, 0.0, 0.0).robot_prob.tolist()) == {0.25}


def test_the_same_seed_and_name_give_the_same_steps_and_another_name_others():
    (a, nets, world, prior), (b, *_) = _actor(), _actor()
    c = Actor(world, prior, a.config, "1")
    first, second, third = (actor.collect(12, nets, 5.0, 0.5) for actor in (a, b, c))
    for name in Steps.__dataclass_fields__:
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert not np.array_equal(first.joint, third.joint)


@pytest.mark.parametrize("curiosity", [0.0, 2.0])
def test_an_actor_goes_on_from_its_state(curiosity):
    (a, nets, *_), (b, *_) = _actor(curiosity=curiosity), _actor(curiosity=curiosity)
    a.collect(7, nets, 5.0, 0.5)
    b.load_state(a.state())
    first, second = a.collect(9, nets, 5.0, 0.5), b.collect(9, nets, 5.0, 0.5)
    for name in Steps.__dataclass_fields__:
        assert np.array_equal(getattr(first, name), getattr(second, name))


def test_curiosity_tries_what_was_tried_least():
    actor, nets, world, _ = _actor(curiosity=20.0, num_envs=1, horizon=1)
    steps = actor.collect(8, nets, 0.0, 1.0)
    robot = steps.joint[:, world.robots[0]]
    assert sorted(robot[:4].tolist()) == sorted(robot[4:].tolist()) == [0, 1, 2, 3]
