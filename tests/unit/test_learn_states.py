"""States that were met, what follows them, and what is kept of them to learn from."""

import numpy as np
import pytest

from apportion.power.grid.world import load_world
from apportion.power.learn.features import features, width
from apportion.power.learn.replay import Known, Replay, Steps
from apportion.power.learn.states import StateTable, joint_actions


@pytest.fixture(scope="module")
def world():
    return load_world("freeing")  # two humans, one robot


def _walk(world, steps, seed=0):
    rng, states = np.random.default_rng(seed), [world.initial()]
    for _ in range(steps):
        joint = np.array([[rng.integers(len(a)) for a in world.actions]])
        states.append(world.sample(states[-1][None], joint, rng.random(1))[0])
    return np.stack(states)


def test_a_state_is_taken_in_once_and_keeps_its_number(world):
    table, path = StateTable(world), _walk(world, 60)
    numbers = table.intern(path)
    assert len(table) == len(np.unique(path, axis=0)) == numbers.max() + 1
    assert np.array_equal(table.intern(path[::-1]), numbers[::-1])
    assert np.array_equal(table.states(numbers), path)
    assert np.array_equal(table.attained(numbers), world.attained(path))


def test_features_from_the_table_are_those_of_the_state_and_the_time(world):
    table, path = StateTable(world), _walk(world, 14)
    t = np.arange(len(path))
    found = table.features(table.intern(path), t)
    assert np.array_equal(found, features(world, path, t)) and found.shape[1] == width(world)
    clock = found[:, world.encode(path).shape[1] :]
    assert np.allclose(clock[:, 0], 1 - t / 14)
    assert np.array_equal(clock[:, 1:].argmax(1), 14 - t) and (clock[:, 1:].sum(1) == 1).all()


def test_looking_ahead_gives_the_worlds_own_transitions_for_every_joint_action(world):
    table = StateTable(world)
    ids = table.intern(_walk(world, 30))[[7, 3, 7, 30, 0]]
    times = np.array([1, 2, 3, 4, 5])
    ahead, joints = table.ahead(ids, times), joint_actions(world)
    assert len(set(zip(ahead.ids.tolist(), ahead.t.tolist(), strict=True))) == len(ahead.ids)
    for i, number in enumerate(ids):
        for j, joint in enumerate(joints):
            states, probs = world.transitions(table.states(ids)[i], joint)
            row = slice(*ahead.indptr[[i * len(joints) + j, i * len(joints) + j + 1]])
            found = {
                table.states(ahead.ids[[c]])[0].tobytes(): p
                for c, p in zip(ahead.indices[row], ahead.probs[row], strict=True)
            }
            assert found == pytest.approx({s.tobytes(): p for s, p in zip(states, probs, strict=True)}), number
            assert (ahead.t[ahead.indices[row]] == times[i] + 1).all()


def test_the_last_robots_action_changes_fastest(world):
    joints = joint_actions(world)
    assert (joints.shape == (64, 3) and world.robots == (2,)) or world.robots
    robot, humans = world.robots[0], list(world.humans)
    assert joints[:4, robot].tolist() == [0, 1, 2, 3] and (joints[:4, humans] == 0).all()


def test_a_table_that_forgets_knows_what_was_kept_in_its_new_order(world):
    table = StateTable(world)
    ids = table.intern(_walk(world, 40))
    keep = np.unique(ids)[::2]
    smaller = table.kept(keep)
    assert len(smaller) == len(keep)
    assert np.array_equal(smaller.states(np.arange(len(keep))), table.states(keep))
    before, after = table.ahead(keep[:3], np.zeros(3, np.int64)), smaller.ahead(np.arange(3), np.zeros(3, np.int64))
    assert np.array_equal(table.states(before.ids[before.indices]), smaller.states(after.ids[after.indices]))


def _steps(world, n, seed=0):
    path = _walk(world, n, seed)
    humans, agents = len(world.humans), len(world.agents)
    return Steps(
        state=path[:-1],
        t=np.arange(n),
        goals=np.zeros((n, humans), np.int64),
        joint=np.tile(np.arange(n)[:, None], (1, agents)),  # a mark: which step it was
        human_prob=np.tile(np.arange(n, dtype=np.float32)[:, None] / n, (1, humans)),
        robot_prob=np.full(n, 0.25, np.float32),
        next_state=path[1:],
    )


def test_the_oldest_transitions_make_place(world):
    table, replay = StateTable(world), Replay(10, 2, 3)
    replay.add(_steps(world, 14), table)
    assert replay.n == 10
    drawn = replay.draw(np.linspace(0, 0.999, 400))
    assert set(drawn.joint[:, 0].tolist()) == set(range(4, 14))
    assert np.array_equal(table.states(drawn.ids), _walk(world, 14)[drawn.t])
    assert np.array_equal(table.states(drawn.next_ids), _walk(world, 14)[drawn.t + 1])


def test_batches_of_one_time_come_from_that_time(world):
    table, replay = StateTable(world), Replay(100, 2, 3)
    for seed in range(5):
        replay.add(_steps(world, 12, seed), table)
    assert replay.last_time() == 11
    assert set(replay.draw(np.random.default_rng(0).random(50), at_time=7).t.tolist()) == {7}


def test_replay_and_table_come_back_as_they_were(world):
    table, replay = StateTable(world), Replay(20, 2, 3)
    table.intern(_walk(world, 30, seed=9))  # so that numbers differ
    replay.add(_steps(world, 27), table)
    other_table, other = StateTable(world), Replay(20, 2, 3)
    other_table.load_state(table.state())
    other.load_state(replay.state())
    noise = np.random.default_rng(1).random(64)
    a, b = replay.draw(noise), other.draw(noise)
    assert np.array_equal(table.states(a.ids), other_table.states(b.ids)) and np.array_equal(a.t, b.t)
    assert np.array_equal(a.human_prob, b.human_prob) and np.allclose(a.human_prob[:, 1] * 27, a.t)
    replay.add(_steps(world, 5, seed=3), table)
    other.add(_steps(world, 5, seed=3), other_table)
    a, b = replay.draw(noise), other.draw(noise)
    assert np.array_equal(table.states(a.next_ids), other_table.states(b.next_ids))


def test_states_looked_ahead_to_are_known_once_each_and_the_newest_stay():
    known = Known(6, times=4)
    known.add(np.array([0, 1, 1, 0]), np.array([0, 1, 1, 2]), states=2)
    known.add(np.array([1, 5]), np.array([1, 3]), states=6)
    ids, t = known.draw(np.linspace(0, 0.999, 60))
    assert set(zip(ids.tolist(), t.tolist(), strict=True)) == {(0, 0), (1, 1), (0, 2), (5, 3)}
    known.add(np.array([2, 3, 4]), np.array([0, 0, 0]), states=6)
    ids, t = known.draw(np.linspace(0, 0.999, 600))
    found = set(zip(ids.tolist(), t.tolist(), strict=True))
    assert len(found) == known.n == 6 and {(2, 0), (3, 0), (4, 0)} <= found and (0, 0) not in found
    known.add(np.array([0]), np.array([0]), states=6)  # forgotten: it may come again
    ids, t = known.draw(np.linspace(0, 0.999, 600))
    assert (0, 0) in set(zip(ids.tolist(), t.tolist(), strict=True))
