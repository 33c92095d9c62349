"""Properties on random small grid worlds with all kinds of cells: the package's steps are the oracle's, exactly."""

import copy
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from power_for_tests import both, oracle_state, same_step

FLOORS = [".."] * 6 + ["Un"] * 3 + ["La", "Bu", "Or", "Gg", "Sw"]
THINGS = ["Bl"] * 3 + ["Ro"] * 3 + ["Kr", "Kg", "Bg", "Xp"]
DEVICES = ["Wr", "Cr", "Lr", "Lg", "Kb", "Ps", "Pa", "dK", "dP", "dC", "CB", "Ma", "Mw", "Me", "Mn", "Ms"]
FEW = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
SEEDS = st.integers(0, 2**32)


def random_config(rng, most_agents=3):
    """A small, crowded map with all kinds of cells, and all settings of the rules."""
    width, height = rng.choice([(3, 2), (4, 2), (3, 3), (4, 3), (6, 1), (2, 4)])
    cells = rng.choices([FLOORS, THINGS, DEVICES], [6, 2, rng.choice([0, 2])], k=width * height)
    cells = [rng.choice(codes) for codes in cells]
    places = rng.sample(range(width * height), rng.choice([1, *range(2, most_agents + 1)]))
    for k, place in enumerate(places):
        cells[place] = "Ay" if k == 0 else rng.choice(["Ay", "Ae", "Ae"])
    return {
        "map": "\n".join(" ".join(cells[y * width : (y + 1) * width]) for y in range(height)),
        "max_steps": 4,
        "orientations": rng.choices("eswn", k=len(places)),
        "can_push_rocks": rng.choice(["e", "ye", "y"]),
        "can_enter_magic_walls": rng.choice(["", "e", "ye"]),
        "stumble_probability": rng.choice([0.5, 0.25, 0.0, 1.0]),
        "solidify_probability": rng.choice([0.125, 0.0, 1.0]),
        "enter_bush_success_prob": rng.choice([0.75, 0.5, 1.0, 0.0]),
        "possible_goals": [[0, 0, width - 1, height - 1]],
        "goals_cover": False,
    } | rng.choice([{}, {}, {"action_class": "full"}, {"action_class": "minimal"}])


def random_state(world, rng):
    """Agents and things anywhere, turned, dead, paused, laden, forced; devices in any position."""
    words = copy.deepcopy(world.describe(world.initial()))
    agents, things, actions = words["agents"], words["mobile_objects"], len(world.actions[0])
    ground = [
        (x, y)
        for y, row in enumerate(world.layout.codes)
        for x, code in enumerate(row)
        if code in (*FLOORS, *THINGS, "Ay", "Ae")
    ]
    for one, cell in zip([*agents, *things], rng.sample(ground, len(agents) + len(things)), strict=True):
        one["x"], one["y"] = cell
    for agent in agents:
        agent["dir"] = rng.choice([d for d in range(4) if ahead(world, agent, d) not in ("", "Wr")] or [0])
        agent["terminated"], agent["paused"] = rng.random() < 0.08, rng.random() < 0.08
        agent["forced_next_action"] = rng.choice([None] * 9 + [rng.randrange(actions)])
        portable = [thing for thing in things if thing["type"] in ("key", "ball", "box")]
        if portable and rng.random() < 0.4:
            thing = rng.choice(portable)
            things.remove(thing)
            agent["carrying"], agent["carrying_color"] = thing["type"], thing["color"]
    laden = [(thing["x"], thing["y"]) for thing in things]
    taken = laden + [(agent["x"], agent["y"]) for agent in agents]
    for device in words["mutable_objects"]:
        what, cell = device[0], tuple(device[1:3])
        if what == "door":
            is_open = cell in taken or rng.random() < 0.5
            device[3:] = [is_open, not is_open and rng.random() < 0.5]
        elif what == "pause_switch":
            device[3:] = [rng.random() < 0.5, rng.random() < 0.7]
        elif what == "control_button":
            who = rng.choice([None, rng.randrange(len(agents))])
            record = None if who is None else rng.choice([None, rng.randrange(actions)])
            device[3:] = [rng.random() < 0.7, who, record, who is not None and rng.random() < 0.5]
        else:  # a bush, magic wall or kill button
            device[3] = (what == "bush" and cell in laden) or rng.random() < 0.6
    return world.parse(words)


def ahead(world, agent, direction):
    """The code that the map has beyond the agent's cell; nothing outside."""
    x, y = agent["x"] + [1, 0, -1, 0][direction], agent["y"] + [0, 1, 0, -1][direction]
    inside = 0 <= x < world.layout.width and 0 <= y < world.layout.height
    return world.layout.codes[y][x] if inside else ""


def apt_joint(world, state, rng):
    """Everybody's action at random, often one that fits what lies ahead."""
    names, joint = world.actions[0], []
    words = world.describe(state)
    lying = {(t["x"], t["y"]) for t in words["mobile_objects"] if t["type"] in ("key", "ball", "box")}
    for agent in words["agents"]:
        code = ahead(world, agent, agent["dir"])
        dx, dy = [(1, 0), (0, 1), (-1, 0), (0, -1)][agent["dir"]]
        fits = "toggle" if code in DEVICES else "forward"
        if (agent["x"] + dx, agent["y"] + dy) in lying:
            fits = rng.choice(["pickup", "pickup", "forward", "toggle"])
        elif agent["carrying"] and rng.random() < 0.4:
            fits = "drop"
        if code.startswith("M") or rng.random() < 0.1:
            fits = "forward"
        joint.append(names.index(fits) if fits in names and rng.random() < 0.7 else rng.randrange(len(names)))
    return joint


