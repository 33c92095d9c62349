"""Grid worlds from YAML: what each cell means, settings, goals, and what is said of slips."""

import importlib
import os
import runpy
import sys
import time

import numpy as np
import pytest

from apportion.power.grid.jit import claim
from apportion.power.grid.parse import read_yaml
from apportion.power.grid.world import GridWorld, load_world, shipped_worlds
from apportion.types import UserError

ROOM = "We We We We We\nWe Ay .. Ae We\nWe .. .. .. We\nWe We We We We\n"


def world(map_=ROOM, **settings):
    return GridWorld.from_config({"map": map_, **settings}, "w")


def refusal(map_=ROOM, **settings):
    with pytest.raises(UserError) as error:
        world(map_, **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_object_is_read_where_it_is():
    state = world(
        "Ay Bl Ro Bu La Sw Un\nLr Cg Op Kr By Xe Gp\nMn Kb Pa Dk dP DC CB\nMa Ki Ps dK Dp dC Ae\nBb .. .. .. .. .. ..",
        goals_cover=False,
    )
    found = state.describe(state.initial())
    assert [(a["color"], a["x"], a["y"], a["dir"]) for a in found["agents"]] == [("yellow", 0, 0, 0), ("grey", 6, 3, 0)]
    assert found["mobile_objects"] == [
        {"type": "block", "x": 1, "y": 0},
        {"type": "rock", "x": 2, "y": 0},
        {"type": "key", "x": 3, "y": 1, "color": "red"},
        {"type": "ball", "x": 0, "y": 4, "color": "blue"},
        {"type": "ball", "x": 4, "y": 1, "color": "yellow"},
        {"type": "box", "x": 5, "y": 1, "color": "grey"},
    ]
    assert found["mutable_objects"] == [
        ["bush", 3, 0, False],
        ["door", 0, 1, False, True],  # open, locked
        ["door", 1, 1, False, False],
        ["door", 2, 1, True, False],
        ["magic_wall", 0, 2, True],
        ["kill_button", 1, 2, True],  # Kb is a kill button, never a blue key
        ["pause_switch", 2, 2, False, True],  # on, enabled
        ["control_button", 6, 2, True, None, None, False],  # enabled, agent, recorded action, awaiting
        ["magic_wall", 0, 3, True],
        ["kill_button", 1, 3, True],
        ["pause_switch", 2, 3, False, True],
    ]
    assert state.layout.goal_tiles == ((6, 1, 3),)
    assert state.layout.switch_tiles == ((5, 0),)


def test_agents_are_numbered_in_reading_order_and_named_by_role():
    three = world("We Ay Ae\nAy .. ..")
    assert (three.humans, three.robots) == ((0, 2), (1,))
    assert three.agents == ("human 0", "robot", "human 1")


def test_colours_of_humans_and_robots_can_be_told():
    told = world("Ar Ae Ag", humans="r", robots="eg")
    assert (told.humans, told.robots) == ((0,), (1, 2))
    assert "agent 0 is a human and a robot" in refusal("Ar Ae", humans="r", robots="er")


def test_an_agent_that_is_neither_loads_with_a_warning_and_is_not_compiled():
    odd = world("Ay Ar ..")
    assert odd.settings.warnings == (
        "agent 1: neither human (yellow) nor robot (grey); humans: yr makes humans of them",
    )
    with pytest.raises(UserError, match="agent 1 is neither a human nor a robot"):
        odd.compile()


@pytest.mark.parametrize(
    ("orientations", "dirs"),
    [
        (None, [0, 0]),
        (["s", "n"], [1, 3]),
        (["w"], [2, 0]),
        ([3, 2], [3, 2]),
        ("n", [3, 0]),
        ("default: all east", [0, 0]),
    ],
)
def test_orientations(orientations, dirs):
    turned = world(orientations=orientations)
    assert [a["dir"] for a in turned.describe(turned.initial())["agents"]] == dirs


def test_orientations_that_make_no_sense():
    assert refusal(orientations=["x"]) == "w: orientations entry 1: e, s, w, n or 0 to 3 is needed, not 'x'"
    assert "agents: 2; those beyond change nothing" in world(orientations=["e", "e", "s"]).settings.warnings[0]


@pytest.mark.parametrize(
    ("goal", "name"),
    [
        ("1,1", "ReachCell((1, 1))"),
        ("1,2, 3,2", "ReachRect((1, 2, 3, 2))"),
        ([1, 2], "ReachCell((1, 2))"),
        ([1, 1, 3, 2], "ReachRect((1, 1, 3, 2))"),
        ([[1, 1], [2, 2]], "ReachRect((1, 1, 2, 2))"),
        ("3,2,1,1", "ReachRect((1, 1, 3, 2))"),  # any two corners
    ],
)
def test_goals_in_every_form(goal, name):
    assert world(possible_goals=[goal], goals_cover=False).goals == (name,)


def test_without_a_list_every_walkable_cell_is_a_goal_with_the_same_weight():
    w = world("Ay La Bl\nWe Lr Ki", possible_goals=None)
    assert w.goals == ("ReachCell((0, 0))", "ReachCell((2, 0))", "ReachCell((1, 1))")
    np.testing.assert_allclose(w.goal_weights, [1 / 3] * 3)


def test_cells_without_a_goal_are_named_and_can_be_accepted():
    message = refusal(possible_goals=["1,1", "2,1", "1,2, 2,2"])
    assert "possible_goals leave 2 cells without a goal: (3, 1), (3, 2)" in message
    assert "goals_cover: false" in message
    assert len(world(possible_goals=["1,1"], goals_cover=False).goals) == 1


def test_lava_devices_and_cells_that_no_human_can_come_to_need_no_goal():
    covered = "Ay La Lr\n.. Bu Ki\nWe We We\n.. .. Ae"
    assert len(world(covered, possible_goals=["0,0", "0,1"]).goals) == 2
    assert "(2, 0)" in refusal("Ay Lr ..", possible_goals=["0,0"])  # behind the door, which may open


def test_goals_out_of_reach_and_double_ones_are_warned_of():
    far = world("Ay .. We ..", possible_goals=["0,0, 1,0", "3,0", "2,0", "1,0,0,0"])
    assert far.settings.warnings == (
        "possible_goals entry 4: ReachRect((0, 0, 1, 0)) is there already; it counts once",
        "possible_goals: no human can ever reach ReachCell((3, 0)), ReachCell((2, 0))",
    )
    assert len(far.goals) == 3


@pytest.mark.parametrize(
    ("goals", "message"),
    [
        (["1,1", "x"], "possible_goals entry 2: 'x' is no cell or rectangle"),
        ([[1, 1, 2]], "entry 1: [1, 1, 2] is no cell or rectangle"),
        ([[1.5, 1]], "entry 1: [1.5, 1] is no cell or rectangle"),
        (["1,1", "9,1"], "entry 2: cell (9, 1) is outside the map of 5 x 4 cells"),
        ([], "a list with one goal or more is needed"),
        ("1,1", "a list with one goal or more is needed"),
    ],
)
def test_goals_that_cannot_be_read(goals, message):
    assert message in refusal(possible_goals=goals)


@pytest.mark.parametrize(
    ("map_", "count"),
    [("Ay .. Un La Bu Ro Bl Ma Sw Gr", 4), ("Ay Kr", 7), ("Ay Cr", 7), ("Ay Ki", 7), ("Ay dK", 7), ("Ay CB", 7)],
)
def test_action_set_follows_from_the_map(map_, count):
    assert len(world(map_).actions[0]) == count


@pytest.mark.parametrize(
    ("name", "actions", "still"),
    [
        ("SmallActions", ("still", "left", "right", "forward"), 0),
        ("object", ("still", "left", "right", "forward", "pickup", "drop", "toggle"), 0),
        ("Actions", ("still", "left", "right", "forward", "pickup", "drop", "toggle", "done"), 0),
        ("MinimalActions", ("forward", "left"), None),
    ],
)
def test_action_sets_by_name(name, actions, still):
    w = world(action_class=name)
    assert w.actions == (actions, actions)
    assert w.still == (still, still)


def test_forward_is_action_0_of_the_minimal_set():
    w = world("Ay ..", action_class="minimal")
    states, _ = w.transitions(w.initial(), np.array([0]))
    np.testing.assert_array_equal(w.positions(states), [[[1, 0]]])


def test_horizon():
    assert world().horizon == 100
    assert world(max_steps=7).horizon == 7
    assert world(max_steps=None).horizon is None
    assert world(max_steps=7).with_horizon(3).horizon == 3
    assert not world().terminal(world().initial()[None]).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_steps": 0}, "max_steps: a whole number of 1 or more is needed"),
        ({"max_steps": "ten"}, "max_steps: a whole number of 1 or more is needed (null: no end), not 'ten'"),
        ({"stumble_probability": 1.2}, "stumble_probability: a probability from 0 to 1 is needed, not 1.2"),
        ({"solidify_probability": "a"}, "solidify_probability: a probability from 0 to 1"),
        ({"enter_bush_success_prob": float("nan")}, "enter_bush_success_prob: a probability from 0 to 1"),
        ({"can_push_rocks": "ez"}, "can_push_rocks: colour letters out of r g b p y e are needed, not 'ez'"),
        ({"can_push_rocks": False}, "can_push_rocks: colour letters"),
        ({"action_class": "smal"}, "action_class: unknown 'smal'; did you mean small?"),
        ({"actions": ["fly"]}, "actions: ['fly'] is no action set"),
        ({"goals_cover": "no"}, "goals_cover: true or false is needed"),
        ({"box_contents": {"1,1": "red key"}}, "box_contents: there is no box on cell '1,1'"),
    ],
)
def test_settings_out_of_range(settings, message):
    assert message in refusal(**settings)


