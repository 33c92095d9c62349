"""`apportion power train`: what a user types, and what comes of it."""

import json

import pytest
import torch

from apportion.cli import main
from apportion.power.grid.world import load_world
from apportion.power.learn.act import Actor
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.learner import Diverged, Learner
from apportion.power.learn.priors import make_prior
from apportion.power.train_cli import parse
from apportion.run.metrics import read_lines

TABLES = [
    "--horizon", "5", "--preset", "lookup", "--num-episodes", "60", "--warmup-v-h-e-steps", "200",
    "--warmup-q-r-steps", "200", "--beta-r-rampup-steps", "400", "--epsilon-decay-steps", "3000",
]  # fmt: skip


def _run(tmp_path, *words):
    return main(["power", "train", *words, "--runs-dir", str(tmp_path), "--name", "run"])


def test_tables_come_to_the_exact_solution(tmp_path):
    assert _run(tmp_path, "trivial", *TABLES, "--check-every", "1000") == 0
    found = read_lines(tmp_path / "run" / "evaluations.jsonl")
    assert [line["step"] // 1000 for line in found] == [1, 2, 3]
    last = found[-1]
    assert last["v_h_e/relative_mean"] < 0.01 and last["x_h/relative_mean"] < 0.01 and last["q_r/relative_mean"] < 0.01
    assert last["pi_r/tv_mean"] < 0.02 and last["share"] == pytest.approx(1, abs=1e-3)
    kept = json.loads((tmp_path / "run" / "world.json").read_text())
    assert kept["horizon"] == 5 and "map" in kept["config"]


def test_a_world_without_probabilities_trains_from_samples(tmp_path):
    words = ["--human-prior", "learned", "--robot-belief", "mean", "--prior-steps", "5", "--num-episodes", "20"]
    words += ["--warmup-v-h-e-steps", "100", "--warmup-q-r-steps", "50", "--beta-r-rampup-steps", "100"]
    words += ["--epsilon-decay-steps", "900", "--hidden", "16", "16", "--num-envs", "8", "--updates-per-step", "0.1"]
    words += ["--preset", "sampled"]
    assert _run(tmp_path, "apportion.power.point_mass:PointMass", *words) == 0
    last = read_lines(tmp_path / "run" / "metrics.jsonl")[-1]
    assert last["stage"] == 5 and last["loss/q_r"] is not None
    assert not (tmp_path / "run" / "evaluations.jsonl").read_text()  # there is no exact solution to hold it against


def test_one_policy_learns_a_folder_of_worlds_and_is_tested_on_others(tmp_path):
    maps = tmp_path / "maps"
    maps.mkdir()
    for i, row in enumerate(("We Ae Ay .. We", "We Ay .. Ae We", "We .. Ay Ae We")):
        rest = "max_steps: 3\npossible_goals: ['1,1', '2,1', '3,1']\n"
        (maps / f"w{i}.yaml").write_text(f"map: |\n  We We We We We\n  {row}\n  We We We We We\n{rest}")
    words = ["--held-out", "0.34", "--num-episodes", "30", "--warmup-v-h-e-steps", "100", "--warmup-x-h-steps", "50"]
    words += ["--warmup-q-r-steps", "50", "--beta-r-rampup-steps", "100", "--epsilon-decay-steps", "1000"]
    words += ["--hidden", "16", "16", "--num-envs", "8", "--updates-per-step", "0.05"]
    assert _run(tmp_path, str(maps), *words) == 0
    last = read_lines(tmp_path / "run" / "evaluations.jsonl")[-1]
    assert {"share", "held_out/share", "share/least", "held_out/v_h_e/mean"} <= last.keys()
    kept = json.loads((tmp_path / "run" / "world.json").read_text())
    assert len(kept["configs"]) == 3 and len(kept["held_out"]) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "which world?"),
        (["--seed", "1"], "which world?"),
        (["nowhere"], "there is no world 'nowhere'"),
        (["trivial", "--preset", "quik"], "did you mean quick?"),
        (["trivial", "--warmup-vhe-steps", "3"], "unknown flag"),
        (["trivial", "--beta-r", "-1"], "beta_r -1"),
        (["trivial", "--held-out", "0.5"], "--held-out is for a folder of worlds"),
        (["trivial", "--human-prior", "exat"], "did you mean exact?"),
        (["apportion.power.point_mass:PointMass"], "--preset sampled"),
        (["trivial", "--preset", "quick", "--targets", "sampled"], "take --preset sampled"),
        (["trivial", "--num-episodes", "10"], "give more --num-episodes"),
        (["trivial", "--world", "x"], "--world is not a flag"),
        (["trivial", "--lockstep"], "is a setting of --async"),
    ],
)
def test_a_slip_is_one_line_and_leaves_nothing_behind(tmp_path, capsys, words, says):
    assert _run(tmp_path, *words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("apportion: ") and says in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "compiled"),
    [
        ("", True),  # 500,000 training steps
        ("--no-compile", False),
        ("--estimators lookup", False),
        ("--preset quick", False),  # 40,000
        ("--preset quick --compile", True),
        ("--device cuda", False),
    ],
)
def test_long_training_of_networks_is_compiled_by_itself(monkeypatch, words, compiled):
    monkeypatch.setattr("apportion.power.learn.presets.has_cxx", lambda: True)
    assert parse(["trivial", *words.split()])[1].compile is compiled


def test_a_run_is_not_overwritten(tmp_path, capsys):
    assert _run(tmp_path, "trivial", *TABLES, "--check", "never") == 0
    assert _run(tmp_path, "trivial", *TABLES, "--check", "never") == 2
    assert "holds a run already" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "run")]) == 0


def test_a_value_that_is_no_number_stops_the_run_with_network_stage_and_step_named():
    world = load_world("trivial").with_horizon(4)
    config = Phase2Config(world="trivial", hidden=(8, 8), num_envs=16)
    prior = make_prior("exact", world, config.params, steps=0, seed=0, say=print)
    learner, actor = Learner(world, prior, config), Actor(world, prior, config, "0")
    learner.take(actor.collect(8, learner.nets, 0.0, 1.0), 0, 128)
    learner.update(step=128)
    with torch.no_grad():
        learner.nets.parameters_of("q_r")[0].fill_(float("nan"))
    learner.update(step=500)  # Q_r is not trained yet
    with pytest.raises(Diverged) as stop:
        learner.update(step=2500)
    assert "q_r" in str(stop.value) and "stage 3" in str(stop.value) and "step 2500" in str(stop.value)
