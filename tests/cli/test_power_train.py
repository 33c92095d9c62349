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
from apportion.power.own import own_world
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
        (["trivial", "--log", "nonesuch"], "--log nonesuch is unknown"),
        (["trivial", "--xi", "0"], "xi 0 is out of range"),
        (["trivial", "freeing"], "unexpected argument 'freeing': only the first word stands alone"),
        (["trivial", "--preset", "lookup", "--dropout", "0.2"], "--dropout is a setting of networks"),
        (["trivial", "--preset", "quick", "--lr-x-h", "1e-3"], "--lr-x-h is of a network that there is none of"),
        (["trivial", "--weight-clip", "5"], "--weight-clip is a setting of --targets sampled"),
        (["trivial", "--lr-lookup", "0.5"], "--lr-lookup is a setting of tables"),
        (["trivial", "--prior-steps", "9"], "--prior-steps is a setting of --human-prior learned"),
        (["trivial", "--max-lead", "9"], "--max-lead is a setting of actors that run ahead"),
        (["trivial", "--async=4"], "it is a switch"),
        (["trivial", "--preset", "lookup", "--held-out", "0.5"], "--held-out is for networks"),
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
    assert "holds a run already: another --name" in capsys.readouterr().err
    assert main(["resume", str(tmp_path / "run")]) == 0


def test_a_run_that_stopped_before_its_first_step_makes_room_for_the_corrected_one(tmp_path, capsys):
    assert _run(tmp_path, "trivial", *TABLES, "--check", "exact", "--check-states", "5") == 2
    assert "training: --check-states" in capsys.readouterr().err
    assert (tmp_path / "run" / "world.json").exists()
    assert _run(tmp_path, "trivial", *TABLES, "--check", "never") == 0


def test_async_is_short_for_use_async():
    assert parse(["trivial", "--async"])[1].use_async
    assert parse(["trivial", "--async=True"])[1].use_async
    assert not parse(["trivial", "--async", "--no-async"])[1].use_async


def test_actors_that_run_ahead_do_several_steps_at_a_time():
    assert parse(["trivial", "--async"])[1].round_steps == 16


OWN = """
import numpy as np
from apportion.power.grid.world import load_world

class World:
    calls = 0

    def __init__(self):
        self.inner = load_world("trivial").with_horizon(5)
        for name in ("name", "agents", "humans", "robots", "actions", "still", "goals", "goal_weights", "horizon",
                     "enumerable", "initial", "transitions", "successors", "sample", "terminal", "attained", "encode",
                     "describe", "parse", "render"):
            if not hasattr(type(self), name):
                setattr(self, name, getattr(self.inner, name))

class Late(World):
    def sample(self, states, joints, noise):
        self.calls += 1
        if self.calls > 3:
            raise ZeroDivisionError("boom")
        return self.inner.sample(states, joints, noise)

class Wide(World):
    def sample(self, states, joints, noise):
        return np.zeros((len(states), 99), np.int16)

class Few(World):
    def attained(self, states):
        return self.inner.attained(states)[:, :, 1:]

class Double(World):
    def encode(self, states):
        return self.inner.encode(states).astype(np.float64)

class Poor(World):
    def successors(self, states, joints):
        return ()

class Heavy(World):
    def successors(self, states, joints):
        found = self.inner.successors(states, joints)
        return found._replace(probs=2 * found.probs)

class People:  # in NumPy's own precision
    def __init__(self, world, params):
        self.shape = len(world.humans), len(world.goals), len(world.actions[world.humans[0]])

    def __call__(self, states, t):
        return np.full((len(states), *self.shape), 1 / self.shape[-1])

    def state(self):
        return {}

    def load_state(self, state):
        pass
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module name that is new for each test."""
    name = f"own_{abs(hash(tmp_path))}"
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    return name


@pytest.mark.parametrize(
    ("world", "says"),
    [
        ("Late", "Late.sample (own_"),
        ("Late", "raised ZeroDivisionError: boom"),
        ("Wide", "sample gives int16 of shape (1, 99); wanted is shape (1, "),
        ("Few", "attained gives bool of shape"),
        ("Double", "encode gives float64"),
        ("Poor", "is no World as in power/world.py: ValueError: not enough values to unpack"),
        ("Heavy", "probabilities whose sum is 2, not 1"),
    ],
)
def test_a_fault_in_ones_own_world_is_one_line_that_says_where(tmp_path, own, capsys, world, says):
    assert _run(tmp_path, f"{own}:{world}", *TABLES[2:], "--check", "never", "--human-prior", "shortest-path") == 2
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("apportion: ") and says in error[-1]
    assert "Traceback" not in " ".join(error)


def test_a_world_of_ones_own_is_tried_in_another_one_of_its_kind(own):
    assert own_world(f"{own}:Late").calls == 0  # it may be one that only goes on from where it is


def test_a_prior_of_ones_own_may_be_in_double_precision(tmp_path, own):
    assert _run(tmp_path, f"{own}:World", *TABLES[2:], "--check", "never", "--human-prior", f"{own}:People") == 0


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