def some_steps(world, oracle, rng, states=6, joints=6):
    """(state, joint action, outcomes) of random walks; each step is compared with the oracle's."""
    for _ in range(states):
        state = random_state(world, rng)
        for _ in range(joints):
            joint = apt_joint(world, state, rng)
            found = same_step(world, oracle, state, joint)
            yield state, joint, found
            if rng.random() < 0.3:
                state = rng.choice([after for after, _ in found.values()])


def every_step_is_the_oracles(seed):
    rng = random.Random(seed)
    world, oracle = both(random_config(rng))
    for _, _, found in some_steps(world, oracle, rng):
        assert sum(p for _, p in found.values()) == pytest.approx(1, abs=1e-12)
        assert all(p > 0 for _, p in found.values())


@settings(FEW, max_examples=60)
@given(SEEDS)
def test_every_step_is_the_oracles(seed):
    every_step_is_the_oracles(seed)


@pytest.mark.long
@settings(FEW, max_examples=2000)
@given(SEEDS)
def test_every_step_of_many_worlds_is_the_oracles(seed):
    every_step_is_the_oracles(seed)


@FEW
@given(SEEDS)
def test_a_description_is_read_back_as_the_same_state(seed):
    rng = random.Random(seed)
    config = random_config(rng)
    world, oracle = both(config)
    for state, _, _ in some_steps(world, oracle, rng, 2, 4):
        words = world.describe(state)
        assert np.array_equal(world.parse(words), state)
        assert np.array_equal(world.parse({**words, "step_count": 3}), state)


@FEW
@given(SEEDS)
def test_an_answer_depends_on_state_and_action_alone(seed):
    rng = random.Random(seed)
    config = random_config(rng)
    world, oracle = both(config)
    asked = [(state, joint) for state, joint, _ in some_steps(world, oracle, rng, 2, 4)]
    first = [world.transitions(state, np.array(joint)) for state, joint in asked]
    fresh, _ = both(config)
    for (state, joint), (states, probs) in reversed(list(zip(asked, first, strict=True))):
        before = state.copy()
        again, same = fresh.transitions(state, np.array(joint))
        assert np.array_equal(states, again)
        assert np.array_equal(probs, same)
        assert np.array_equal(state, before)


@FEW
@given(SEEDS)
def test_a_batch_answers_like_one_at_a_time(seed):
    rng = random.Random(seed)
    config = random_config(rng)
    world, oracle = both(config)
    asked = [(state, joint) for state, joint, _ in some_steps(world, oracle, rng, 2, 4)]
    found = world.successors(np.stack([s for s, _ in asked]), np.array([j for _, j in asked]))
    for k, (state, joint) in enumerate(asked):
        states, probs = world.transitions(state, np.array(joint))
        assert np.array_equal(found.states[found.offsets[k] : found.offsets[k + 1]], states)
        assert np.array_equal(found.probs[found.offsets[k] : found.offsets[k + 1]], probs)


@settings(FEW, max_examples=30)
@given(SEEDS)
def test_sampled_steps_come_as_often_as_the_probabilities_say(seed):
    rng = random.Random(seed)
    config = random_config(rng)
    world, oracle = both(config)
    draws = 800
    noise = (np.arange(draws) + 0.5) / draws  # evenly spread: a count is off by one at most
    for state, joint, found in some_steps(world, oracle, rng, 2, 4):
        sampled = world.sample(np.tile(state, (draws, 1)), np.tile(joint, (draws, 1)), noise)
        counts = Counter(row.tobytes() for row in sampled)
        assert set(counts) == {after.tobytes() for after, _ in found.values()}
        for after, p in found.values():
            assert counts[after.tobytes()] == pytest.approx(p * draws, abs=1.01)


@settings(FEW, max_examples=30)
@given(SEEDS)
def test_the_compiled_world_holds_every_state_once_and_the_oracles_transitions(seed):
    rng = random.Random(seed)
    world, oracle = both({**random_config(rng, 2), "max_steps": 2})
    compiled = world.compile(max_states=200_000)
    names = [oracle_state(oracle, world.describe(row)) for row in compiled.states]
    assert len(set(names)) == len(names)
    joints = list(np.ndindex(*compiled.n_actions))
    for s in rng.sample(range(compiled.expanded), min(6, compiled.expanded)):
        for j in rng.sample(range(len(joints)), min(8, len(joints))):
            row = s * len(joints) + j
            entries = slice(int(compiled.indptr[row]), int(compiled.indptr[row + 1]))
            found = dict(zip(compiled.indices[entries].tolist(), compiled.probs[entries].tolist(), strict=True))
            expected = oracle.successors(names[s], joints[j])
            assert {names[k]: p for k, p in found.items()} == pytest.approx(expected)
