"""The withheld reward, and replaying an open episode."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit

from apportion.envs.episodic import EpisodicReward, Replayable
from apportion.envs.make import make_one
from envs_for_tests import Countdown, NaNReward, Walk


def play(env: gym.Env, seed: int, actions: np.ndarray) -> list[tuple]:
    env.reset(seed=seed, options={})
    steps = []
    for action in actions:
        steps.append(env.step(action))
        if steps[-1][2] or steps[-1][3]:
            break
    return steps


def test_reward_is_zero_until_the_last_step_which_gives_the_return():
    env = EpisodicReward(Countdown())
    obs, info = env.reset(seed=3)
    start = int(obs[0])
    rewards = [env.step(np.zeros(2))[1] for _ in range(start)]
    assert info == {}
    assert rewards == [0.0] * (start - 1) + [start * (start + 1) / 2]


def test_two_episodes_do_not_add_up():
    env = EpisodicReward(TimeLimit(Countdown(), 2))  # rewards 1 + 2
    for seed in (0, 1):
        assert [step[1] for step in play(env, seed, np.zeros((2, 2)))] == [0.0, 3.0]


def test_truncation_hands_the_return_out_and_stays_a_truncation():
    steps = play(EpisodicReward(TimeLimit(Walk(), 4)), 0, np.zeros((9, 2)))
    plain = play(TimeLimit(Walk(), 4), 0, np.zeros((9, 2)))
    assert [step[2:4] for step in steps] == [(False, False)] * 3 + [(False, True)]
    assert steps[-1][1] == sum(step[1] for step in plain)


@pytest.mark.parametrize("env", ["Reacher-v5", "HalfCheetah-v5", "Hopper-v5"])
def test_info_of_mujoco_is_emptied_and_the_return_is_the_sum_of_true_rewards(env):
    actions = np.random.default_rng(0).uniform(-1, 1, (1000, make_one(env, False).action_space.shape[0]))
    withheld = play(make_one(env, True), 5, actions.astype(np.float32))
    true = play(make_one(env, False), 5, actions.astype(np.float32))
    assert any(step[4] for step in true)  # there was something to leak
    assert all(step[4] == {} for step in withheld)
    assert all(step[1] == 0.0 for step in withheld[:-1])
    assert withheld[-1][1] == sum(float(step[1]) for step in true)
    assert [step[2:4] for step in withheld] == [step[2:4] for step in true]


def test_a_nan_reward_is_handed_on_at_its_own_step():
    steps = play(EpisodicReward(NaNReward()), 0, np.zeros((3, 2)))
    assert steps[0][1] == 0.0 and np.isnan(steps[1][1])


def test_replay_takes_its_own_episode_of_the_list_and_returns_the_last_observation():
    env, actions = Replayable(Walk(), index=1), np.full((3, 2), 0.5)
    last = play(Walk(), 8, actions)[-1][0]
    assert env.replay([None, (8, actions)]).tobytes() == last.tobytes()
    assert Replayable(Walk(), index=0).replay([None, (8, actions)]) is None


def test_replay_of_no_steps_is_the_reset():
    obs = Replayable(Countdown(), 0).replay([(4, np.zeros((0, 2)))])
    assert obs.tolist() == Countdown().reset(seed=4)[0].tolist()


def test_replay_of_an_episode_that_ended_too_early_is_refused():
    assert Replayable(TimeLimit(Walk(), 3), 0).replay([(0, np.zeros((3, 2)))]) is None
    assert Replayable(TimeLimit(Walk(), 3), 0).replay([(0, np.zeros((5, 2)))]) is None


def test_after_a_replay_the_withheld_return_and_the_step_limit_go_on_where_they_were():
    def build():
        return Replayable(EpisodicReward(TimeLimit(Walk(), 6)), 0)

    actions = np.random.default_rng(1).uniform(0, 1, (6, 2))
    whole = play(build(), 2, actions)
    env = build()
    play(env, 9, actions[:4])  # something else before
    env.replay([(2, actions[:4])])
    rest = [env.step(action) for action in actions[4:]]
    assert [step[1:4] for step in rest] == [step[1:4] for step in whole[4:]]
    assert rest[-1][3] and rest[-1][1] != 0.0
