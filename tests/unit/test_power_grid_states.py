"""States of grid worlds: described and parsed, in batches, drawn, encoded; boxes with something in them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.power.grid.world import GridWorld
from apportion.types import UserError

EVERYTHING = """
Ay .. Kr Lr .. Bu
.. Un Bl .. CB Ae
Xg .. Ro .. Ps dP
By Ay Un Ki Dk Ma
"""
STILL, LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(7)


def everything():
    config = {"map": EVERYTHING, "box_contents": {"0,2": "blue key"}, "enter_bush_success_prob": 0.5}
    return GridWorld.from_config(config | {"can_enter_magic_walls": "y", "orientations": ["s", "w", "n"]}, "everything")


def walk(world, seed, steps):
    """States that random actions lead to."""
    rng, state, seen = np.random.default_rng(seed), world.initial()[None], []
    for _ in range(steps):
        joint = rng.integers(0, 7, (1, len(world.agents)))
        state = world.sample(state, joint, rng.random(1))
        seen.append(state[0])
    return np.stack(seen)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_parse_is_the_inverse_of_describe(seed):
    world = everything()
    for state in walk(world, seed, 40):
        np.testing.assert_array_equal(world.parse({"step_count": 3, **world.describe(state)}), state)


def test_the_order_of_identical_objects_in_a_description_is_free():
    world = GridWorld.from_config({"map": "Ay Bl .. Bl Kr Kr"}, "w")
    description = world.describe(world.initial())
    description["mobile_objects"].reverse()
    np.testing.assert_array_equal(world.parse(description), world.initial())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("agents"), "state: 'agents' is missing"),
        (lambda d: d["agents"].pop(), "it has 2 agents, the world has 3"),
        (lambda d: d["agents"][0].update(color="grey"), "entry 0 of agents must be agent 0, which is yellow"),
        (lambda d: d["agents"][0].update(x=6), "agent 0 at (6, 0) is outside the map of 6 x 4 cells"),
        (lambda d: d["agents"][0].update(dir=4), "dir is 0 east"),
        (lambda d: d["agents"][0].update(x=5, y=1), "agent 1 and agent 0 are both at (5, 1)"),
        (lambda d: d["agents"][0].update(x=2, y=1), "two things stand at (2, 1)"),
        (lambda d: d["agents"][0].update(carrying="ball", carrying_color="red"), "this world has no red ball"),
        (lambda d: d["agents"][0].update(carrying="key", carrying_color="red"), "more than 1 red keys"),
        (lambda d: d["agents"][0].update(forced_next_action=9), "forced_next_action is one of 7 actions, not 9"),
        (lambda d: d["mobile_objects"].pop(0), "it has 0 blocks, the world has 1"),
        (lambda d: d["mobile_objects"].append({"type": "ufo", "x": 0, "y": 1}), "this world has no ufo"),
        (lambda d: d["mutable_objects"].pop(0), "mutable_objects: the door at (3, 0) is missing"),
        (lambda d: d["mutable_objects"].append(["door", 1, 0, True, False]), "no door at (1, 0)"),
        (lambda d: d["mutable_objects"][0].__setitem__(slice(3, 5), [True, True]), "does not read like [False, True]"),
        (lambda d: d.update(agents="many"), "not a description of a state"),
    ],
)
def test_descriptions_that_do_not_fit_the_world(change, message):
    world = everything()
    description = world.describe(world.initial())
    change(description)
    with pytest.raises(UserError) as error:
        world.parse(description)
    assert message in str(error.value)


def test_a_box_gives_what_is_in_it_and_a_blue_key_opens_a_blue_door():
    config = {"map": "Ay Xg Lb ..", "box_contents": {"1,0": "blue key"}}
    world = GridWorld.from_config(config, "w")
    state = world.initial()
    for action in (TOGGLE, PICKUP, FORWARD, TOGGLE):
        (state,), _ = world.transitions(state, np.array([action]))
    found = world.describe(state)
    assert found["mobile_objects"] == []
    assert (found["agents"][0]["x"], found["agents"][0]["carrying_color"]) == (1, "blue")
    assert found["mutable_objects"] == [["door", 2, 0, True, False]]


def test_a_carried_box_is_described_with_its_content():
    world = GridWorld.from_config({"map": "Ay Xg ..", "box_contents": {"1,0": "red ball"}}, "w")
    (state,), _ = world.transitions(world.initial(), np.array([PICKUP]))
    agent = world.describe(state)["agents"][0]
    assert (agent["carrying"], agent["carrying_color"], agent["carrying_contains"]) == ("box", "green", "red ball")
    np.testing.assert_array_equal(world.parse(world.describe(state)), state)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_a_batch_gives_what_each_pair_gives_alone(seed):
    world = everything()
    states = walk(world, seed, 30)
    joints = np.random.default_rng(seed).integers(0, 7, (30, 3))
    offsets, all_states, all_probs = world.successors(states, joints)
    for k in range(30):
        alone, probs = world.transitions(states[k], joints[k])
        np.testing.assert_array_equal(all_states[offsets[k] : offsets[k + 1]], alone)
        np.testing.assert_array_equal(all_probs[offsets[k] : offsets[k + 1]], probs)


def test_a_large_batch_with_many_outcomes_fits():
    world = GridWorld.from_config({"map": "Un Un Un\nAy Ay Ay\nUn Un Un", "orientations": ["n", "n", "n"]}, "w")
    (on_unsteady,), _ = world.transitions(world.initial(), np.array([FORWARD] * 3))
    n = 500
    offsets, _, probs = world.successors(np.repeat(on_unsteady[None], n, 0), np.full((n, 3), FORWARD))
    assert offsets[-1] == n * 27  # straight, left or right of each agent; where they end is a wall or another's start
    np.testing.assert_allclose(np.add.reduceat(probs, offsets[:-1]), 1)


def test_noise_picks_successors_by_their_shares():
    world = GridWorld.from_config({"map": ".. Bu Ay", "orientations": ["w"], "enter_bush_success_prob": 0.25}, "w")
    noise = (np.arange(1000) + 0.5) / 1000
    states = np.repeat(world.initial()[None], 1000, 0)
    drawn = world.sample(states, np.full((1000, 1), FORWARD), noise)
    assert (world.positions(drawn)[:, 0, 0] == 1).sum() == 250


def test_sampling_no_pairs_is_fine():
    world = everything()
    assert world.sample(world.initial()[None][:0], np.zeros((0, 3), int), np.zeros(0)).shape == (
        0,
        world.initial().size,
    )


def test_actions_and_shapes_out_of_range_are_refused():
    world = everything()
    with pytest.raises(ValueError, match="actions must be 0 to 6"):
        world.transitions(world.initial(), np.array([0, 7, 0]))
    with pytest.raises(ValueError, match=r"\(1, 2\) actions"):
        world.transitions(world.initial(), np.array([0, 0]))


def test_attained_goals_are_those_whose_cells_a_human_is_on():
    world = GridWorld.from_config({"map": "Ay Ae Ay", "possible_goals": ["0,0", "0,0,1,0", "2,0"]}, "w")
    np.testing.assert_array_equal(world.attained(world.initial()[None]), [[[True, True, False], [False, False, True]]])


def test_features_of_a_small_world():
    world = GridWorld.from_config({"map": "We Ay Bl", "orientations": ["s"], "action_class": "small"}, "w")
    expected = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1]  # cell (2), x and y, dir (4), dead, paused; blocks per cell (2)
    np.testing.assert_array_equal(world.encode(world.initial()[None]), [expected])


def test_features_tell_all_states_apart():
    world = everything()
    states = np.unique(walk(world, 0, 400), axis=0)
    features = world.encode(states)
    assert len(np.unique(features, axis=0)) == len(states)
    assert np.abs(features).max() <= 2  # counts of identical objects aside, all are in [-1, 1]
