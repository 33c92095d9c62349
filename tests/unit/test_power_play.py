"""A learned policy plays: real successors, the power that was learned, a film of it; no solution is asked for."""

import json

import numpy as np
import pytest
from PIL import Image

from apportion.cli import main
from apportion.power.course import Course
from apportion.power.grid import curves, film
from apportion.power.grid.world import GridWorld, load_world
from apportion.power.learn.opened import open_trained, unseen_of
from apportion.power.learn.play import as_shown, play
from apportion.power.params import PowerParams
from apportion.power.query import Finder
from apportion.power.solve import solve
from apportion.power.tag_along import world as tag_along
from apportion.types import UserError
from power_runs_for_tests import trained

pytestmark = pytest.mark.unchecked

FOLDER = """\
map: |
  We We We We We We
  We {} We
  We We Ay We We We
  We We We We We We
max_steps: 4
possible_goals: ["1,1", "2,1", "3,1", "4,1", "2,2"]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("play") / "run", "trivial", horizon="5", check="never")


@pytest.fixture(scope="module")
def opened(run):
    return open_trained(run)


@pytest.fixture(scope="module")
def solution():
    return solve(load_world("trivial").with_horizon(5).compile(), PowerParams())


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps") / "maps"
    folder.mkdir()
    for i, row in enumerate(("Ae Ro .. ..", ".. Ro Ae ..", ".. .. Ro Ae")):  # the human comes after the robot
        (folder / f"w{i}.yaml").write_text(FOLDER.format(row))
    return trained(folder.parent / "run", folder, held_out=0.34, check="never")


def follows(world, course):
    """Is every state one that may follow on the one before?"""
    for t in range(course.steps):
        rows, probs = world.transitions(course.states[t], course.joint[t])
        found = (rows == course.states[t + 1]).all(1)
        if not probs[found].sum() > 0:
            return False
    return True


def test_each_state_follows_from_the_one_before_and_the_end_comes_at_the_horizon(opened):
    course = play(opened, 1).course
    assert course.steps == 5 and len(course.states) == 6
    assert np.array_equal(course.states[0], opened.world.initial())
    assert follows(opened.world, course)
    assert play(opened, 1, 2).course.steps == 2
    assert play(opened, 1, 99).course.steps == 5


def test_no_goal_is_pursued_where_it_holds(opened):
    for seed in range(10):
        course = play(opened, seed).course
        holds = opened.world.attained(course.states[:-1])
        assert not np.take_along_axis(holds, course.goals[..., None], 2).any()


def test_the_same_seed_gives_the_same_course_and_others_others(opened):
    first, again = play(opened, 3), play(opened, 3)
    assert np.array_equal(first.course.states, again.course.states)
    assert np.array_equal(first.course.joint, again.course.joint)
    assert len({play(opened, seed).course.joint.tobytes() for seed in range(6)}) > 1


def test_the_power_that_is_shown_is_the_exact_one_where_tables_have_converged(opened, solution):
    """The solver is the oracle: another program, in float64."""
    finder, seen = Finder(solution.compiled), set()
    for seed in range(5):
        played = play(opened, seed)
        for t in range(played.course.steps):
            s = finder.find(played.course.states[t], t, "a state")
            at = solution.at(t)
            assert played.course.bits[t] == pytest.approx(at.bits[s], abs=1e-4)
            assert played.u[t] == pytest.approx(at.u[s], rel=1e-4) and played.v[t] == pytest.approx(at.v[s], rel=1e-4)
            assert played.pi[t] == pytest.approx(at.pi[s], abs=1e-4)
            seen.add((t, s))
    assert len(seen) > 10


def test_greedy_robots_take_a_most_probable_action(opened, solution):
    finder, drawn = Finder(solution.compiled), 0
    for seed in range(5):
        for greedy in (True, False):
            course = play(opened, seed, greedy=greedy).course
            for t in range(course.steps):
                pi = solution.at(t).pi[finder.find(course.states[t], t, "a state")]
                best = pi[course.joint[t, 0]] >= pi.max() - 1e-4
                assert best or not greedy
                drawn += not best
    assert drawn > 0  # and those who draw, draw


def test_a_world_need_not_be_compiled(tmp_path, monkeypatch, capsys):
    path = trained(tmp_path / "run", "trivial", horizon="5", human_prior="shortest-path", check="never")

    def compiles(*args, **kwargs):
        raise AssertionError("compiled")

    monkeypatch.setattr(GridWorld, "compile", compiles)
    monkeypatch.setattr("apportion.power.cache.compile_world", compiles)
    assert main(["power", "play", str(path), "--steps", "1", "--film", str(tmp_path / "f.gif")]) == 0
    assert "power of human: " in capsys.readouterr().out
    assert (tmp_path / "f.gif").read_bytes().startswith(b"GIF89a")


def test_an_episode_in_a_folder_of_worlds_is_one_in_a_member_of_it(folder_run):
    opened = open_trained(folder_run)
    shown = {}
    for seed in range(8):
        world, course = as_shown(opened.world, play(opened, seed).course)
        assert isinstance(world, GridWorld) and follows(world, course)
        shown[world.name] = course
        assert world.humans == (1,)  # on the map the robot comes first, in the ensemble the human does
    unseen = unseen_of(folder_run)
    assert len(shown) == 2 and unseen is not None and unseen.worlds[0].name not in shown


def test_held_out_worlds_can_be_played(folder_run, run, capsys):
    assert main(["power", "play", str(folder_run), "--held-out", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["world"] == unseen_of(folder_run).worlds[0].name
    assert main(["power", "play", str(run), "--held-out"]) == 2
    assert "leave it out" in capsys.readouterr().err


# ---------------------------------------------------------------- the verb


def test_the_course_is_told_in_words_and_in_numbers(run, opened, capsys):
    assert main(["power", "play", str(run), "--seed", "2"]) == 0
    out = capsys.readouterr().out
    played = play(opened, 2)
    assert "trivial, seed 2; the robot draws its actions, after 2,000 steps of training" in out
    assert f"power of human: {played.course.bits[0, 0]:+.3f} bits at first" in out
    assert main(["power", "play", str(run), "--seed", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [step["bits"]["human"] for step in told["steps"]] == played.course.bits[:, 0].tolist()
    assert np.array_equal(opened.world.parse(told["end"]), played.course.states[-1])
    names = opened.world.actions[0]
    assert [step["actions"]["robot"] for step in told["steps"]] == [names[a] for a in played.course.joint[:, 0]]


def test_a_film_runs_as_long_as_the_episode_and_an_earlier_checkpoint_may_play(run, capsys):
    assert main(["power", "play", str(run), "--steps", "2", "--film"]) == 0
    with Image.open(run / "play.gif") as gif:
        assert gif.n_frames == 2 * film.MOVING + 1
    found = sorted(path.name for path in (run / "checkpoints").iterdir())
    capsys.readouterr()
    assert main(["power", "play", str(run), "--checkpoint", found[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trained"] == int(found[0].removeprefix("step_")) < 2000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "0"], "--steps 0: at least 1"),
        (["--seed", "-1"], "--seed -1: at least 0"),
        (["--film", "x.avi"], "a film's name ends in .gif or .mp4"),
        (["--checkpoint", "step_9"], "--checkpoint step_9 does not exist; "),
    ],
)
def test_slips_are_one_line(words, told, run, capsys):
    assert main(["power", "play", str(run), *words]) == 2
    err = capsys.readouterr().err.strip()
    assert told in err and "\n" not in err


def test_what_is_no_trained_run_cannot_play(tmp_path, capsys):
    assert main(["power", "play", str(tmp_path)]) == 2
    assert "is no run directory" in capsys.readouterr().err


def test_a_world_that_ends_before_the_first_step_is_refused(opened, monkeypatch):
    monkeypatch.setattr(GridWorld, "terminal", lambda self, states: np.ones(len(states), bool))
    with pytest.raises(UserError, match="ends before the first step"):
        play(opened)


# ---------------------------------------------------------------- worlds that are no grids


def test_a_world_that_is_no_grid_is_filmed_by_its_own_pictures():
    world = tag_along()
    states = np.stack([world.initial()] * 3)
    joint = np.zeros((2, 3), np.int64)
    course = Course(np.array([[0, 1], [0, 1]]), joint, np.array([[-1.0, -2.0], [-1.5, -np.inf]]), states)
    found = list(film.rendered(world, course))
    assert [count for _, count in found] == [film.STILL + film.MOVING] * 2 + [3 * film.STILL]
    assert {frame.shape for frame, _ in found} == {found[0][0].shape} and found[0][0].dtype == np.uint8
    own = Image.fromarray(world.render(states[0]))
    wide = np.array(own.resize((film.OWN, round(film.OWN * own.height / own.width)), Image.Resampling.LANCZOS))
    top = round(film.CELL * (film.HEAD + 2 * film.LINE))
    left = (found[0][0].shape[1] - film.OWN) // 2
    assert np.array_equal(found[0][0][top : top + len(wide), left : left + film.OWN], wide)
    ink = np.array([int(x, 16) for x in ("e6", "9f", "00")])  # the first human's curve grows
    below = [(np.abs(frame[top + len(wide) :].astype(int) - ink).max(-1) < 8).sum() for frame, _ in found]
    assert curves.human_colors(world)[0] == "#e69f00" and below[1] > below[0] > 0
