"""The equations, with numbers worked out by hand."""

import math

import pytest
import torch
from torch.testing import assert_close

from apportion.power import equations as eq


def t(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_arriving_is_worth_one_where_the_goal_holds_and_the_discounted_value_elsewhere():
    worth = eq.first_attainment(torch.tensor([[[True, False]]]), t([[0.7, 0.5]]), 0.9)
    assert_close(worth, t([[1.0, 0.45]]))


def test_the_robot_is_believed_to_do_its_worst_its_best_or_anything():
    expected = t([[[0.2], [0.6]], [[0.5], [0.3]]])  # one state, two humans' joint actions, two of the robot
    assert_close(eq.over_robots(expected, "min"), t([[0.2], [0.3]]))
    assert_close(eq.over_robots(expected, "max"), t([[0.6], [0.5]]))
    assert_close(eq.over_robots(expected, "mean"), t([[0.4], [0.4]]))


def test_other_humans_are_taken_to_act_uniformly():
    expected = t([[0.0], [0.1], [0.2], [0.3], [0.4], [0.5]])  # (a_0, a_1) of a human with 2 and one with 3 actions
    assert_close(eq.human_q(expected, (2, 3), 0), t([[0.1, 0.4]]))
    assert_close(eq.human_q(expected, (2, 3), 1), t([[0.15, 0.25, 0.35]]))


def test_humans_choose_by_a_softmax_of_the_values():
    q = t([[0.0, math.log(2), math.log(3)]])
    wanted = torch.tensor([[False]])
    assert_close(eq.human_policy(q, wanted, 1.0, 0), t([[1 / 6, 2 / 6, 3 / 6]]))
    assert_close(eq.human_policy(q, wanted, 2.0, 0), t([[1 / 14, 4 / 14, 9 / 14]]))
    assert_close(eq.human_policy(q, wanted, 0.0, 0), t([[1 / 3, 1 / 3, 1 / 3]]))


def test_infinitely_sharp_humans_are_uniform_over_their_best_actions():
    policy = eq.human_policy(t([[0.5, 0.2, 0.5 - 1e-15]]), torch.tensor([[False]]), math.inf, 0)
    assert_close(policy, t([[0.5, 0.0, 0.5]]))


def test_habit_is_mixed_in_by_its_share():
    q = t([[0.0, math.log(3)]])
    policy = eq.human_policy(q, torch.tensor([[False]]), 1.0, None, 0.5, t(1.0, 0.0))
    assert_close(policy, t([[0.5 + 0.125, 0.375]]))
    assert_close(eq.human_policy(q, torch.tensor([[False]]), 1.0, None, 0.5), t([[0.375, 0.625]]))


@pytest.mark.parametrize(("still", "stays"), [(1, [0.0, 1.0, 0.0]), (None, [1 / 3, 1 / 3, 1 / 3])])
def test_who_has_the_goal_stays_whatever_index_that_has_even_against_habit(still, stays):
    policy = eq.human_policy(t([[0.1, 0.2, 0.3]]), torch.tensor([[True]]), 10.0, still, 0.5)
    assert_close(policy, t([stays]))


def test_who_has_the_goal_expects_nothing_more():
    value = eq.human_value(t([[0.25, 0.75], [0.5, 0.5]]), t([[0.4, 0.8], [1.0, 1.0]]), torch.tensor([[False, True]]))
    assert_close(value, t([0.7, 0.0]))


def test_without_the_goal_a_human_acts_by_the_weights_of_goals():
    assert_close(eq.marginal(t([[1.0, 0.0], [0.0, 1.0]]), t(0.3, 0.7)), t([0.3, 0.7]))


def test_humans_act_independently_the_last_one_fastest():
    both = [t([0.4, 0.6]), t([0.1, 0.9])]
    assert_close(eq.joint(both), t([0.04, 0.36, 0.06, 0.54]))
    assert_close(eq.joint(both, known=0), t([0.1, 0.9, 0.1, 0.9]))


def test_robot_values_are_expected_over_humans_and_discounted():
    expected = t([[-1.0, -2.0], [-3.0, -4.0]])
    assert_close(eq.robot_q(expected, t([0.25, 0.75]), 0.9), t([-2.25, -3.15]))


def test_the_robot_acts_by_a_power_law_that_knows_no_scale():
    q = t([-1.0, -2.0, -4.0])
    assert_close(eq.robot_policy(q, 1.0), t([4 / 7, 2 / 7, 1 / 7]))
    assert_close(eq.robot_policy(1e-9 * q, 1.0), t([4 / 7, 2 / 7, 1 / 7]))
    assert_close(eq.robot_policy(q, 2.0), t([16 / 21, 4 / 21, 1 / 21]))
    assert_close(eq.robot_policy(q, 0.0), t([1 / 3, 1 / 3, 1 / 3]))
    assert_close(eq.robot_policy(t([-1e-300, -1e300]), 1000.0), t([1.0, 0.0]))


def test_attainment_follows_ones_own_goal_while_others_do_what_they_do_on_average():
    expected = t([[1.0], [0.0], [0.5], [0.2]])  # (a_0, a_1)
    policy = t([[0.25, 0.75]])  # of human 0, for its one goal
    others = eq.joint([t([9.0, 9.0]), t([0.4, 0.6])], known=0)
    by_action = [0.4 * 1 + 0.6 * 0, 0.4 * 0.5 + 0.6 * 0.2]
    assert_close(eq.attainment(expected, policy, others, (2, 2), 0), t([0.25 * by_action[0] + 0.75 * by_action[1]]))
    others = eq.joint([t([0.4, 0.6]), t([9.0, 9.0])], known=1)
    by_action = [0.4 * 1 + 0.6 * 0.5, 0.6 * 0.2]
    assert_close(eq.attainment(expected, policy, others, (2, 2), 1), t([0.25 * by_action[0] + 0.75 * by_action[1]]))


def test_power_weighs_goals_and_prefers_reliable_ones():
    value = t([[1.0, 0.5]])
    assert_close(eq.power(value, t(0.5, 0.5), 2.0), t([0.625]))
    assert_close(eq.power(value, t(0.2, 0.8), 1.0), t([0.6]))


def test_reward_is_the_mean_or_sum_of_inverse_powers():
    x = t([0.5, 0.25])
    assert_close(eq.robot_reward(x, 1.0, 1.0), t(-3.0))
    assert_close(eq.robot_reward(x, 2.0, 0.5), t(-math.sqrt(10)))
    assert_close(eq.robot_reward(x, 1.0, 2.0, "sum"), t(-36.0))
    assert_close(eq.robot_reward(t([1.0]), 3.0, 2.0), t(-1.0))
    assert torch.isneginf(eq.robot_reward(t([0.5, 0.0]), 1.0, 1.0))


def test_the_value_adds_the_reward_that_a_duration_may_weigh():
    assert_close(eq.robot_value(t(-2.0), t([0.25, 0.75]), t([-4.0, -8.0]), 0.5), t(-8.0))
    assert eq.duration_weight(0.99) == pytest.approx(0.9949916247342216, abs=1e-15)
    assert eq.duration_weight(1.0) == 1.0
