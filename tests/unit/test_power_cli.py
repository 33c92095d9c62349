"""`apportion power solve|evaluate|query` from end to end, on worlds with reference values of another implementation."""

import json
from pathlib import Path

import pytest

from apportion.cli import main
from apportion.power.runs import open_run
from power_for_tests import REFERENCES, reference

SMALL = """\
map: |
  We We We We We
  We Ae Ro .. We
  We We Ay We We
  We We We We We
max_steps: 7
possible_goals: ["1,1", "2,1", "3,1", "2,2"]
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def power(capsys, *words):
    """(exit code, stdout, stderr) of one command line; compiled worlds are not kept."""
    code = main(["power", *words, *(["--cache", "none"] if words[0] in ("solve", "evaluate", "query") else [])])
    out = capsys.readouterr()
    return code, out.out, out.err


@pytest.mark.parametrize("name", REFERENCES)
def test_one_command_holds_a_reference_file_against_the_solver(name, place, capsys):
    (place / "ref.json").write_text(json.dumps(reference(name)))
    code, out, _ = power(capsys, "query", "ref.json", "--states", "ref.json", "--compare", "--json")
    told = json.loads(out)
    # the reference tells two final states of this world apart that look the same in its own words
    known = {"num_states", "num_terminal_states", "states_per_step"} if name == "own_lava_block_T5" else set()
    assert code == (1 if known else 0) and told["equal"] is not bool(known)
    assert {field for field, found in told["fields"].items() if found["relative"] > 1e-10} == known
    assert {"V_r", "Q_r", "pi_r", "V_h_e", "X_h", "U_r", "states_per_step", "transitions"} <= told["fields"].keys()


def test_a_difference_has_exit_code_1(place, capsys):
    wrong = reference("own_no_robot_T5")
    wrong["initial_state"]["X_h"]["0"] *= 1.001
    (place / "ref.json").write_text(json.dumps(wrong))
    code, out, _ = power(capsys, "query", "ref.json", "--states", "ref.json", "--compare")
    assert code == 1 and "DIFFERENT: the largest relative difference is 1.0e-03" in out
    code, out, _ = power(capsys, "query", "ref.json", "--states", "ref.json", "--params", "xi=2", "--compare")
    assert code == 1


def test_query_answers_in_the_references_format(place, capsys):
    known = reference("own_no_robot_T5")
    (place / "ref.json").write_text(json.dumps(known))
    (place / "one.json").write_text(json.dumps(known["other_states"][3]))
    code, out, _ = power(capsys, "query", "ref.json", "--states", "one.json", "--params", "duration_weight=true")
    told = json.loads(out)["other_states"][0]
    assert code == 0 and told.keys() == known["other_states"][3].keys()
    assert told["V_r"] == pytest.approx(known["other_states"][3]["V_r"], rel=1e-12)


def test_solve_says_what_matters_and_leaves_a_run(place, capsys):
    code, out, _ = power(capsys, "solve", "small.yaml", "--beta-r", "5")
    assert code == 0
    for words in ("1 human, 1 robot, 4 goals, 7 steps", "with the time", "bits for human", "V_r", "runs/power-small"):
        assert words in out
    assert all(action in out for action in ("still", "left", "right", "forward"))
    run = open_run(Path("runs/power-small"))
    assert run.world.goals == tuple(f"ReachCell(({x}, {y}))" for x, y in ((1, 1), (2, 1), (3, 1), (2, 2)))
    assert run.world.horizon == 7 and run.solution.params.beta_r == 5
    assert (run.world.initial() == run.solution.compiled.states[0]).all()


def test_solve_as_json_holds_the_start_sizes_time_and_memory(place, capsys):
    code, out, _ = power(capsys, "solve", "small.yaml", "--json", "--name", "here", "--runs-dir", "kept")
    told = json.loads(out)
    assert code == 0 and told["run"] == "kept/power-here" and told["horizon"] == 7
    assert told["seconds"] > 0 and told["compile_seconds"] > 0 and told["peak_bytes"] > 10**7
    assert told["time_states"] >= told["states"] > 1
    start = told["initial_state"]
    assert start["bits"]["1"] == pytest.approx(open_run(Path("kept/power-here")).solution.at(0).bits[0, 0])
    assert sum(start["pi_r"]) == pytest.approx(1)


def test_the_same_command_again_finds_it_solved_and_other_parameters_are_refused(place, capsys):
    first = json.loads(power(capsys, "solve", "small.yaml", "--json")[1])
    again = json.loads(power(capsys, "solve", "small.yaml", "--json")[1])
    assert again["seconds"] == first["seconds"] and again["initial_state"] == first["initial_state"]
    code, _, err = power(capsys, "solve", "small.yaml", "--xi", "2")
    assert code == 2 and "something else (xi 1 there, 2 here): give another --name, like --name small-xi2" in err
    assert power(capsys, "solve", "small.yaml", "--xi", "2", "--name", "small-xi2")[0] == 0  # as it was told
    err = power(capsys, "solve", "small.yaml", "--horizon", "9")[2]
    assert "(horizon 7 there, 9 here)" in err and "--name small-horizon9" in err
    (place / "small.yaml").write_text(SMALL.replace("Ro", ".."))
    assert "(the map or its rules): give another --name, like --name small-2" in power(capsys, "solve", "small.yaml")[2]


def test_other_horizons_and_none(place, capsys):
    code, out, _ = power(capsys, "solve", "small.yaml", "--horizon", "2", "--name", "short", "--json")
    assert code == 0 and json.loads(out)["horizon"] == 2
    code, out, _ = power(capsys, "solve", "small.yaml", "--horizon", "none", "--name", "long", "--gamma-r", "0.8")
    assert code == 0 and "no end" in out and "converged: after" in out
    assert open_run(Path("runs/power-long")).world.horizon is None


def test_a_run_is_evaluated_between_the_uniform_policy_and_the_solution(place, capsys):
    power(capsys, "solve", "small.yaml", "--beta-r", "5")
    told = json.loads(power(capsys, "evaluate", "small.yaml", "--policy", "runs/power-small", "--json")[1])
    assert told["share"] == pytest.approx(1, abs=1e-12) and told["params"]["beta_r"] == 5
    told = json.loads(power(capsys, "evaluate", "small.yaml", "--policy", "uniform", "--json")[1])
    assert told["share"] == 0 and told["initial_state"]["pi_r"] == [0.25] * 4
    code, out, _ = power(capsys, "evaluate", "small.yaml", "--policy", "do-nothing")
    assert code == 0 and "of what the solution gains over acting at random" in out


def test_a_run_of_another_world_is_refused(place, capsys):
    power(capsys, "solve", "small.yaml")
    (place / "other.yaml").write_text(SMALL.replace("Ro", ".."))
    code, _, err = power(capsys, "evaluate", "other.yaml", "--policy", "runs/power-small")
    assert code == 2 and "a policy for another world" in err


def test_a_run_of_another_horizon_is_refused_with_both(place, capsys):
    power(capsys, "solve", "small.yaml")
    code, _, err = power(capsys, "evaluate", "small.yaml", "--policy", "runs/power-small", "--horizon", "9")
    assert code == 2 and "is for another horizon (7 there, 9 here): leave --horizon out" in err


def test_a_sweep_without_an_end_says_of_each_point_whether_it_converged(place, capsys):
    words = ("solve", "small.yaml", "--horizon", "none", "--gamma-r", "0.8", "--gamma-h", "0.8", "--sweep", "xi=1,2")
    code, out, _ = power(capsys, *words)
    assert code == 0 and "\nxi=1: converged: after" in out and "\nxi=2: converged: after" in out


def test_a_folder_over_runs_and_a_sweep_say_what_they_are(place, capsys):
    power(capsys, "solve", "small.yaml", "--sweep", "xi=1,2")
    assert "runs/power-small-sweep is a sweep" in power(capsys, "report", "runs/power-small-sweep")[2]
    power(capsys, "solve", "small.yaml")
    code, _, err = power(capsys, "report", "runs")
    assert code == 2 and "runs is no run, but holds some: give one of runs/power-small\n" in err


def test_the_head_of_a_page_without_an_end_says_whether_it_converged(place, capsys):
    power(capsys, "solve", "small.yaml", "--horizon", "none", "--gamma-r", "0.8", "--gamma-h", "0.8", "--xi", "2")
    assert power(capsys, "report", "runs/power-small", "--courses", "1", "--steps", "1")[0] == 0
    head = Path("runs/power-small/report.html").read_text().split('<table id="facts">')[1].split("</table>")[0]
    assert "<td>horizon, xi</td><td>none, 2</td>" in head and "converged: after" in head and "residual is" in head
    assert "<td>V_r at the start</td><td>\N{MINUS SIGN}" in head


def test_compiled_worlds_are_kept_where_caches_are(place, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "kept"))
    assert main(["power", "solve", "small.yaml"]) == 0
    assert [path.suffix for path in (place / "kept/apportion/power").iterdir()] == [".npz"]


def test_a_sweep_is_a_table_and_pictures(place, capsys):
    words = ("solve", "small.yaml", "--sweep", "xi=1,2", "--sweep", "beta_r=5")
    code, out, _ = power(capsys, *words)
    assert code == 0 and "likeliest first action" in out
    assert [line.split()[:2] for line in out.splitlines()[1:3]] == [["1", "5"], ["2", "5"]]
    assert Path("runs/power-small-sweep/sweep-beta_r=5.png").stat().st_size > 10_000
    told = json.loads(power(capsys, *words, "--json")[1])
    assert [row["params"] for row in told["rows"]] == [{"xi": 1.0, "beta_r": 5.0}, {"xi": 2.0, "beta_r": 5.0}]


OWN = """
import sys
sys.path.insert(0, {tests!r})
from power_table import random_world

