"""A learned policy, judged exactly: its values in every state of a world that can be compiled."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from apportion.cli import main
from apportion.power.evaluate import policy_name, policy_of
from apportion.power.grid.world import load_world
from apportion.power.params import PowerParams
from apportion.power.reach import states_at
from apportion.power.runs import open_run
from apportion.power.solve import solve
from apportion.types import UserError
from power_runs_for_tests import trained

pytestmark = pytest.mark.unchecked


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(
        tmp_path_factory.mktemp("policy") / "run", "trivial", horizon="5", check="never", params=PowerParams(xi=2.0)
    )


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(capsys, *words):
    code = main(["power", "evaluate", *words, "--cache", "none"])
    found = capsys.readouterr()
    return code, found.out, found.err


def test_the_policy_in_compiled_states_is_the_solution_where_tables_have_converged(run):
    compiled = load_world("trivial").with_horizon(5).compile()
    solution, policy = solve(compiled, PowerParams(xi=2.0)), policy_of(str(run), compiled)
    for t, states in zip(range(5), states_at(compiled), strict=False):
        n = compiled.reached(t)
        pi = policy(t, n)
        assert pi.shape == (n, 4) and pi.dtype == np.float64
        assert np.abs(pi.sum(1) - 1).max() < 1e-12
        assert np.abs(pi[states] - solution.at(t).pi[states]).max() < 1e-4
    assert np.abs(policy(1, compiled.reached(1))[0] - 0.25).max() > 0.05  # and it is no uniform one


def test_its_exact_values_are_told_under_the_parameters_and_steps_that_it_learned_with(run, place, capsys):
    code, out, err = evaluate(capsys, "trivial", "--policy", str(run), "--json")
    assert code == 0, err
    told = json.loads(out)
    assert told["horizon"] == 5 and told["params"]["xi"] == 2.0
    assert told["share"] == pytest.approx(1, abs=1e-4)
    assert told["V_r"]["uniform"] < told["V_r"]["solved"]
    assert told["initial_state"]["X_h"]["1"] == pytest.approx(
        solve(load_world("trivial").with_horizon(5).compile(), PowerParams(xi=2.0)).at(0).x[0, 0], rel=1e-4
    )
    judged = open_run(Path(told["run"])).solution  # a run of its own, in every state
    assert judged.policy.startswith("run ") and judged.at(0).v[0] == told["V_r"][str(run)]


def test_a_run_that_learned_nothing_is_worth_what_uniform_is(tmp_path, place, capsys):
    """All its Q_r are alike: the estimators start there, and are not moved."""
    run = trained(tmp_path / "new", "trivial", horizon="5", check="never", updates_per_step=0.0)
    told = json.loads(evaluate(capsys, "trivial", "--policy", str(run), "--json")[1])
    assert told["V_r"][str(run)] == pytest.approx(told["V_r"]["uniform"], rel=1e-12)
    assert told["share"] == pytest.approx(0, abs=1e-12)


def test_another_world_or_another_horizon_is_refused(run, place, capsys):
    refused = {"freeing": "is a policy for another world (trivial)", "trivial": "another horizon (5 there, 4 here)"}
    for (world, words), steps in zip(refused.items(), ("5", "4"), strict=True):
        code, _, err = evaluate(capsys, world, "--horizon", steps, "--policy", str(run))
        assert code == 2 and words in err
        assert err.strip().count("\n") == 0


def test_a_run_of_another_verb_is_no_policy(tmp_path, capsys):
    (tmp_path / "config.json").write_text('{"kind": "FitConfig"}')
    code, _, err = evaluate(capsys, "trivial", "--policy", str(tmp_path))
    assert code == 2 and "is no run of apportion power" in err


def test_a_world_whose_steps_are_its_own_can_be_judged(tmp_path, place, capsys):
    run = trained(tmp_path / "bare", "power_runs_for_tests:Bare", check="never")
    for words in ([], ["--horizon", "4"]):
        code, out, err = evaluate(capsys, "power_runs_for_tests:Bare", "--policy", str(run), "--json", *words)
        assert code == 0, err
        assert json.loads(out)["share"] == pytest.approx(1, abs=1e-4)
    with pytest.raises(UserError, match="another world"):
        policy_of(str(run), load_world("corridor").with_horizon(4).compile())


def test_each_world_of_a_folder_is_judged_by_its_own_file_also_those_held_out(tmp_path, place, capsys):
    (place / "maps").mkdir()
    rows = "We We We We We We\nWe {} We\nWe We Ay We We We\nWe We We We We We\n"
    for i, row in enumerate(("Ae Ro .. ..", "Ae .. Ro ..", ".. Ae Ro ..")):
        text = "".join(f"  {line}\n" for line in rows.format(row).splitlines())
        (place / f"maps/w{i}.yaml").write_text(f"map: |\n{text}max_steps: 6\n")
    run = trained(place / "run", "maps", held_out=0.34, check="never", num_episodes=100)
    (held,) = json.loads((run / "world.json").read_text())["held_out"]
    shares = {}
    for i in range(3):
        code, out, err = evaluate(capsys, f"maps/w{i}.yaml", "--policy", str(run), "--json")
        assert code == 0, err
        shares[f"w{i}"] = json.loads(out)["share"]
    assert shares.pop(held) < 0.9  # tables know nothing of states that they never saw
    assert list(shares.values()) == pytest.approx([1, 1], abs=1e-3)
    assert evaluate(capsys, "trivial", "--policy", str(run))[0] == 2


def test_a_policy_that_was_trained_further_has_another_name(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    assert policy_name(str(copy)) == policy_name(str(run))
    newest = max((copy / "checkpoints").iterdir())
    shutil.rmtree(newest)
    assert policy_name(str(copy)) != policy_name(str(run)) and policy_name(str(copy)).startswith("run ")


def test_evaluate_of_such_a_run_says_which_verb_is_meant(run, capsys):
    assert main(["evaluate", str(run)]) == 2
    err = capsys.readouterr().err.strip()
    assert f"apportion power play {run}" in err and "apportion power evaluate trivial --policy" in err
    assert "\n" not in err
