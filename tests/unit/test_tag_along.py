"""The PettingZoo world that comes along: a proper parallel environment, its rules, and what the solver makes of it."""

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from apportion.power.params import PowerParams
from apportion.power.runs import open_world
from apportion.power.solve import solve
from apportion.power.tag_along import FIRST, TagAlong, after, world

STILL, LEFT, RIGHT, CHANGE = range(4)


def test_it_is_a_proper_parallel_environment(capsys):
    parallel_api_test(TagAlong(steps=30), num_cycles=100)
    assert "Passed" in capsys.readouterr().out


def test_an_episode_is_cut_after_its_steps_and_pays_nothing():
    env = TagAlong(steps=2)
    seen, _ = env.reset(seed=1)
    assert seen["robot"].reshape(3, 6).argmax(1).tolist() == list(FIRST)
    acts = dict.fromkeys(env.agents, STILL)
    _, rewards, ended, cut, _ = env.step(acts)
    assert not any(rewards.values()) and not any(ended.values()) and not any(cut.values())
    _, _, ended, cut, _ = env.step(acts)
    assert not any(ended.values()) and all(cut.values()) and env.agents == []


def test_places_and_their_neighbours():
    assert [after(p, LEFT, lifted=False) for p in range(6)] == [0, 0, 1, 3, 3, 4]
    assert [after(p, RIGHT, lifted=False) for p in range(6)] == [1, 2, 2, 4, 5, 5]
    assert [after(p, CHANGE, lifted=True) for p in range(6)] == [3, 4, 5, 0, 1, 2]
    assert [after(p, CHANGE, lifted=False) for p in range(6)] == list(range(6))


def test_only_whom_the_robot_is_with_changes_floors():
    env = TagAlong()
    env.reset()
    env.places = [1, 2, 1]
    env.step({"human_0": CHANGE, "human_1": CHANGE, "robot": RIGHT})
    assert env.places == [4, 2, 2]  # lifted, although the robot leaves; without it, not
    env.step({"human_0": STILL, "human_1": CHANGE, "robot": CHANGE})
    assert env.places == [4, 5, 5]


def test_a_state_is_where_everyone_is():
    w = open_world("apportion.power.tag_along:world")
    joint = np.array([RIGHT, LEFT, CHANGE])
    rows, probs = w.transitions(w.initial(), joint)
    assert rows.reshape(3, 6).argmax(1).tolist() == [1, 1, 0] and probs.tolist() == [1.0]
    again, _ = w.transitions(w.initial(), joint)
    assert np.array_equal(rows, again)
    assert w.attained(rows)[0].argmax(1).tolist() == [1, 1] and (w.attained(rows).sum(2) == 1).all()


def test_its_picture_shows_where_everyone_is():
    w = world()
    first = w.render(w.initial())
    other = w.render(w.transitions(w.initial(), np.array([RIGHT, STILL, STILL]))[0][0])
    assert first.shape == (128, 192, 3) and not np.array_equal(first, other)
    assert TagAlong().render() is None


@pytest.mark.long
def test_the_robot_goes_to_the_people():
    from apportion.power.enumerate import enumerate_world

    w = world()
    compiled = enumerate_world(w)
    assert len(compiled.states) == 216
    found = solve(compiled, PowerParams()).at(6)

    def policy(places):
        row = np.eye(6, dtype=np.int8)[list(places)].ravel()
        return found.pi[int((compiled.states == row).all(1).argmax())]

    assert len(found.pi) == 216
    assert policy((0, 0, 1)).argmax() == LEFT and policy((0, 0, 1))[LEFT] > 0.8
    assert policy((2, 2, 1)).argmax() == RIGHT
    assert policy((0, 0, 3)).argmax() == CHANGE