def mine():
    return random_world(0)
"""


def test_a_world_of_ones_own_is_module_and_name(place, capsys):
    (place / "my_own_world.py").write_text(OWN.format(tests=str(Path(__file__).parents[1])))
    code, out, _ = power(capsys, "solve", "my_own_world:mine", "--x-floor", "1e-6", "--json")
    assert code == 0 and json.loads(out)["states"] == 5
    assert open_run(Path("runs/power-table")).world.name == "table"
    assert "my_own_world has no other" in power(capsys, "solve", "my_own_world:other")[2]


SLIPS = [
    (["solve"], "which world?"),
    (["sovle"], "unknown verb 'sovle'; did you mean solve?"),
    (["solve", "trivia.yaml"], "there is no world 'trivia.yaml'"),
    (["solve", "smal.yaml"], "there is no world 'smal.yaml'; did you mean small.yaml?"),
    (["solve", "mine.py"], "mine.py is Python: a class of your own is given as mine:Class"),
    (["solve", "small.yaml", "--sweep", "xi=1,2", "--xi", "3"], "--xi 3 changes nothing, the sweep sets xi"),
    (["solve", "small.yaml", "--sweep", "xi=1,2", "--params", "xi=3"], "--xi 3 changes nothing, the sweep sets xi"),
    (["solve", "small.yaml", "--sweep", "xii=1,2"], "no parameter xii; did you mean xi? There are aggregate"),
    (["solve", "small.yaml", "--sweep", "horizon=5,6"], "--sweep horizon: it is no parameter of the equations"),
    (["solve", "small.yaml", "--gamma-h", "1.5"], "gamma_h 1.5 is out of range: allowed is (0, 1]"),
    (["solve", "small.yaml", "--xee", "2"], "unknown flag --xee; did you mean --xi?"),
    (["solve", "small.yaml", "--params", "zeta"], "'zeta': a parameter is given as name=value"),
    (["solve", "small.yaml", "--horizon", "0"], "--horizon 0: a number of steps is wanted"),
    (["solve", "small.yaml", "--horizon", "none", "--gamma-r", "1"], "gamma_r 1 needs an end"),
    (["solve", "small.yaml", "--memory", "0.001"], "are free for it"),
    (["solve", "small.yaml", "--sweep", "xi"], "like xi=1,2,4"),
    (["solve", ":World"], "give module:Class"),
    (["solve", "os:path"], "os:path() fails (TypeError"),
    (["solve", "collections:Counter"], "is no World (power/world.py): it has no name"),
    (["report", "runs/x", "--seed", "-1"], "--seed -1: at least 0"),
    (["solve", "small.yaml", "--device", "abacus"], "--device abacus"),
    (["evaluate", "small.yaml"], "--policy is missing"),
    (["evaluate", "small.yaml", "--policy", "unifrm"], "did you mean uniform?"),
    (["query", "small.yaml"], "--states is missing"),
    (["query", "small.yaml", "--states", "none.json"], "cannot read none.json"),
    (["query", "small.yaml", "--states", "small.yaml"], "not valid JSON"),
]


@pytest.mark.parametrize(("argv", "words"), SLIPS, ids=[" ".join(argv) for argv, _ in SLIPS])
def test_a_slip_is_one_line_and_exit_code_2(argv, words, place, capsys):
    code = main(["power", *argv])
    err = capsys.readouterr().err.strip()
    assert code == 2 and words in err and "\n" not in err and err.startswith("apportion: ")


def test_help_names_every_verb_and_parameter(capsys):
    assert main(["power", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {verb} " in text for verb in ("solve", "evaluate", "compare", "query", "worlds", "report"))
    with pytest.raises(SystemExit):
        main(["power", "solve", "--help"])
    text = capsys.readouterr().out
    assert "(default: )" not in text and "(default: '')" not in text and "math.inf" not in text
    assert all(flag in text for flag in ("--gamma-h", "--x-floor", "--sweep", "--horizon", "aversion to unequal power"))


def test_a_finished_run_that_lost_files_is_made_whole_by_the_same_command(place, capsys):
    power(capsys, "solve", "small.yaml")
    run = place / "runs" / "power-small"
    before = open_run(run).solution.at(3).v.copy()
    (run / "sweeps" / "t_00003.npy").unlink()
    (run / "compiled.npz").write_bytes(b"cut short")
    assert power(capsys, "solve", "small.yaml")[0] == 0
    assert (open_run(run).solution.at(3).v == before).all()


@pytest.mark.parametrize("file", ["world.json", "solution.json"])
@pytest.mark.parametrize("content", ["[1]", "{}"])
def test_json_of_a_run_that_is_no_record_is_one_line(file, content, place, capsys):
    power(capsys, "solve", "small.yaml")
    (place / "runs" / "power-small" / file).write_text(content)
    code, _, err = power(capsys, "report", "runs/power-small")
    assert code == 2 and f"{file} is damaged" in err


def test_more_steps_than_any_disk_holds_are_refused_at_once(place, capsys):
    code, _, err = power(capsys, "solve", "small.yaml", "--horizon", "1000000000000")
    assert code == 2 and "1,000,000,000,000 sweeps take about" in err and "GiB of disk" in err
