"""Files of states that hold the wrong things: one line each, with the place."""

import copy
import json

import pytest

from apportion.cli import main
from power_for_tests import reference

SPOILT = [
    ("params", lambda d: d.update(params=[1]), [], "ref.json: params: names and values are wanted, a mapping, not [1]"),
    ("params list", lambda d: d["params"].update(xi=[2]), [], "ref.json: params: xi [2]: a number is wanted"),
    ("params null", lambda d: d["params"].update(xi=None), [], "ref.json: params: xi None: a number is wanted"),
    ("params bool", lambda d: d["params"].update(xi=True), [], "ref.json: params: xi true: a number is wanted"),
    ("params word", lambda d: d["params"].update(xi="two"), [], "ref.json: params: xi two: a number is wanted"),
    ("params belief", lambda d: d["params"].update(robot_belief=["min"]), [], "params: robot_belief ['min']: choose"),
    ("weight", lambda d: d.update(duration_weight_on_U_r="x"), [],
     "ref.json: duration_weight_on_U_r: a number is wanted, not \"x\""),
    ("states number", lambda d: d.update(other_states=5), [], "ref.json: a list of states is wanted, each a mapping"),
    ("states mapping", lambda d: d.update(other_states={"a": 1}), [], "ref.json: a list of states is wanted"),
    ("one state", lambda d: d["other_states"].insert(1, 7), [], "ref.json: other_states[1] is 7: a list of states"),
    ("first state", lambda d: d.update(initial_state=None), [], "ref.json: initial_state is null: a list of states"),
    ("agents", lambda d: d["other_states"][2].update(agents=5), [],
     "other_states[2]: state: not a description of a state: agents: a list is wanted, not 5"),
    ("agent", lambda d: d["other_states"][2]["agents"].__setitem__(0, 5), [],
     "of a state: agents[0]: a mapping is wanted"),
    ("device", lambda d: d["other_states"][2].update(mutable_objects=[{}]), [],
     "of a state: mutable_objects[0]: a list is"),
    ("time", lambda d: d["initial_state"].update(step_count="0"), [], "initial_state: step_count, a whole number"),
    ("samples", lambda d: d.update(transition_samples={}), [], "transition_samples: a list is wanted, not {}"),
    ("sample", lambda d: d["transition_samples"].insert(0, 3), [], "transition_samples[0]: a mapping with state"),
    ("no state", lambda d: d["transition_samples"][1].pop("state"), [], "transition_samples[1]: a mapping with state"),
    ("its state", lambda d: d["transition_samples"][1].update(state=[]), [], "transition_samples[1].state: a state is"),
    ("its time", lambda d: d["transition_samples"][1]["state"].update(step_count="1"), [],
     "transition_samples[1].state: step_count: a whole number is wanted, not \"1\""),
    ("its agents", lambda d: d["transition_samples"][1]["state"].pop("agents"), [],
     "transition_samples[1].state: state: 'agents' is missing"),
    ("action", lambda d: d["transition_samples"][0]["actions"].__setitem__(1, 99), [],
     "transition_samples[0].actions[1]: human has actions 0 to 3, not 99"),
    ("below", lambda d: d["transition_samples"][0]["actions"].__setitem__(1, -1), [],
     "transition_samples[0].actions[1]: human has actions 0 to 3, not -1"),
    ("half", lambda d: d["transition_samples"][0]["actions"].__setitem__(0, 0.5), [],
     "transition_samples[0].actions[0]: robot has actions 0 to 3, not 0.5"),
    ("few", lambda d: d["transition_samples"][0]["actions"].pop(), [], "actions: one number of each of 2 agents"),
    ("word", lambda d: d["transition_samples"][0].update(actions="left"), [], "one number of each of 2 agents"),
    ("outcomes", lambda d: d["transition_samples"][0].pop("outcomes"), ["--compare"],
     "ref.json: transition_samples[0].outcomes: a list is wanted to compare with, not null"),
    ("outcome", lambda d: d["transition_samples"][0]["outcomes"][0].pop("p"), ["--compare"],
     "ref.json: transition_samples[0].outcomes[0]: a mapping with state and p is wanted"),
]  # fmt: skip


