"""Run folders: what `solve` and `evaluate` leave, when, and what goes on from there."""

import json
from pathlib import Path

import pytest

from apportion.cli import main
from apportion.power.evaluate import policy_name, with_bounds
from apportion.power.grid.world import load_world
from apportion.power.params import PowerParams
from apportion.power.runs import open_run
from apportion.power.solve import solve
from apportion.types import UserError
from pages_for_tests import data_of

SMALL = """\
map: |
  We We We We We
  We Ae Ro .. We
  We We Ay We We
  We We We We We
max_steps: 5
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def power(capsys, *words):
    code = main(["power", *words, *([] if words[0] == "report" else ["--cache", "none"])])
    out = capsys.readouterr()
    return code, out.out, out.err


def test_an_evaluated_policy_is_a_run_that_can_be_reported(place, capsys):
    code, out, _ = power(capsys, "evaluate", "small.yaml", "--policy", "uniform", "--json")
    assert code == 0 and json.loads(out)["run"] == "runs/power-small-uniform"
    run = open_run(Path("runs/power-small-uniform"))
    assert run.solution.policy == "uniform" and (run.solution.at(0).pi == 0.25).all()
    assert run.solution.at(0).v[0] == json.loads(out)["V_r"]["uniform"]
    assert power(capsys, "report", "runs/power-small-uniform")[0] == 0
    page = Path("runs/power-small-uniform/report.html")
    assert "policy: uniform" in page.read_text()
    courses = [course["name"] for course in data_of(page)["courses"]]
    assert courses == [f"drawn, seed {seed}" for seed in range(4)]  # no action of it is the most probable one


def test_the_bounds_of_an_evaluation_are_runs_too(place, capsys):
    words = ("evaluate", "small.yaml", "--policy", "do-nothing", "--name", "idle", "--runs-dir", "kept")
    code, out, _ = power(capsys, *words)
    assert code == 0 and "apportion power report kept/power-idle" in out
    told = {name: open_run(Path("kept/power-idle/bounds") / name).solution for name in ("uniform", "solved")}
    assert [solution.policy for solution in told.values()] == ["uniform", "solved"]
    again = json.loads(power(capsys, *words, "--json")[1])
    assert again["V_r"]["solved"] == told["solved"].at(0).v[0]


def stopped_after(sweeps, solved):
    """A progress that stops the work when so many sweeps are done in all."""
    seen = []

    def progress(what, done, total):
        seen.append(done)
        if len(seen) == sweeps:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solved(progress)


def test_a_stopped_evaluation_goes_on_from_its_last_finished_sweep(tmp_path):
    compiled, params = load_world("trivial").with_horizon(5).compile(), PowerParams()

    def work(progress=None):
        return with_bounds(compiled, params, "do-nothing", progress=progress, folder=tmp_path / "run")

    stopped_after(3, work)
    stopped_after(5 + 5 + 2, work)  # the first five say how far it had come, two are swept; then a bound, then another
    found = work()
    assert [solution.record["sweeps"] for solution in found] == [2, 5, 3]
    whole = with_bounds(compiled, params, "do-nothing")
    assert [a.at(0).v[0] for a in found] == [b.at(0).v[0] for b in whole]


def test_ctrl_c_says_how_an_evaluation_goes_on(place, capsys, monkeypatch):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("apportion.power.solve.sweep", stop)
    code, _, err = power(capsys, "evaluate", "small.yaml", "--policy", "uniform")
    assert code == 130 and "the same command goes on from the last finished sweep in runs/power-small-uniform" in err


@pytest.mark.parametrize("words", [("solve",), ("evaluate", "--policy", "uniform", "--name", "small")])
def test_the_world_is_kept_before_it_is_solved(words, place, capsys, monkeypatch):
    found = []

    def stop(*args, **kwargs):
        found.append(json.loads(Path("runs/power-small/world.json").read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr("apportion.power.solve.sweep", stop)
    assert power(capsys, words[0], "small.yaml", *words[1:])[0] == 130
    assert [kept["config"]["max_steps"] for kept in found] == [5]


def test_a_refused_command_leaves_the_other_runs_world_alone(place, capsys):
    power(capsys, "solve", "small.yaml", "--name", "x")
    (place / "other.yaml").write_text(SMALL.replace("Ro", ".."))
    code, _, err = power(capsys, "solve", "other.yaml", "--name", "x")
    assert code == 2 and "something else" in err
    assert "Ro" in json.loads(Path("runs/power-x/world.json").read_text())["config"]["map"]


def test_a_run_may_be_called_solved(place, capsys):
    power(capsys, "solve", "small.yaml", "--runs-dir", ".")
    Path("power-small").rename("solved")
    told = json.loads(power(capsys, "evaluate", "small.yaml", "--policy", "solved", "--json")[1])
    assert told["share"] == pytest.approx(1, abs=1e-12)
    assert told["V_r"].keys() == {"./solved", "uniform", "solved"}


def test_values_of_a_run_that_was_replaced_are_not_taken_for_the_new_ones(tmp_path):
    compiled = load_world("trivial").with_horizon(3).compile()
    names = []
    for xi in (1.0, 2.0):
        folder = tmp_path / f"xi{xi:g}" / "run"
        solve(compiled, PowerParams(xi=xi), folder=folder)
        names.append(policy_name(str(folder)))
    assert names[0] != names[1] and all(name.startswith("run ") for name in names)
    assert policy_name("uniform") == "uniform"
    with_bounds(compiled, PowerParams(), str(tmp_path / "xi1/run"), folder=tmp_path / "judged")
    with pytest.raises(UserError, match=r"something else \(the policy\)"):
        with_bounds(compiled, PowerParams(), str(tmp_path / "xi2/run"), folder=tmp_path / "judged")


def test_a_name_loses_what_is_no_good_in_a_folders(place, capsys):
    assert json.loads(power(capsys, "solve", "small.yaml", "--name", "x/y z", "--json")[1])["run"] == "runs/power-x-y-z"
    assert open_run(Path("runs/power-x-y-z")).solution.compiled.horizon == 5


# ---------------------------------------------------------------- slips


@pytest.fixture
def never_compiled(monkeypatch):
    def compiles(*args, **kwargs):
        raise AssertionError("compiled before the slip was told")

    monkeypatch.setattr("apportion.power.cache.compile_world", compiles)


EARLY = [
    (["solve", "small.yaml", "--sweep", "xii=1,2"], "no parameter xii; did you mean xi?"),
    (["solve", "small.yaml", "--sweep", "xi=0.5"], "xi 0.5 is out of range"),
    (["compare", "small.yaml", "--sweep", "xii=1,2"], "no parameter xii; did you mean xi?"),
    (["compare", "small.yaml", "--sweep", "beta_h=5"], "beta_h changes the humans"),
    (["solve", "small.yaml", "--runs-dir", "small.yaml"], "--runs-dir small.yaml: small.yaml is a file, no folder"),
    (["solve", "small.yaml", "--runs-dir", "small.yaml/x"], "small.yaml is a file, no folder"),
    (["evaluate", "small.yaml", "--policy", "uniform", "--runs-dir", "small.yaml"], "is a file, no folder"),
    (["evaluate", "small.yaml", "--policy", "unifrm"], "did you mean uniform?"),
    (["evaluate", "small.yaml", "--policy", "."], "holds no solution"),
    (["solve", "small.yaml", "--device", "meta"], "--device meta: "),
]


@pytest.mark.parametrize(("argv", "words"), EARLY, ids=[" ".join(argv) for argv, _ in EARLY])
def test_a_slip_is_told_before_anything_is_compiled(argv, words, place, never_compiled, capsys):
    code = main(["power", *argv])
    err = capsys.readouterr().err.strip()
    assert code == 2 and words in err and "\n" not in err and err.startswith("apportion: ")


@pytest.mark.parametrize("sweep", [[], ["--sweep", "xi=1,2"]])
def test_a_run_where_no_folder_can_be_made_is_one_line(sweep, place, capsys):
    Path("runs").mkdir()
    Path("runs/power-small").write_text("")
    Path("runs/power-small-sweep").write_text("")
    code, _, err = power(capsys, "solve", "small.yaml", *sweep)
    assert code == 2 and "apportion: " in err and "Traceback" not in err and err.strip().count("\n") == 0


def test_a_film_of_another_kind_is_refused_before_anything_is_drawn(place, capsys, monkeypatch):
    power(capsys, "solve", "small.yaml")

    def draws(*args, **kwargs):
        raise AssertionError("something was worked out first")

    monkeypatch.setattr("apportion.power.report_cli.roll_out", draws)
    code, _, err = power(capsys, "report", "runs/power-small", "--film", "x.avi")
    assert code == 2 and "x.avi: a film's name ends in .gif or .mp4" in err
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    code, _, err = power(capsys, "report", "runs/power-small", "--film", "x.mp4")
    assert code == 2 and "needs PyAV: pip install" in err


def test_more_steps_than_there_are_is_said(place, capsys):
    power(capsys, "solve", "small.yaml")
    code, _, err = power(capsys, "report", "runs/power-small", "--steps", "999", "--courses", "1")
    assert code == 0 and "--steps 999: this world ends after 5, and so do the courses" in err
    assert power(capsys, "report", "runs/power-small", "--steps", "5", "--courses", "1")[2] == ""
