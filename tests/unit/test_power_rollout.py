"""One course of a solved world: real successors, goals that are dropped when reached, one course for one seed."""

import numpy as np
import pytest

from apportion.power.grid.world import GridWorld
from apportion.power.params import PowerParams
from apportion.power.rollout import robot_action_names, roll_out
from apportion.power.solve import solve
from apportion.types import UserError


def solved(text, **more):
    world = GridWorld.from_config({"map": text, "max_steps": 12, **more}, "test")
    return solve(world.compile(), PowerParams())


@pytest.fixture(scope="module")
def corridor():
    return solved("Ay .. .. Ae ..")


def row(compiled, state, joint):
    at = state * compiled.joint_actions + int(np.ravel_multi_index(tuple(joint), compiled.n_actions))
    return compiled.indices[compiled.indptr[at] : compiled.indptr[at + 1]]


def test_each_state_follows_from_the_one_before(corridor):
    found, compiled = roll_out(corridor, 1), corridor.compiled
    assert found.steps == 12
    assert found.states[0] == 0
    for t in range(12):
        assert found.states[t + 1] in row(compiled, found.states[t], found.joint[t])


def test_the_same_seed_gives_the_same_course_and_another_another(corridor):
    first, again, other = (roll_out(corridor, seed) for seed in (3, 3, 4))
    assert np.array_equal(first.states, again.states)
    assert np.array_equal(first.joint, again.joint)
    assert not np.array_equal(first.joint, other.joint)


def test_a_goal_that_holds_is_replaced_and_others_are_kept(corridor):
    changed = kept = 0
    for seed in range(20):
        found = roll_out(corridor, seed)
        for t in range(12):
            assert not corridor.compiled.attained[found.states[t], 0, found.goals[t, 0]]
            if t and found.goals[t, 0] == found.goals[t - 1, 0]:
                kept += 1
            elif t:
                changed += corridor.compiled.attained[found.states[t], 0, found.goals[t - 1, 0]]
    assert changed > 10  # reached
    assert kept > 100


def test_greedy_robots_take_their_first_most_probable_action(corridor):
    found = roll_out(corridor, 0, greedy=True)
    best = [int(corridor.at(t).pi[found.states[t]].argmax()) for t in range(12)]
    assert found.joint[:, 1].tolist() == best


def test_humans_follow_the_policy_of_the_goal_they_have(corridor):
    found = roll_out(corridor, 2)
    for t in range(12):
        of_goals = corridor.human_policy(t, found.states[t : t + 1])[0]
        assert np.array_equal(found.human_pi[t, 0], of_goals[0, found.goals[t, 0]])
        assert found.human_pi[t, 0, found.joint[t, 0]] > 0


def test_actions_are_drawn_as_often_as_they_are_probable():
    only = solved("Ay Ae", max_steps=2)
    counts = np.zeros(4)
    for seed in range(150):
        counts[roll_out(only, seed).joint[0, 1]] += 1
    expected = 150 * only.at(0).pi[0]
    assert np.abs(counts - expected).max() < 5 * np.sqrt(150 / 4)


def test_a_world_without_robots_goes_on_and_names_no_action():
    found = roll_out(solved("Ay .. ..", max_steps=3), 0, steps=9)
    assert found.joint.shape == (3, 1)
    assert robot_action_names((("still", "left"),), ()) == ["no robot"]


def test_robots_joint_actions_are_named_with_the_last_robot_fastest():
    two = (("still", "left"), ("a",), ("still", "left"))
    assert robot_action_names(two, (0, 2)) == ["still + still", "still + left", "left + still", "left + left"]
    assert robot_action_names(two, (2,)) == ["still", "left"]


def test_no_steps_are_refused(corridor):
    with pytest.raises(UserError, match="at least 1"):
        roll_out(corridor, 0, 0)


def test_a_course_goes_to_the_horizon_without_one_for_thirty_steps(corridor):
    assert roll_out(corridor, 0, 5).steps == 5
    assert roll_out(corridor, 0, 99).steps == 12
    world = GridWorld.from_config({"map": "Ay .."}, "endless").with_horizon(None)
    endless = solve(world.compile(), PowerParams(gamma_h=0.9, gamma_r=0.9))
    assert roll_out(endless, 0).steps == 30
    assert roll_out(endless, 0, 40).steps == 40