KINDS = [
    ("a run's record", lambda d: {"digest": "x", "policy": "solved", "params": {}}, [],
     "ref.json is the record of a run and describes no states"),
    ("agent", lambda d: [d["initial_state"], {"agent": [], "mobile_objects": []}], [],
     "ref.json: other_states[1]: unknown key agent; did you mean agents? A state of world has agents, mobile_objects,"),
    ("sates", lambda d: {"sates": []}, [], "ref.json: other_states[0]: unknown key sates; did you mean states?"),
    ("other_state", lambda d: {**d, "other_sttes": []}, [], "ref.json: unknown key other_sttes; did you mean other_st"),
    ("no time", lambda d: [without(d["initial_state"], "step_count")], [], "ref.json: other_states[0]: step_count, a"),
    ("a far time", lambda d: [{**d["initial_state"], "step_count": 99}], [],
     "ref.json: other_states[0]: step_count 99 is not in [0, 10]"),
    ("no values", lambda d: [state_of(d)], ["--compare"], "ref.json: there are no values to compare with; its states"),
    ("V_rr alone", lambda d: [{**state_of(d), "V_rr": 1}], ["--compare"], "V_rr is none; did you mean V_r?"),
    ("V_rr", lambda d: [{**d["initial_state"], "V_rr": 1}], ["--compare"],
     "ref.json: other_states[0]: unknown key V_rr; did you mean V_r? A state of"),
]  # fmt: skip


def without(state, *names):
    return {key: value for key, value in state.items() if key not in names}


def state_of(reference):
    """Its first state without any value."""
    names = ("step_count", "terminal", "agents", "mobile_objects", "mutable_objects")
    return {key: value for key, value in reference["initial_state"].items() if key in names}


@pytest.mark.parametrize(("content", "flags", "words"), [row[1:] for row in KINDS], ids=[row[0] for row in KINDS])
def test_a_file_of_another_kind_is_told_as_such(known, content, flags, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "world.json").write_text(json.dumps(known))
    (tmp_path / "ref.json").write_text(json.dumps(content(copy.deepcopy(known))))
    code = main(["power", "query", "world.json", "--states", "ref.json", "--cache", "none", *flags])
    err = [line for line in capsys.readouterr().err.splitlines() if "no human can ever reach" not in line]
    assert code == 2 and len(err) == 1 and err[0].startswith("apportion: ") and words in err[0]


@pytest.fixture(scope="module")
def known():
    return reference("trivial_T10")


@pytest.mark.parametrize(("spoil", "flags", "words"), [row[1:] for row in SPOILT], ids=[row[0] for row in SPOILT])
def test_what_is_ill_typed_is_one_line_with_its_place_and_nothing_is_solved(
    known, spoil, flags, words, tmp_path, monkeypatch, capsys
):
    def solves(*args, **kwargs):
        raise AssertionError("solved before the slip was told")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("apportion.power.query_cli.solve", solves)
    (tmp_path / "world.json").write_text(json.dumps(known))
    asked = copy.deepcopy(known)
    spoil(asked)
    (tmp_path / "ref.json").write_text(json.dumps(asked))
    code = main(["power", "query", "world.json", "--states", "ref.json", "--cache", "none", *flags])
    err = [line for line in capsys.readouterr().err.splitlines() if "no human can ever reach" not in line]
    assert code == 2 and len(err) == 1 and err[0].startswith("apportion: ") and words in err[0]


def test_a_reference_that_is_no_number_is_a_difference():
    from apportion.power.query import compare

    wanted, found = {"num_states": float("nan"), "aggregates": {"min_V_r": float("-inf")}}, {"num_states": 3}
    differences = {d.field: d.relative for d in compare(wanted, found | {"aggregates": {"min_V_r": float("-inf")}})}
    assert differences == {"num_states": float("inf"), "aggregates": 0.0}


def test_a_world_of_ones_own_that_cannot_read_a_state_is_named(tmp_path, monkeypatch, capsys):
    from apportion.power.asked import parsed
    from apportion.types import UserError
    from power_table import random_world

    with pytest.raises(UserError, match=r"other_states\[3\]: table cannot read this state \(KeyError: 'number'\)"):
        parsed(random_world(0), {"numbre": 1}, "other_states[3]")