@pytest.mark.parametrize(
    ("map_", "message"),
    [
        ("We We\nWe Qz", "w: map row 2, column 2: unknown cell 'Qz'"),
        ("Ay wE ..", "row 1, column 2: unknown cell 'wE'; did you mean We?"),
        ("Ay .. ..\n.. ..", "map row 2 has 2 cells, the first row has 3"),
        ("Ay . ..", "row 1, column 2: '.' is not a cell"),
        ("We ..", "there is no agent"),
        ("", "map: rows of two-character cells are needed"),
        (17, "map: rows of two-character cells are needed"),
    ],
)
def test_maps_that_cannot_be_read(map_, message):
    assert message in refusal(map_)


def test_more_agents_than_outcomes_can_be_counted_for():
    assert "16 agents can have 43,046,721 outcomes in one step, more than 200,000" in refusal(
        " ".join(["Un", *["Ay"] * 16])
    )


def test_rows_without_blanks_and_lists_of_rows_are_read_as_well():
    spaced = world("We Ay ..\nWe We Ae")
    assert world("WeAy..\nWeWeAe").digest == spaced.digest
    assert world(["We Ay ..", "We We Ae"]).digest == spaced.digest


def test_unknown_keys_are_warned_of_with_the_nearest_known_one():
    odd = world(max_stEps=30, rocks_can_kill=True, seed=1, metadata={"author": "me"}, see_through_walls=True)
    assert odd.settings.warnings == (
        "unknown key 'max_stEps' does nothing; did you mean max_steps?",
        "unknown key 'rocks_can_kill' does nothing",
    )
    assert odd.horizon == 100


