"""Several values of a parameter: what is asked, what is kept, what is drawn."""

import json

import numpy as np
import pytest
from PIL import Image

from apportion.power.enumerate import enumerate_world
from apportion.power.params import PowerParams
from apportion.power.solve import solve
from apportion.power.sweep import parse_sweep, plot_sweep, run_sweep, save_plots
from apportion.types import UserError
from power_table import random_world

BASE = PowerParams(x_floor=1e-6)


@pytest.fixture(scope="module")
def compiled():
    return enumerate_world(random_world(0))


@pytest.mark.parametrize("words", [["xi=1,2", "beta-r=5,inf"], ["xi=1", "2", "beta-r=5", "inf"]])
def test_every_combination_of_the_values_is_a_point(words):
    with pytest.raises(UserError, match="beta_r inf is out of range"):
        parse_sweep(words, BASE, 3)
    assert parse_sweep([w.replace("inf", "9") for w in words], BASE, 3) == [
        {"xi": 1.0, "beta_r": 5.0}, {"xi": 1.0, "beta_r": 9.0}, {"xi": 2.0, "beta_r": 5.0}, {"xi": 2.0, "beta_r": 9.0},
    ]  # fmt: skip


@pytest.mark.parametrize("word", ["xi", "xi=", "=1", "xi=1,,2", "1,2"])
def test_a_sweep_without_name_or_values_is_refused(word):
    with pytest.raises(UserError, match="a name and its values are wanted, like xi=1,2,4"):
        parse_sweep([word], BASE, 3)


def test_a_row_is_what_one_solve_says_of_the_start(compiled):
    rows = run_sweep(compiled, BASE, [{"xi": 2.0}, {"xi": 3.0}])
    start = solve(compiled, PowerParams(x_floor=1e-6, xi=3.0)).at(0)
    assert [row["params"] for row in rows] == [{"xi": 2.0}, {"xi": 3.0}]
    assert rows[1]["V_r"] == start.v[0] and rows[1]["pi_r"] == start.pi[0].tolist()
    assert rows[1]["bits"] == np.log2(start.x[0]).tolist()


def test_an_interrupted_sweep_solves_only_what_is_left(compiled, tmp_path):
    asked = []

    def one(params):
        if len(asked) == 1:
            raise KeyboardInterrupt
        asked.append(params.xi)
        return solve(compiled, params)

    points, file = [{"xi": 2.0}, {"xi": 3.0}], tmp_path / "sweep.json"
    with pytest.raises(KeyboardInterrupt):
        run_sweep(compiled, BASE, points, one, file)
    asked.clear()
    rows = run_sweep(compiled, BASE, points, one, file)
    assert asked == [3.0] and rows == run_sweep(compiled, BASE, points)
    assert json.loads(file.read_text())["rows"] == rows
    with pytest.raises(
        UserError, match=r"a sweep of something else \(x_floor 1e-06 there, 1e-05 here\): give another --name"
    ):
        run_sweep(compiled, PowerParams(x_floor=1e-5), points, one, file)
    file.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        run_sweep(compiled, BASE, points, one, file)


def test_the_axis_of_power_spans_a_tenth_of_a_bit_at_least():
    rows = [{"params": {"xi": xi}, "bits": [bits], "pi_r": [1.0]} for xi, bits in ((1.0, -1.0), (2.0, -1.001))]
    low, high = plot_sweep(rows, "xi", ["someone"], ["still"], "table").axes[0].get_ylim()
    assert high - low == pytest.approx(0.1) and (low + high) / 2 == pytest.approx(-1.0005)


def test_there_is_a_picture_for_each_value_of_the_other_parameter(compiled, tmp_path):
    points = parse_sweep(["xi=1,2", "robot_belief=min,max"], BASE, 4)
    rows = run_sweep(compiled, BASE, points)
    paths = save_plots(rows, tmp_path, ["someone"], ["left", "right", "still"], "table")
    assert [path.name for path in paths] == ["sweep-robot_belief=min.png", "sweep-robot_belief=max.png"]
    picture = np.asarray(Image.open(paths[0]).convert("RGB"))
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    words = save_plots([r for r in rows if r["params"]["xi"] == 1], tmp_path, ["someone"], ["a", "b", "c"], "table")
    assert len(words) == 2
