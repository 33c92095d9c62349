"""Point masses in two rooms: the gate lets through or it does not, and everybody is in exactly one room."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.power import point_mass
from apportion.power.enumerate import enumerate_world
from apportion.power.point_mass import DRAG, FALL, FASTEST, GAP, GUST, PUSH, WIND, PointMass, spread
from apportion.power.runs import open_world
from apportion.power.world import World
from apportion.types import UserError

W = PointMass()
STILL, EAST = 0, 1


def state(x=0.5, y=0.5, vx=0.0, vy=0.0, opening=0.0):
    return np.array([x, y, vx, vy, 1.5, 0.5, 0, 0, opening])


def after(before, joint=(STILL, STILL, STILL), noise=0.5):
    return W.sample(before[None], np.array([joint]), np.array([noise]))[0]


@pytest.fixture
def calm(monkeypatch):
    """No gusts, and the gate is wound by its mean."""
    monkeypatch.setattr(point_mass, "spread", lambda noise, count: np.full((len(noise), count), 0.5))


def test_a_push_adds_to_what_drag_leaves(calm):
    found = after(state(vx=0.1, vy=-0.05), (EAST, 4, STILL))
    np.testing.assert_allclose(found[:4], [0.5 + 0.06 + 0.12, 0.5 - 0.03, 0.18, -0.03])  # .6 of the velocity, .12 more
    np.testing.assert_allclose(found[4:8], [1.5, 0.5 - 0.12, 0, -0.12])  # north is up, where y is small


def test_the_gate_is_wound_falls_by_itself_and_stops_at_its_ends(calm):
    assert after(state(opening=0.5), (0, 0, 1))[-1] == pytest.approx(0.5 + WIND)
    assert after(state(opening=0.5), (0, 0, 0))[-1] == pytest.approx(0.5 - FALL)
    assert after(state(opening=0.5), (0, 0, 2))[-1] == pytest.approx(0.5 - WIND - FALL)
    assert after(state(opening=0.9), (0, 0, 1))[-1] == 1 and after(state(opening=0.05))[-1] == 0


def test_a_shut_gate_stops_who_comes_and_an_open_one_does_not(calm):
    coming = dict(x=0.95, vx=0.2)  # .12 a step after drag, to 1.07
    np.testing.assert_array_equal(after(state(**coming))[[0, 2]], [np.nextafter(1, 0), 0])
    np.testing.assert_allclose(after(state(**coming, opening=0.01))[[0, 2]], [1.07, 0.12])
    back = state(x=1.05, vx=-0.2)
    assert after(back)[0] == 1 and W.attained(after(back)[None])[0, 0, 1]  # still east of the wall
    assert after(back)[2] == 0


def test_it_is_where_the_way_meets_the_wall_that_counts(calm):
    # to (1.05, .56) from (.95, .5): it meets the wall at half the way, at y = .53, .03 from the middle
    slanted = dict(x=0.95, vx=0.1 / DRAG, y=0.5, vy=0.06 / DRAG)
    just, less = (0.03 + e for e in (1e-9, -1e-9))
    assert after(state(**slanted, opening=2 * just / GAP))[0] == pytest.approx(1.05)
    stopped = after(state(**slanted, opening=2 * less / GAP))
    assert stopped[0] < 1 and stopped[1] == pytest.approx(0.56) and stopped[3] == pytest.approx(0.06)  # slides along


def test_outer_walls_stop(calm):
    found = after(state(x=0.02, y=0.99, vx=-0.3, vy=0.3))
    assert found[:4].tolist() == [0, 1, 0, 0]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_everybody_stays_inside_in_exactly_one_room_and_never_passes_a_shut_gate(seed):
    rng = np.random.default_rng(seed)
    rows = np.repeat(W.initial()[None], 64, 0)
    rows[:, [0, 4]] = rng.random((64, 2)) * 2
    for _ in range(20):
        joints = np.stack([rng.integers(5, size=64), rng.integers(5, size=64), rng.integers(3, size=64)], 1)
        new = W.sample(rows, joints, rng.random(64))
        x, y, v, opening = new[:, [0, 4]], new[:, [1, 5]], new[:, [2, 3, 6, 7]], new[:, 8]
        assert ((x >= 0) & (x <= 2) & (y >= 0) & (y <= 1)).all() and (np.abs(v) <= FASTEST).all()
        assert ((opening >= 0) & (opening <= 1)).all()
        assert (W.attained(new).sum(-1) == 1).all()
        passed = (rows[:, [0, 4]] < 1) != (x < 1)
        assert not passed[rows[:, 8] == 0].any()
        assert (np.abs(W.encode(new)) <= 1).all()
        rows = new


def test_the_other_room_can_be_reached_only_if_somebody_opens():
    rng, reached = np.random.default_rng(0), {}
    for robot in (0, 1):
        rows = np.repeat(W.initial()[None], 500, 0)
        for _ in range(20):
            joints = np.stack([np.ones(500, int), np.full(500, 2), np.full(500, robot)], 1)
            rows = W.sample(rows, joints, rng.random(500))
        reached[robot] = (rows[:, 0] > 1).mean(), (rows[:, 4] < 1).mean()
    assert reached[0] == (0, 0)
    assert min(reached[1]) > 0.9


def test_a_step_is_a_function_of_its_noise_alone_and_row_by_row():
    rng = np.random.default_rng(1)
    rows, joints, noise = np.stack([state(), state(x=1.2)] * 4), rng.integers(3, size=(8, 3)), rng.random(8)
    together = W.sample(rows, joints, noise)
    assert np.array_equal(together, [after(r, j, u) for r, j, u in zip(rows, joints, noise, strict=True)])
    assert not np.array_equal(after(state(), noise=0.3), after(state(), noise=0.30000001))


def test_the_numbers_of_one_are_uniform_and_not_related():
    noise = np.random.default_rng(0).random(20_000).astype(np.float32).astype(np.float64)  # even of few bits
    numbers = spread(noise, 5)
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.stack([np.histogram(column, 20, (0, 1))[0] for column in numbers.T])
    assert (np.abs(counts - 1000) < 5 * np.sqrt(1000)).all()
    related = np.corrcoef(np.column_stack([noise, numbers]).T) - np.eye(6)
    assert np.abs(related).max() < 5 / np.sqrt(20_000)


def test_gusts_are_as_wide_as_they_are_said_to_be():
    rows = np.repeat(state()[None], 4000, 0)
    found = W.sample(rows, np.full((4000, 3), 0), np.random.default_rng(3).random(4000))[:, [2, 3, 6, 7]]
    assert np.abs(found).max() <= GUST and np.abs(found).max() > 0.99 * GUST
    np.testing.assert_allclose(found.var(0), GUST**2 / 3, rtol=0.1)
    assert pytest.approx((PUSH + GUST) / (1 - DRAG)) == FASTEST


def test_it_is_a_world_that_can_only_be_sampled():
    world = open_world("apportion.power.point_mass:PointMass", 7)
    assert isinstance(world, World) and world.horizon == 7 and PointMass().horizon == 20
    assert world.goal_weights.sum() == pytest.approx(1)
    with pytest.raises(UserError, match="can only be sampled"):
        enumerate_world(world)
    with pytest.raises(UserError, match="can only be sampled"):
        world.successors(world.initial()[None], np.zeros((1, 3), int))


def test_what_is_described_is_parsed():
    found = after(state(vx=0.1, opening=0.3), (3, 2, 1), 0.123)
    assert np.array_equal(W.parse(W.describe(found)), found)
    for change, words in (
        ({"opening": 2}, "opening is from 0 to 1, not 2"),
        ({"humans": W.describe(found)["humans"][:1]}, "it has 1 humans, the world has 2"),
        ({"humans": [{"x": 9, "y": 0, "vx": 0, "vy": 0}] * 2}, "human 0: x is from 0 to 2, not 9"),
        ({"humans": [{"x": 1}] * 2}, "'y' is missing"),
        ({"humans": 3}, "not a description"),
    ):
        with pytest.raises(UserError, match=words):
            W.parse(W.describe(found) | change)


def test_the_picture_shows_the_gate_and_who_moved():
    shut, opened, elsewhere = (W.render(s) for s in (state(), state(opening=1.0), state(x=0.2)))
    assert shut.dtype == np.uint8 and shut.shape[2] == 3
    middle = shut.shape[0] // 2, shut.shape[1] // 2
    assert not np.array_equal(shut[middle], opened[middle])
    assert not np.array_equal(shut, elsewhere)
