"""Several grid worlds as one: each row is its own world's, features have one form, and nothing leaks between them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.power.grid import layout as L
from apportion.power.grid.ensemble import Ensemble, from_configs, held_out, load, read_folder, split
from apportion.power.grid.generate import bystander_world
from apportion.power.grid.planes import planes_of
from apportion.power.grid.world import GridWorld, load_world
from apportion.power.learn.features import width
from apportion.power.learn.priors import MemberPriors, make_prior
from apportion.power.learn.starts import ManyStarts, starts
from apportion.power.params import PowerParams
from apportion.power.world import World
from apportion.types import UserError

SMALL = {
    "east": {"map": "Ay .. Ae", "max_steps": 5, "orientations": ["e", "w"], "possible_goals": ["0,0", "1,0", "2,0"]},
    "key": {
        "map": "Ay .. Kr We\nWe We Lr Ae",
        "max_steps": 5,
        "possible_goals": ["0,0,2,0", "2,1", "3,1"],
    },
    "block": {"map": "Ae Bl ..\nAy .. La", "max_steps": 5, "possible_goals": ["0,0,2,0", "0,1", "1,1"]},
}


def made(**changes):
    return [
        GridWorld.from_config({"action_class": "object"} | config | changes, name) for name, config in SMALL.items()
    ]


@pytest.fixture(scope="module")
def three():
    return Ensemble("three", made())


@pytest.fixture
def folder(tmp_path):
    for seed in range(10):
        config = bystander_world("push", seed, steps=4)
        text = "\n".join(f"  {line}" for line in config["map"].splitlines())
        (tmp_path / f"w{seed}.yaml").write_text(
            f"map: |\n{text}\norientations: {config['orientations']}\nmax_steps: 4\n"
        )
    return tmp_path


def walk(ensemble, steps, rng):
    """(states, joint actions) of random courses of 3 episodes of each world."""
    rows = starts(ensemble, np.tile((np.arange(len(ensemble.worlds)) + 0.5) / len(ensemble.worlds), 3))
    states, joints = [], []
    for _ in range(steps):
        joint = rng.integers(len(ensemble.actions[0]), size=(len(rows), len(ensemble.agents)))
        states.append(rows)
        joints.append(joint)
        rows = ensemble.sample(rows, joint, rng.random(len(rows)))
    return np.concatenate(states), np.concatenate(joints)


def test_it_is_a_world_whose_episodes_start_in_one_of_its_worlds(three):
    assert isinstance(three, World) and isinstance(three, ManyStarts)
    found = starts(three, np.array([0, 0.33, 0.34, 0.66, 0.67, 0.999]))
    assert found[:, 0].tolist() == [0, 0, 1, 1, 2, 2]
    for row in found:
        own = three.worlds[row[0]].initial()
        assert np.array_equal(row[1 : 1 + own.size], own) and not row[1 + own.size :].any()
    assert np.array_equal(three.initial(), found[0])
    assert three.goals == ("goal 0", "goal 1", "goal 2") and three.horizon == 5


def test_each_row_follows_the_rules_of_its_own_world(three):
    states, joints = walk(three, 6, np.random.default_rng(0))
    order = np.random.default_rng(1).permutation(len(states))  # worlds mixed
    states, joints = states[order], joints[order]
    found, noise = three.successors(states, joints), np.random.default_rng(2).random(len(states))
    drawn = three.sample(states, joints, noise)
    for i, (state, joint) in enumerate(zip(states, joints, strict=True)):
        world = three.worlds[state[0]]
        size = world.initial().size
        joint = joint[::-1] if state[0] == 2 else joint  # in its map the robot comes first
        rows, probs = world.transitions(state[1 : 1 + size], joint)
        here = slice(found.offsets[i], found.offsets[i + 1])
        assert np.array_equal(found.states[here, 1 : 1 + size], rows) and np.array_equal(found.probs[here], probs)
        assert (found.states[here, 0] == state[0]).all() and not found.states[here, 1 + size :].any()
        own = world.sample(state[None, 1 : 1 + size], joint[None], noise[i : i + 1])
        assert np.array_equal(drawn[i, 1 : 1 + size], own[0]) and drawn[i, 0] == state[0]
        assert np.array_equal(three.attained(state[None]), world.attained(state[None, 1 : 1 + size]))
        assert three.parse(three.describe(state)).tolist() == state.tolist()
        if i < 3:
            assert np.array_equal(three.render(state), world.render(state[1 : 1 + size]))


def test_no_rows_are_no_trouble(three):
    none, nothing = three.initial()[None][:0], np.zeros((0, 2), np.int64)
    assert three.successors(none, nothing).offsets.tolist() == [0]
    assert three.sample(none, nothing, np.zeros(0)).shape == none.shape
    assert len(three.encode(none)) == len(three.attained(none)) == 0


# ---------------------------------------------------------------- features


def grids(ensemble, rows):
    """({name: (n, h, w)} of the planes, (n, N, _) of the agents), read off the features by their documented order."""
    p, encoded = ensemble.planes, ensemble.encode(rows)
    bits = {L.DOOR: 2, L.PAUSE: 2, L.CONTROL: 2 + len(ensemble.agents) + 8}
    names = [*p.ground, *(("goal", g) for g in range(len(ensemble.goals))), "chances"]
    names += [("agent", i) for i in range(len(ensemble.agents))] + [*p.pushed, *map(str, p.kinds)]
    names += [(L.TERRAIN[t], k) for t in p.devices for k in range(bits.get(t, 1))]
    found, at = {}, 0
    for name in names:
        size = 3 if name == "chances" else p.cells
        block = encoded[:, at : at + size]
        found[name] = block if name == "chances" else block.reshape(-1, p.height, p.width)
        at += size
    return found, encoded[:, at:].reshape(len(rows), len(ensemble.agents), -1)


def cells(plane):
    return [(int(x), int(y)) for y, x in np.argwhere(plane)]


def test_planes_show_what_is_where(three):
    assert (three.planes.width, three.planes.height) == (4, 2)
    key = starts(three, np.array([0.5]))
    found, people = grids(three, key)
    red = L.LETTERS.index("r")
    assert cells(found[L.WALL, 0][0]) == [(3, 0), (0, 1), (1, 1)]
    assert cells(found[L.DOOR, red][0]) == [(2, 1)]
    assert (cells(found["agent", 0][0]), cells(found["agent", 1][0])) == ([(0, 0)], [(3, 1)])
    assert cells(found["red key"][0]) == [(2, 0)] and not found["block"][0].any() and not found[L.LAVA, 0][0].any()
    assert not found["door", 0][0].any() and cells(found["door", 1][0]) == [(2, 1)]  # not closed, but locked
    assert [cells(found["goal", g][0]) for g in range(3)] == [[(0, 0), (1, 0), (2, 0)], [(2, 1)], [(3, 1)]]
    assert people[0, :, 6:8].tolist() == [[-1, -1], [1, 1]]  # x and y in the common box
    carried = key.copy()
    world = three.worlds[1]
    carried[0, 1 + L.PER_AGENT + L.CARRY] = 1  # the robot has the key
    carried[0, 1 + world.rules.first_portable] = -1
    after, people = grids(three, carried)
    assert not after["red key"].any() and people[0, :, -1].tolist() == [0, 1]


def test_what_lies_outside_a_smaller_map_is_wall(three):
    east, block = starts(three, np.array([0.0, 0.9]))
    found, _ = grids(three, np.stack([east, block]))
    assert cells(found[L.WALL, 0][0]) == [(3, 0), (0, 1), (1, 1), (2, 1), (3, 1)]
    assert cells(found[L.WALL, 0][1]) == [(3, 0), (3, 1)]
    assert cells(found["block"][1]) == [(1, 0)] and cells(found[L.LAVA, 0][1]) == [(2, 1)]
    assert cells(found["agent", 0][1]) == [(0, 1)] and cells(found["agent", 1][1]) == [(0, 0)]  # the human comes first


def test_a_button_remembers_an_agent_by_its_role():
    world = load_world("control-button")
    alone = Ensemble("alone", [world])
    where = world.rules.first_device + int(
        np.flatnonzero(world.rules.cells[world.rules.device_cell, 0] == L.CONTROL)[0]
    )
    for agent in range(len(world.agents)):
        row = alone.initial()
        row[1 + where] = 1 | 2 | (agent + 1) << 6
        found, _ = grids(alone, row[None])
        bits = [found["control_button", k][0].any() for k in range(2 + len(world.agents))]
        expected = [(*world.humans, *world.robots).index(agent) == k for k in range(len(world.agents))]
        assert bits == [True, True, *expected]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_different_states_have_different_features(seed):
    names = ("control-button", "off-switch", "freeing", "key-door-step-aside", "rock-gateway")
    world = load_world(names[seed % len(names)])
    alone = Ensemble("alone", [world])
    states, _ = walk(alone, 30, np.random.default_rng(seed))
    different = np.unique(states, axis=0)
    encoded = alone.encode(different)
    assert np.isfinite(encoded).all() and np.abs(encoded).max() <= 1
    assert len(np.unique(encoded, axis=0)) == len(different)


def test_features_do_not_depend_on_what_else_is_asked_for(three):
    states, _ = walk(three, 4, np.random.default_rng(5))
    together = three.encode(states)
    for i, state in enumerate(states):
        assert np.array_equal(three.encode(state[None])[0], together[i])


# ---------------------------------------------------------------- folders


def test_a_folder_is_split_by_the_seed_with_features_of_one_form(folder):
    train, test = split(folder, 0.3, 1)
    names = [[world.name for world in part.worlds] for part in (train, test)]
    assert (len(names[0]), len(names[1])) == (7, 3)
    assert sorted(names[0] + names[1]) == sorted(world.name for world in load(folder).worlds)
    assert width(train) == width(test) == width(load(folder)) and train.planes == test.planes
    assert train.initial().shape == test.initial().shape
    again, other = (split(folder, 0.3, seed)[1] for seed in (1, 2))
    assert [w.name for w in again.worlds] == names[1] != [w.name for w in other.worlds]
    assert len(split(folder, 0.01, 0)[1].worlds) == 1 and len(split(folder, 0.99, 0)[0].worlds) == 1


def test_a_held_out_world_looks_the_same_in_any_part(folder):
    train, test = split(folder, 0.3, 1)
    every = load(folder)
    where = [world.name for world in every.worlds]
    for part in (train, test):
        rows = starts(part, (np.arange(len(part.worlds)) + 0.5) / len(part.worlds))
        own = [where.index(world.name) for world in part.worlds]
        same = starts(every, (np.array(own) + 0.5) / len(where))
        assert np.array_equal(part.encode(rows), every.encode(same))


def test_what_a_run_keeps_makes_the_same_ensemble(folder):
    train, test = split(folder, 0.3, 1)
    again = from_configs(train.name, read_folder(folder), held_out([w.name for w in load(folder).worlds], 0.3, 1))
    assert again.planes == train.planes and [w.digest for w in again.worlds] == [w.digest for w in train.worlds]
    assert not {w.name for w in test.worlds} & {w.name for w in again.worlds}


def test_people_of_each_world_follow_its_own_prior(three):
    prior = make_prior("exact", three, PowerParams(), steps=0, seed=0, say=print)
    assert isinstance(prior, MemberPriors)
    rows = starts(three, np.array([0.9, 0.0, 0.5, 0.1]))
    found = prior(rows, np.zeros(4, int))
    for i, m in enumerate((2, 0, 1, 0)):
        own = make_prior("exact", three.worlds[m], PowerParams(), steps=0, seed=0, say=print)
        assert np.array_equal(found[i], own(three.worlds[m].initial()[None], np.zeros(1, int))[0])
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    prior.load_state(prior.state())


def test_the_horizon_can_be_changed_for_all(three):
    longer = three.with_horizon(9)
    assert longer.horizon == 9 == longer.worlds[2].horizon and longer.planes == three.planes


def test_what_does_not_go_together_is_one_line(three, tmp_path, folder):
    first, *others = made()
    cases = (
        ({"max_steps": 6}, "east and other cannot be worlds of one ensemble: their steps differ: 5 and 6"),
        ({"map": "Ay Ay Ae", "orientations": ["e"] * 3}, "their humans differ: 1 and 2"),
        ({"map": "Ay Ae Ae", "orientations": ["e"] * 3}, "their robots differ: 1 and 2"),
        ({"map": "Ay Ab Ae", "orientations": ["e"] * 3}, "other: in an ensemble every agent is a human or a robot"),
        ({"possible_goals": ["0,0", "1,0,2,0"]}, "goals differ: 3 and 2"),
        ({"action_class": "minimal"}, "actions differ: still, left, .* and forward, left"),
    )
    for change, words in cases:
        with pytest.raises(UserError, match=words):
            Ensemble("e", [first, GridWorld.from_config({"action_class": "object"} | SMALL["east"] | change, "other")])
    with pytest.raises(UserError, match="east and late cannot be worlds of one ensemble: their steps differ: 5 and 6"):
        from_configs("e", {"east": SMALL["east"], "late": SMALL["east"] | {"max_steps": 6}}, without=["late"])
    with pytest.raises(UserError, match="there is no world in it"):
        Ensemble("e", [])
    with pytest.raises(UserError, match="solved one by one"):
        three.compile()
    with pytest.raises(UserError, match="has no YAML file"):
        load(tmp_path / "nowhere")
    for share in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match="must lie between 0 and 1"):
            split(folder, share, 0)
    with pytest.raises(UserError, match="w0: to hold out a world, at least 2 are needed"):
        held_out(["w0"], 0.5, 0)
    with pytest.raises(UserError, match="world 'west' is none of east, key, block"):
        three.parse({"world": "west"})
    for unknown, words in ((others[0], "larger than the 3 x 1"), (others[1], "larger than the 3 x 1")):
        with pytest.raises(UserError, match=words):
            Ensemble("e", [unknown], planes_of([first]))
    wide = GridWorld.from_config({"map": "Ay .. .. ..\n.. .. .. Ae", "max_steps": 5}, "wide")
    with pytest.raises(UserError, match=r"key: none of the worlds .* has a door like its own"):
        Ensemble("e", [others[0]], planes_of([wide]))