def test_a_missing_map_is_told():
    with pytest.raises(UserError, match="w: there is no map; is it 'Map'"):
        GridWorld.from_config({"Map": ROOM}, "w")


def test_files(tmp_path, capsys):
    file = tmp_path / "small.yaml"
    file.write_text("map: |\n  Ay .. Ae\nmax_stEps: 5\nmetadata:\n  created: 2025-01-01T00:00:00Z\n")
    assert load_world(file).name == "small"
    assert capsys.readouterr().err == f"{file}: unknown key 'max_stEps' does nothing; did you mean max_steps?\n"
    json_file = tmp_path / "values.json"
    json_file.write_text('{"config": {"map": "Ay .. Ae"}}')
    assert load_world(str(json_file)).digest == load_world(file).digest


def test_dates_stay_text_because_worlds_are_also_kept_as_json(tmp_path):
    file = tmp_path / "w.yaml"
    file.write_text("map: Ay\nmetadata: {created: 2025-01-01, version: 1.5}\n")
    assert read_yaml(file)["metadata"] == {"created": "2025-01-01", "version": 1.5}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ("{tags: !!set {a, b}}", "w.yaml: metadata.tags: a YAML set cannot be kept with a run: write a list"),
        ("{a: [1, {icon: !!binary aGVsbG8=}]}", "w.yaml: metadata.a[1].icon: a YAML bytes cannot be kept with a run"),
        ("{when: !!timestamp 2025-01-01}", "w.yaml: metadata.when: a YAML date cannot be kept with a run: write text"),
        ("{best: .inf}", "w.yaml: metadata.best: inf cannot be kept with a run"),
        ("{!!binary aGVsbG8=: 1}", "w.yaml: metadata: the key b'hello' cannot be kept with a run"),
        ("&me [*me]", "w.yaml: metadata[0]: it holds itself"),
        ("!!int many", "w.yaml: not valid YAML: a tag does not fit its value"),
        ("!!timestamp soon", "w.yaml: not valid YAML: a tag does not fit its value"),
    ],
)
def test_what_no_json_can_hold_is_refused_with_its_place(tmp_path, monkeypatch, metadata, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "w.yaml").write_text(f"map: Ay .. Ae\nmetadata: {metadata}\n")
    with pytest.raises(UserError) as error:
        load_world("w.yaml")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_what_json_can_hold_stays_as_it_is(tmp_path):
    file = tmp_path / "w.yaml"
    file.write_text("map: Ay\nmetadata: {a: &one [1, .5, null, true], b: *one, 3: {c: x}, d: *one}\n")
    one = [1, 0.5, None, True]
    assert read_yaml(file)["metadata"] == {"a": one, "b": one, 3: {"c": "x"}, "d": one}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.yaml", "map: [1, 2\nmax_steps: 3", "w.yaml:2:10: not valid YAML"),
        ("w.yaml", "- map", "a world is a mapping"),
        ("w.yaml", "", "a world is a mapping"),
        ("w.yaml", "a: " + "[" * 3_000, "nested too deeply"),
        ("w.yaml", "map: !!python/object/apply:os.system [ls]", "w.yaml:1:6: not valid YAML"),
        ("w.json", "{", "not valid JSON"),
        ("w.json", "[]", "no world in it"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError) as error:
        load_world(tmp_path / name)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "w.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read"):
        load_world(tmp_path / "w.yaml")


