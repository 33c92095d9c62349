"""apportion data: what is printed, and the exit codes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from apportion.cli import main
from apportion.data.store import DemoStore
from demos_for_tests import demo, store, with_rewards


@pytest.fixture
def successes(tmp_path):
    demos = [demo(i, 10 + i, task=("lift the cup", "open the drawer")[i % 2]) for i in range(4)]
    store(tmp_path / "successes", demos)
    return tmp_path / "successes"


@pytest.fixture
def failures(tmp_path):
    store(tmp_path / "failures", [demo(20 + i, 10 + i, success=False) for i in range(10)])
    return tmp_path / "failures"


def run(capsys, *words):
    code = main(["data", *map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def test_inspect_shows_what_is_in_a_set(capsys, successes):
    code, out, _ = run(capsys, "inspect", successes)
    assert code == 0
    for words in (
        "episodes   4 of 2 tasks, 46 steps; length 10 / 11.5 / 13 (min / median / max)",
        "camera     image 16 x 16, upside down",
        "proprio    state: 8 entries",
        "20 steps per second; observations in the files are from before the action",
        "the last one is -1 or 1",
        "no-ops     0.0% of the steps (openvla's rule)",
        "successes  4, failures 0",
        "an episode's sum is 1; paid on the last step only",
        "open the drawer",
    ):
        assert words in out


def test_inspect_as_json_has_numbers(capsys, successes):
    code, out, _ = run(capsys, "inspect", successes, "--json")
    about = json.loads(out)
    assert code == 0 and about["steps"] == 46 and about["length"] == {"min": 10, "median": 11.5, "max": 13}
    assert [task["episodes"] for task in about["tasks"]] == [2, 2]
    assert about["cameras"]["image"] == {"height": 16, "width": 16, "orientation": "opengl"}
    assert len(about["action"]["low"]) == 7 and about["rewards"]["successes"] == 4


def test_a_contact_sheet_has_three_frames_of_each_camera(capsys, successes, tmp_path):
    from PIL import Image

    sheet = tmp_path / "sheet.png"
    code, out, _ = run(capsys, "inspect", successes, "--sheet", sheet, "--per-task", 1)
    assert code == 0 and f"{sheet}: 2 episodes" in out
    with Image.open(sheet) as picture:
        assert picture.size == (6 * 132 + 4, 2 * 150)
        small = np.asarray(picture)[18 : 18 + 16, 4 : 4 + 16]
    frames = DemoStore(successes).read(0).images["image"]
    np.testing.assert_array_equal(small, frames[0])


def test_an_unrecorded_outcome_is_shown_as_such(capsys, tmp_path):
    store(tmp_path / "silent", [with_rewards(demo(0), [0] * 12, success=None)])
    assert "successes  not recorded" in run(capsys, "inspect", tmp_path / "silent")[1]


def test_the_doctor_stops_a_success_only_set_and_passes_one_with_failures(capsys, successes, failures, tmp_path):
    code, out, _ = run(capsys, "doctor", successes)
    assert code == 1 and out.startswith("STOP All 4 returns are 1 (only successes, no failures)")
    assert f"-> apportion data convert {successes} NEW --to store --add-failures ROLLOUTS" in out
    assert f"or apportion fit --data {successes} --method progress --rewind" in out
    assert "training rrd would be meaningless" in out
    code, out, _ = run(capsys, "convert", successes, tmp_path / "both", "--to", "store", "--add-failures", failures)
    assert code == 0 and "14 episodes" in out and "failures   10 of them" in out
    code, out, _ = run(capsys, "doctor", tmp_path / "both")
    assert code == 0 and "is worth a try" in out


def test_the_line_that_the_doctor_gives_for_fitting_is_one_that_fit_takes(capsys, successes):
    from apportion.config import FitConfig

    out = run(capsys, "doctor", successes)[1]
    line = next(line for line in out.splitlines() if "apportion fit" in line)
    flags = [word.removeprefix("--") for word in line.split() if word.startswith("--")]
    assert set(flags) <= {name.replace("_", "-") for name in FitConfig.__dataclass_fields__}


def test_the_doctor_goes_by_the_method_that_is_meant(capsys, successes):
    code, out, _ = run(capsys, "doctor", successes, "--method", "progress")
    assert code == 0 and "training progress is worth a try" in out and "  rrd " not in out
    assert run(capsys, "doctor", successes, "--method", "success")[0] == 1
    assert run(capsys, "doctor", successes, "--method", "success", "--rewind")[0] == 0


def test_the_doctors_findings_are_json_for_scripts(capsys, successes):
    code, out, _ = run(capsys, "doctor", successes, "--json")
    said = json.loads(out)
    assert code == 1 and said["meaningless"] and said["findings"][0]["topic"] == "constant-return"
    assert said["lessons"].keys() == {"rrd", "rrd-lrd", "rd", "progress", "success"}


def test_a_column_can_be_the_return(capsys, successes):
    code, out, _ = run(capsys, "doctor", successes, "--return", "column:phase")
    assert code == 0 and "The returns differ between episodes." in out
    code, _, err = run(capsys, "doctor", successes, "--return", "column:phaze")
    assert code == 2 and "phase" in err


def test_convert_says_what_it_did(capsys, tmp_path):
    demos = [demo(i) for i in range(3)]
    demos[0].action[2:4, :6] = 0
    store(tmp_path / "src", demos)
    flags = ("--to", "rlds", "--drop-noops", "--resize", 8)
    code, out, err = run(capsys, "convert", tmp_path / "src", tmp_path / "dst", *flags)
    assert code == 0 and not err
    assert "3 episodes, 34 steps" in out and "no-ops     2 steps dropped" in out and "note       3 of 3" in out


def test_the_return_by_a_column_stays_or_its_change_is_told(capsys, tmp_path):
    from apportion.data.returns import store_returns

    demos = [demo(i, 10 + i, frames=False) for i in range(3)]
    demos = [replace(one, extra={**one.extra, "paid": one.action[:, 0].astype(np.float64)}) for one in demos]
    demos[0].action[2:4, :6] = 0
    before = store_returns(store(tmp_path / "src", demos), "column:paid")

    def convert(name, *flags):
        code, out, err = run(capsys, "convert", tmp_path / "src", tmp_path / name, "--to", "store", *flags)
        assert code == 0, err
        return store_returns(DemoStore(tmp_path / name), "column:paid"), out

    after, out = convert("silent", "--drop-noops")
    assert after[0] < before[0]
    assert "(--return column:NAME) changed: paid, phase; to add them up as rewards are: --sum-columns paid,phase" in out
    after, out = convert("summed", "--drop-noops", "--hz", "10", "--sum-columns", "paid,phase")
    np.testing.assert_allclose(after, before, rtol=1e-12)
    assert "--sum-columns" not in out
    after, out = convert("untouched")
    assert "--sum-columns" not in out and after.tolist() == before.tolist()


def test_bad_episodes_are_counted_where_they_may_be_skipped(capsys, tmp_path):
    demos = [demo(i) for i in range(3)]
    demos[1] = replace(demos[1], reward=np.full(12, np.nan, np.float32))
    store(tmp_path / "src", demos)
    code, _, err = run(capsys, "inspect", tmp_path / "src")
    assert code == 2 and "episode demo_1, step 0: reward is not finite" in err
    code, out, err = run(capsys, "inspect", tmp_path / "src", "--skip-bad")
    assert code == 0 and "skipped    1 bad episodes" in out and "demo_1" in err
    code, out, _ = run(capsys, "convert", tmp_path / "src", tmp_path / "dst", "--to", "store", "--skip-bad")
    assert code == 0 and "skipped    1 bad episodes" in out and len(DemoStore(tmp_path / "dst")) == 2


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["inspekt", "SRC"], "unknown verb 'inspekt'; did you mean inspect?"),
        (["inspect", "SRC", "--sheets", "x"], "did you mean --sheet?"),
        (["inspect", "SRC", "--per-task", "0"], "--per-task 0: at least 1"),
        (["inspect", "SRC", "--sheet", "NONE/x.png"], "does not exist"),
        (["inspect", "SRC", "--timing", "after"], "--timing is for LIBERO's HDF5 files"),
        (["doctor", "SRC", "--method", "rrdlrd"], "did you mean rrd-lrd?"),
        (["doctor", "SRC", "--return", "sucess"], "--return sucess: choose from"),
        (["convert", "SRC", "DST"], "--to"),
        (["convert", "SRC", "DST", "--to", "store", "--resize", "big"], "--resize big: give N or HEIGHTxWIDTH"),
        (["convert", "SRC", "DST", "--to", "store", "--lossless"], "--lossless is a setting of --to rlds and lerobot"),
        (["convert", "SRC", "DST", "--to", "store", "--hz", "0"], "--hz 0"),
        (["convert", "SRC", "DST", "--to", "store", "--sum-columns", "phase"], "is a setting of --hz and --drop-noops"),
        (["convert", "SRC", "DST", "--to", "store", "--hz", "10", "--sum-columns", "phas"], "did you mean phase?"),
        (["convert", "SRC", "DST", "--to", "store", "--cameras", "wrist"], "did you mean wrist_image?"),
        (["convert", "SRC", "DST", "--to", "store", "--add-failures", "NONE"], "NONE does not exist"),
        (["convert", "SRC", "SRC", "--to", "store"], "exists already"),
        (["convert", "SRC", "DST.hdf5", "--to", "hdf5"], "give a folder"),
    ],
)
def test_a_slip_is_one_line(capsys, successes, tmp_path, words, answer):
    places = {"SRC": successes, "DST": tmp_path / "dst", "DST.hdf5": tmp_path / "x.hdf5", "NONE": tmp_path / "NONE"}
    code, out, err = run(capsys, *(places.get(word, word) for word in words))
    assert code == 2 and answer in err and err.count("\n") == 1 and not out
    assert {p.name for p in tmp_path.iterdir()} == {"successes"}


def test_help_names_the_verbs(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0 and all(verb in out for verb in ("inspect", "doctor", "convert", "features"))
