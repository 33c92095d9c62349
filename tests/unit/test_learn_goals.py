"""Goals while data are collected: replaced when they hold, now and then anyhow, and drawn by their weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.power.grid.world import GridWorld, load_world
from apportion.power.learn.goals import NONE, chances, draw, resample
from apportion.power.learn.starts import starts

WEIGHTS = np.array([0.5, 0.3, 0.2])
NOTHING = np.zeros((1, 1, 3), bool)


def one(goal, attained=(), prob=0.01, noise=(0.5, 0.5)):
    holds = NOTHING.copy()
    holds[..., list(attained)] = True
    return resample(np.array([[goal]]), holds, WEIGHTS, prob, np.array([[noise]]))[0, 0]


def test_a_goal_is_kept_until_it_holds_or_chance_changes_it():
    assert one(1) == 1
    assert one(1, noise=(0.0099, 0.0)) == 0  # .0099 < .01: another draw
    assert one(1, noise=(0.01, 0.0)) == 1
    assert one(1, prob=0.0, noise=(0.0, 0.0)) == 1
    assert one(1, attained=[1], noise=(0.9, 0.0)) == 0


def test_whoever_has_no_goal_yet_gets_one():
    assert one(NONE, noise=(0.9, 0.49)) == 0
    assert one(NONE, noise=(0.9, 0.51)) == 1
    assert one(NONE, noise=(0.9, 0.81)) == 2


def test_goals_that_hold_are_not_drawn_unless_all_do():
    # with goal 0 attained, 1 and 2 have .3 and .2 of .5: the border is at .6
    assert one(NONE, attained=[0], noise=(0.5, 0.59)) == 1
    assert one(NONE, attained=[0], noise=(0.5, 0.61)) == 2
    assert one(0, attained=[0, 1, 2], noise=(0.5, 0.49)) == 0
    assert one(0, attained=[0, 1, 2], noise=(0.5, 0.99)) == 2


def test_humans_and_worlds_are_apart():
    goals = np.array([[0, 1], [2, NONE]])
    attained = np.zeros((2, 2, 3), bool)
    attained[0, 1, 1] = attained[1, 0, 0] = True
    noise = np.full((2, 2, 2), 0.99)
    assert resample(goals, attained, WEIGHTS, 0.01, noise).tolist() == [[0, 2], [2, 2]]
    assert goals.tolist() == [[0, 1], [2, NONE]]  # as it was


def test_chances_are_how_often_each_goal_comes():
    rng = np.random.default_rng(0)
    goals = np.array([[NONE, 1], [1, 2]])
    attained = np.zeros((2, 2, 3), bool)
    attained[0, 1, 1] = attained[1, 1, [0, 1, 2]] = attained[1, 0, 0] = True
    drawn = np.stack([resample(goals, attained, WEIGHTS, 0.4, rng.random((2, 2, 2))) for _ in range(20_000)])
    found = (drawn[..., None] == np.arange(3)).mean(0)
    np.testing.assert_allclose(chances(goals, attained, WEIGHTS, 0.4), found, atol=0.015)


def test_draws_come_as_often_as_their_weights_say():
    noise = (np.arange(1000) + 0.5) / 1000
    assert np.bincount(draw(np.tile(WEIGHTS, (1000, 1)), noise)).tolist() == [500, 300, 200]


@given(
    st.lists(st.sampled_from([0.0, 1e-300, 0.1, 1 / 3, 1.0, 7.0]), min_size=1, max_size=6).filter(any),
    st.one_of(st.just(0.0), st.just(np.nextafter(1, 0)), st.floats(0, 1, exclude_max=True)),
)
def test_nothing_of_weight_zero_is_ever_drawn(weights, noise):
    assert weights[draw(np.array([weights]), np.array([noise]))[0]] > 0


def test_a_world_with_one_start_starts_there():
    world = load_world("trivial")
    assert np.array_equal(starts(world, np.array([0.0, 0.9])), np.stack([world.initial()] * 2))


def test_a_world_with_many_starts_draws_them():
    class Many(GridWorld):
        def starts(self, noise):
            return np.stack([self.initial() + int(4 * u) for u in noise])

    trivial = load_world("trivial")
    many = Many("many", trivial.layout, trivial.settings)
    rows = starts(many, np.array([0.0, 0.5, 0.99])) - many.initial()
    assert rows.tolist() == [[k] * many.initial().size for k in (0, 2, 3)]


@pytest.mark.parametrize("goal", [0, 1, 2])
def test_the_chance_of_a_change_is_each_humans_own(goal):
    goals, attained = np.full((10_000, 1), goal), np.zeros((10_000, 1, 3), bool)
    noise = np.random.default_rng(goal).random((10_000, 1, 2))
    drawn = resample(goals, attained, WEIGHTS, 0.3, noise)
    assert abs((drawn != goal).mean() - 0.3 * (1 - WEIGHTS[goal])) < 0.02