def test_worlds_by_name():
    assert load_world("trivial").name == "trivial"
    with pytest.raises(UserError, match="there is no world 'trivail'; did you mean trivial"):
        load_world("trivail")


@pytest.mark.parametrize("name", shipped_worlds())
def test_our_own_worlds_load(name, capsys):
    found = load_world(name)
    warned = capsys.readouterr().err
    assert warned == ""
    assert found.humans


def test_missing_packages_are_one_line_with_what_to_install(monkeypatch, tmp_path):
    (tmp_path / "w.yaml").write_text("map: Ay")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(UserError, match=r"grid worlds need PyYAML: pip install 'apportion\[power\]'"):
        load_world(tmp_path / "w.yaml")
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(UserError, match=r"grid worlds need numba: pip install 'apportion\[power\]'"):
        runpy.run_path(importlib.import_module("apportion.power.grid.jit").__file__)


def test_machine_code_of_other_sources_is_removed_when_nobody_used_it_for_a_month(tmp_path):
    month = time.time() - 31 * 86_400
    stamps = {name: tmp_path / name for name in ("a" * 16, "b" * 16, "c" * 16, "d" * 16, "notes")}
    for name, folder in stamps.items():
        (folder / "grid_0").mkdir(parents=True)
        (folder / "grid_0" / ("thesis.txt" if name == "d" * 16 else "loops.batch.nbi")).write_text("x")
        os.utime(folder, (month, month))
    os.utime(stamps["b" * 16])  # used today
    claim(stamps["c" * 16])
    assert {path.name for path in tmp_path.iterdir()} == {"b" * 16, "c" * 16, "d" * 16, "notes"}  # d is none of ours
    assert stamps["c" * 16].stat().st_mtime > month + 86_400 and (stamps["c" * 16] / "grid_0/loops.batch.nbi").exists()
    claim(tmp_path / "notes" / "grid_0" / "loops.batch.nbi" / "x")  # where nothing can be written it says nothing
