"""Questions about described states, and comparison with other answers."""

import copy
import dataclasses
import json

import numpy as np
import pytest

from apportion.power.asked import params_of, read_states
from apportion.power.enumerate import enumerate_world
from apportion.power.params import PowerParams
from apportion.power.query import answer, compare, describe
from apportion.power.solve import solve
from apportion.types import UserError
from power_table import random_world


@pytest.fixture(scope="module")
def solved():
    world = dataclasses.replace(random_world(0, sizes=(2, 3), humans=(1,), robots=(0,)), still=(0, None))
    return world, solve(enumerate_world(world), PowerParams(x_floor=1e-6))


def everything(solution):
    states = [
        {"number": int(n), "step_count": t} for t in range(5) for n in solution.compiled.states[: solution.at(t).n, 0]
    ]
    return {"initial_state": states[0], "other_states": states[1:]}


def test_an_answer_holds_the_values_of_that_state_at_that_time(solved):
    world, solution = solved
    number = int(solution.compiled.states[2, 0])
    told = answer(world, solution, {"other_states": [{"number": number, "step_count": 2}]})["other_states"][0]
    at = solution.at(2)
    assert told["step_count"] == 2 and told["number"] == number and told["terminal"] is False
    assert told["V_r"] == at.v[2] and told["U_r"] == at.u[2] and told["X_h"] == {"1": at.x[2, 0]}
    assert told["Q_r"] == at.q[2].tolist() and told["pi_r"] == at.pi[2].tolist()
    assert told["robot_action_profiles"] == [[0], [1]]
    assert told["V_h_e"] == {"1": dict(zip(world.goals, at.v_e[2, 0], strict=True))}
    assert [len(pi) for pi in told["pi_h_goal"]["1"].values()] == [3, 3]
    assert told["V_r_check"] == pytest.approx(told["V_r"], rel=1e-12)
    marginal = sum(w * np.array(pi) for w, pi in zip(world.goal_weights, told["pi_h_goal"]["1"].values(), strict=True))
    np.testing.assert_allclose(told["pi_h_marginal"]["1"], marginal)


def test_the_last_states_are_terminal(solved):
    world, solution = solved
    assert describe(world, solution, 4, 0) == {"step_count": 4, "number": 0, "terminal": True, "V_r": -1e-10}


def test_sums_and_counts_are_over_all_states_with_their_times(solved):
    world, solution = solved
    told = answer(world, solution, everything(solution))
    states = [told["initial_state"], *told["other_states"]]
    alive = [state for state in states if not state["terminal"]]
    sums = told["aggregates"]
    assert sums["sum_V_r_nonterminal"] == pytest.approx(sum(state["V_r"] for state in alive))
    assert sums["min_V_r"] == min(state["V_r"] for state in alive)
    assert sums["mean_max_pi_r"] == pytest.approx(np.mean([max(state["pi_r"]) for state in alive]))
    assert sums["sum_V_h_e"] == pytest.approx(sum(sum(state["V_h_e"]["1"].values()) for state in alive))
    assert told["num_states"] == len(states) == sum(told["states_per_step"].values())
    assert told["num_state_action_profiles"] == 6 * len(alive)


def test_answers_survive_json_and_equal_themselves(solved):
    world, solution = solved
    asked = everything(solution) | {
        "transition_samples": [{"state": {"number": 0, "step_count": 1}, "actions": [1, 2]}]
    }
    told = json.loads(json.dumps(answer(world, solution, asked)))
    assert all(d.relative == 0 for d in compare(told, answer(world, solution, told)))
    outcomes = told["transition_samples"][0]["outcomes"]
    assert {o["state"]["number"]: o["p"] for o in outcomes} == world.moves[0, (1, 2)]
    assert all(o["state"]["step_count"] == 2 for o in outcomes)


SPOILT = [
    ("V_r", lambda d: d["other_states"][0].update(V_r=d["other_states"][0]["V_r"] * (1 + 1e-5)), 1e-5),
    ("pi_r", lambda d: d["other_states"][1]["pi_r"].pop(), np.inf),
    ("X_h", lambda d: d["other_states"][1].pop("X_h") and d["other_states"][1].update(X_h={"0": 0.5}), np.inf),
    ("num_states", lambda d: d.update(num_states=d["num_states"] + 1), None),
    ("transitions", lambda d: d["transition_samples"][0]["outcomes"].pop(), np.inf),
]


@pytest.mark.parametrize(("field", "spoil", "size"), SPOILT)
def test_a_difference_is_found_in_its_field(solved, field, spoil, size):
    world, solution = solved
    asked = everything(solution) | {
        "transition_samples": [{"state": {"number": 0, "step_count": 1}, "actions": [1, 2]}]
    }
    told = answer(world, solution, asked)
    spoilt = copy.deepcopy(told)
    spoil(spoilt)
    found = {d.field: d.relative for d in compare(spoilt, told)}
    assert found[field] == pytest.approx(size, rel=1e-3) if size else found[field] > 1e-6
    assert all(relative == 0 for name, relative in found.items() if name != field)


def test_parameters_come_from_the_file_and_the_command_line_wins():
    asked = {"params": {"beta_h": 5.0, "gamma_h": 1.0, "terminal_Vr": -1e-10}, "duration_weight_on_U_r": 0.99}
    assert params_of(asked, {"beta_h": 7.0}) == PowerParams(beta_h=7.0, gamma_h=1.0, duration_weight=True)
    assert params_of({}, {}) == PowerParams()


UNKNOWN = [
    ({"number": 0}, r"other_states\[0\]: step_count, a whole number, is missing"),
    ({"number": 0, "step_count": 9}, r"other_states\[0\]: step_count 9 is not in \[0, 4\]"),
    ({"number": 77, "step_count": 1}, r"other_states\[0\]: the start does not lead to this state"),
    ({"number": 3, "step_count": 0}, r"other_states\[0\]: 0 steps from the start do not lead to this state"),
]


@pytest.mark.parametrize(("state", "words"), UNKNOWN)
def test_states_that_cannot_be_are_named(solved, state, words):
    with pytest.raises(UserError, match=words):
        answer(*solved, {"other_states": [state]})


def test_files_of_states_come_in_three_forms(tmp_path):
    file = tmp_path / "s.json"
    state = {"number": 0, "step_count": 1}
    for content in (state, [state], {"states": [state]}, {"other_states": [state]}):
        file.write_text(json.dumps(content))
        assert read_states(file)["other_states"] == [state]
    for content, words in (("{", "not valid JSON"), ("[1]", "each a mapping"), ('"x"', "a list of states")):
        file.write_text(content)
        with pytest.raises(UserError, match=words):
            read_states(file)
    with pytest.raises(UserError, match="cannot read"):
        read_states(tmp_path / "none.json")
