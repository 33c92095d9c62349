"""Every example runs, the way its docstring says; shortly."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest

from apportion.cli import main

EXAMPLES = Path(__file__).parents[2] / "examples"
# what each is run with, and what it then says
RUNS = {
    "sb3_agents.py": ("--steps 260", r"sac: mean true return -\d.*\nreward model: \{'R_loss': .*"),
    "cleanrl_sac.py": ("--steps 150 --warmup 100", r"Reacher-v5, rrd: mean true return -\d+\.\d after 150 steps"),
    "own_env.py": ("--steps 120 --out run", r"step 60: mean return -.*\nstep 120: mean return -.*"),
    "own_reward_net.py": ("--steps 230", r"after 230 steps the learned rewards miss an episode's return by \d+\.\d+"),
    "own_reward_source.py": ("--steps 250", r"true return of the first five episodes -.*, of the last five -.*"),
    "python_api.py": (
        "--steps 120 --out run",
        r"mean true return of five episodes: -.*\npage: run/report.html\n"
        r"one step pays -?\d.*; the environment would have paid -\d.*",
    ),
    "resume_run.py": (
        "--steps 200 --out runs",
        r"killed after \d+ lines.*\nmetrics.jsonl of both runs: the same bytes",
    ),
    "own_power_world.py": ("--episodes 100 --run run", r"share of what the exact solution gains: (0\.9|1\.0)\d*"),
    "several_seeds.py": (
        "--steps 110 --seeds 0 1 --out runs",
        r"seed 0: rrd -.*, uniform -.*\nseed 1: rrd -.*\npage: runs/report.html",
    ),
    "label_minari.py": (
        "--steps 20 --episodes 10 --out run",
        r"10 episodes, whose returns .*\nlearned rewards add up .*\n\{'observations': \(500, 3\), .*",
    ),
}
# replays demonstrations in LIBERO's simulator, which is not a package to depend on; unit/test_record_example.py runs it
# on a stand-in
NEEDS_A_SIMULATOR = {"record_libero_failures.py"}


def test_every_example_is_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(RUNS) | NEEDS_A_SIMULATOR


@pytest.mark.parametrize("name", [*RUNS, *sorted(NEEDS_A_SIMULATOR)])
def test_an_example_says_what_it_shows_and_how_to_run_it(name):
    text = ast.get_docstring(ast.parse((EXAMPLES / name).read_text()))
    assert text is not None and f"python examples/{name} " in text
    assert re.match(r"\w.*[.:]$", text.splitlines()[0])


@pytest.mark.parametrize("name", RUNS)
def test_an_example_runs(name, tmp_path, monkeypatch, capfd):
    arguments, says = RUNS[name]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    monkeypatch.setattr(sys, "argv", [str(EXAMPLES / name), *arguments.split()])
    code = None
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as end:
        code = end.code
    out, err = capfd.readouterr()
    assert not code, err
    assert re.search(says, out), out + err


def test_the_environment_of_the_example_passes_the_check(monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    assert main(["check", "own_env:Thermostat"]) == 0
    sys.modules.pop("own_env")
