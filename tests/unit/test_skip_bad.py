"""Damaged episodes, and HDF5 files that do not say how they are aligned: fit, audit and label go on, or say why not."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apportion.cli import main
from apportion.data.lerobot import LeRobotSet, write_lerobot
from apportion.data.libero import LiberoSet
from apportion.data.rlds import RldsSet
from apportion.data.schema import BadDemo
from apportion.data.store import DemoStore
from apportion.data.tfrecord import record_offsets
from apportion.rewards.demo_model import DemoReward
from apportion.run.rundir import RunDir
from apportion.train.offline import resume
from demos_for_tests import demo, info, store
from records_for_tests import RLDS, flip_byte, native
from rewards_for_tests import fitted_run, reward_model

BAD = 2
FIT = ["--method", "success", "--batch-size", "8", "--r-hidden", "8", "--steps", "20", "--val-share", "0.3"]


def made_up(count: int = 10):
    return [demo(i, 5 + i % 4, success=i % 2 > 0, frames=False) for i in range(count)]


def spoilt(one):
    """`one` with a state that is no number."""
    state = one.proprio["state"].copy()
    state[3] = np.nan
    return replace(one, proprio={**one.proprio, "state": state})


@pytest.fixture
def arm(tmp_path):
    """A store whose episode 2 is bad."""
    demos = made_up()
    store(tmp_path / "arm", [spoilt(one) if i == BAD else one for i, one in enumerate(demos)]).close()
    return tmp_path / "arm"


@pytest.fixture
def pick(tmp_path):
    """An HDF5 file of the regenerated kind, whose episode 2 is bad."""
    path = native(tmp_path / "pick_demo.hdf5", {f"demo_{i}": 5 + i % 4 for i in range(10)})
    rng = np.random.default_rng(0)
    with h5py.File(path, "r+") as file:
        for group in file["data"].values():
            group["obs/ee_states"][...] = rng.normal(size=group["obs/ee_states"].shape)
        file["data/demo_2/obs/ee_states"][3] = np.nan
    return path


def run(capsys, *words):
    code = main([*map(str, words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def fitted(capsys, data: Path, place: Path, *more: str) -> str:
    code, _, err = run(capsys, "fit", "--data", data, "--runs-dir", place.parent, "--name", place.name, *FIT, *more)
    assert code == 0, err
    return err


@pytest.mark.parametrize("kind", ["arm", "pick"])
def test_a_fit_goes_on_without_a_bad_episode_and_keeps_the_numbers_of_the_set(request, tmp_path, capsys, kind):
    data = request.getfixturevalue(kind)
    code, _, err = run(capsys, "fit", "--data", data, "--runs-dir", tmp_path, "--name", "no", *FIT)
    assert code == 2 and "demo_2, step 3: state is not finite" in err
    assert [line for line in err.splitlines() if "demo_2" in line] == [err.splitlines()[-1]]
    err = fitted(capsys, data, tmp_path / "run", "--skip-bad")
    assert "skipped 1 bad episode, the first: " in err and err.count("demo_2, step 3: state is not finite") == 1
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert sorted(split["train"] + split["val"]) == [0, 1, *range(3, 10)]
    # the numbers are those of the set: the normaliser saw just the episodes that split.json says were learned from
    demos = DemoStore(data) if kind == "arm" else LiberoSet(data)
    rows = np.concatenate([demos.read(i).proprio["state"] for i in split["train"]])
    mean = DemoReward.load(tmp_path / "run").net.norm.mean.numpy()
    np.testing.assert_allclose(mean, rows.mean(0, dtype=np.float64), rtol=1e-4, atol=1e-7)


def test_an_audit_judges_the_episodes_that_can_be_read(arm, tmp_path, capsys):
    fitted(capsys, arm, tmp_path / "run", "--skip-bad")
    assert run(capsys, "audit", tmp_path / "run")[0] == 0  # what was held out can be read
    words = ("audit", tmp_path / "run", "--episodes", "all", "--json")
    code, _, err = run(capsys, *words)
    assert code == 2 and "demo_2, step 3" in err and err.count("\n") == 1
    code, out, err = run(capsys, *words, "--skip-bad")
    found = json.loads(out)
    assert code == 0 and (found["episodes"], found["skipped"]) == (9, 1)
    assert (found["held_out"], found["controls_fitted_to"]) == (3, 6)  # of 5 successes and 4 good failures
    assert err.startswith("skipped 1 bad episode, the first: ") and err.count("\n") == 1
    code, _, err = run(capsys, "report", tmp_path / "run", "--episodes", "all", "--show", 9, "--skip-bad")
    assert code == 0 and "skipped 1 bad episode" in err


def test_controls_say_which_training_episodes_they_lack(arm, tmp_path, capsys):
    train, val = [i for i in range(10) if i not in (4, 5)], [4, 5]  # fitted before the damage
    where = fitted_run(tmp_path / "run", reward_model(demo(0), data=str(arm)), train, val)
    assert run(capsys, "audit", where)[0] == 2
    code, out, _ = run(capsys, "audit", where, "--json", "--skip-bad")
    found = json.loads(out)
    assert code == 0 and (found["episodes"], found["controls_fitted_to"]) == (2, 7)
    assert any("the controls skipped 1 bad episode" in line for line in found["warnings"])


def test_sets_of_nothing_but_bad_episodes_end_in_a_line(tmp_path, capsys):
    store(tmp_path / "arm", [spoilt(one) for one in made_up(3)]).close()
    where = fitted_run(tmp_path / "run", reward_model(demo(0)))
    data = ("--data", tmp_path / "arm", "--skip-bad")
    for words in (
        ("fit", "--runs-dir", tmp_path, "--name", "no"),
        ("audit", where),
        ("label", "--model", where, "--out", tmp_path / "out"),
    ):
        code, _, err = run(capsys, *words, *data)
        assert code == 2 and "all 3 episodes are bad, the first: " in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def unfinished(where: Path) -> None:
    """As if it had been killed before its first checkpoint."""
    shutil.rmtree(where / "checkpoints")
    (where / "fit.json").unlink()
    RunDir(where).mark("finished", False)


def test_a_resumed_fit_skips_what_it_skipped_before(arm, tmp_path, capsys):
    fitted(capsys, arm, tmp_path / "run", "--skip-bad")
    names = ("split.json", "metrics.jsonl", "reward/reward.safetensors")
    before = [(tmp_path / "run" / name).read_bytes() for name in names]
    unfinished(tmp_path / "run")
    resume(tmp_path / "run", progress=False)
    assert [(tmp_path / "run" / name).read_bytes() for name in names] == before


def test_a_resumed_fit_keeps_the_split_it_began_with(tmp_path, capsys):
    store(tmp_path / "whole", made_up())
    fitted(capsys, tmp_path / "whole", tmp_path / "run")
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    other = {**split, "train": [0, 1, 2, 3, 4, 5, 6], "val": [7, 8, 9]}
    assert split != other
    (tmp_path / "run" / "split.json").write_text(json.dumps(other))  # as another release may have drawn it
    unfinished(tmp_path / "run")
    resume(tmp_path / "run", progress=False)
    assert json.loads((tmp_path / "run" / "split.json").read_text()) == other
    rows = np.concatenate([one.proprio["state"] for one in made_up()[:7]])
    mean = DemoReward.load(tmp_path / "run").net.norm.mean.numpy()
    np.testing.assert_allclose(mean, rows.mean(0, dtype=np.float64), rtol=1e-4, atol=1e-7)
    unfinished(tmp_path / "run")
    (tmp_path / "run" / "split.json").write_text(json.dumps({**other, "train": [0, 1, 99]}))
    assert main(["resume", str(tmp_path / "run")]) == 2
    assert "names episode 99, which the data has not" in capsys.readouterr().err


# -------------------------------------------------------------------- label


def labelled(capsys, tmp_path: Path, data: Path, first, *more: str, **settings) -> DemoReward:
    """Labels `data`, which has one bad episode, after being refused without --skip-bad."""
    model = reward_model(first, **settings)
    where = fitted_run(tmp_path / "model", model)
    words = ("label", "--model", where, "--data", data, "--out", tmp_path / "out", *more)
    code, _, err = run(capsys, *words)
    assert code == 2 and err.count("\n") == 1 and not (tmp_path / "out").exists()
    code, _, err = run(capsys, *words, "--skip-bad")
    assert code == 0 and err.count("\n") == 1
    assert err.startswith("skipped 1 bad episode without a reward in the copy, the first: ")
    return model


def test_a_labelled_store_has_no_number_for_a_skipped_episode(arm, tmp_path, capsys):
    model = labelled(capsys, tmp_path, arm, demo(0))
    before, after = DemoStore(arm), DemoStore(tmp_path / "out")
    low, high = after.start[BAD], after.start[BAD] + after.length[BAD]
    assert np.isnan(after.columns["extra.reward_rrd"][low:high]).all()
    for i in (i for i in range(10) if i != BAD):
        np.testing.assert_array_equal(after.read(i).extra["reward_rrd"], model.rewards(before.read(i)))


def test_labelled_hdf5_lacks_the_dataset_of_a_skipped_episode(pick, tmp_path, capsys):
    model = labelled(capsys, tmp_path, pick, LiberoSet(pick).read(0))
    source = LiberoSet(pick)
    with h5py.File(tmp_path / "out") as file:
        for i in range(10):
            group = file[f"data/demo_{i}"]
            assert ("rewards_rrd" in group) == (i != BAD)
            if i != BAD:
                np.testing.assert_array_equal(group["rewards_rrd"][()], model.rewards(source.read(i)))


@pytest.mark.parametrize("bad", [0, 1])
def test_labelled_rlds_lacks_the_record_of_a_skipped_episode(tmp_path, capsys, bad):
    data = tmp_path / "data"
    shutil.copytree(RLDS, data)
    whole = RldsSet(RLDS)
    good = [whole.read(i, "none") for i in range(len(whole)) if i != bad]
    lost = whole.read(bad, "none").source
    shard = next(data.rglob(lost.path))
    flip_byte(shard, record_offsets(shard)[0][lost.index][0] + 100)
    model = labelled(capsys, tmp_path, data, good[0])
    after = RldsSet(tmp_path / "out")
    assert len(after) == len(good)
    for one, i in zip(good, range(len(after)), strict=True):
        found = after.read(i, "all")
        np.testing.assert_array_equal(found.extra["reward_rrd"], model.rewards(one))
        np.testing.assert_array_equal(found.action, one.action)
    split = json.loads((tmp_path / "out" / "1.0.0" / "dataset_info.json").read_text())["splits"][0]
    assert sum(map(int, split["shardLengths"])) == len(good)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_labelled_lerobot_has_no_number_and_no_progress_for_a_skipped_episode(tmp_path, capsys, version):
    demos = [demo(i, 6 + i, success=i != 1) for i in range(4)]
    data = tmp_path / "data"
    write_lerobot(demos, info(demos[0]), data, version=version, fps=20.0)
    entry = LeRobotSet(data).meta.episodes[BAD]
    table = LeRobotSet(data).meta.data_file(entry)
    rows = pq.read_table(table)
    place = rows["episode_index"].to_pylist().index(BAD)
    column = rows.column_names.index("action")
    actions = rows["action"].to_pylist()
    actions[place + 1] = [float("nan")] * 7
    field = rows.schema.field(column)
    pq.write_table(rows.set_column(column, field, pa.array(actions, field.type)), table)
    model = labelled(capsys, tmp_path, data, demos[0], method="progress")
    before, after = LeRobotSet(data), LeRobotSet(tmp_path / "out")
    for i in (0, 1, 3):
        np.testing.assert_array_equal(after.read(i).extra["reward.progress"], model.rewards(before.read(i)))
    with pytest.raises(BadDemo):
        after.read(BAD)
    numbers = pq.read_table(after.meta.data_file(after.meta.episodes[BAD]))
    own = np.array(numbers["episode_index"]) == BAD
    assert np.isnan(np.array(numbers["reward.progress"])[own]).all() and own.sum() == 8
    progress = pq.read_table(tmp_path / "out" / "sarm_progress.parquet")
    assert progress["episode_index"].to_pylist() == [0] * 6 + [1] * 7 + [3] * 9
    assert progress["index"].to_pylist() == [*range(13), *range(21, 30)]
    phi = np.concatenate([model.potential(before.read(i)) for i in (0, 1, 3)])
    np.testing.assert_allclose(progress["progress_sparse"].to_numpy(), phi, rtol=1e-6)


def test_a_lerobot_table_that_cannot_be_read_stays_as_it_is(tmp_path, capsys):
    demos = [demo(i, 6 + i) for i in range(3)]
    data = tmp_path / "data"
    write_lerobot(demos, info(demos[0]), data, version="v2.1", fps=20.0)
    table = LeRobotSet(data).meta.data_file(LeRobotSet(data).meta.episodes[1])
    table.write_bytes(table.read_bytes()[:100])
    model = labelled(capsys, tmp_path, data, demos[0], method="progress")
    out = LeRobotSet(tmp_path / "out")
    assert out.meta.data_file(out.meta.episodes[1]).read_bytes() == table.read_bytes()
    np.testing.assert_array_equal(out.read(2).extra["reward.progress"], model.rewards(LeRobotSet(data).read(2)))


# -------------------------------------------------------------------- timing


def test_a_fit_remembers_how_its_files_are_aligned(pick, tmp_path, capsys):
    fitted(capsys, pick, tmp_path / "run", "--skip-bad", "--timing", "after")
    assert json.loads((tmp_path / "run" / "config.json").read_text())["timing"] == "after"
    cached = DemoStore(tmp_path / "run" / "cache" / "demos")
    with h5py.File(pick) as file:
        actions = [len(file[f"data/demo_{i}/actions"]) for i in range(10) if i != BAD]
    assert cached.length.tolist() == [n - 1 for n in actions]  # the first action of each has no observation
    # its own data is read as it was then, without being told
    code, out, _ = run(capsys, "audit", tmp_path / "run", "--episodes", "all", "--skip-bad", "--json")
    assert code == 0 and json.loads(out)["steps"] == sum(actions) - 9
    out = tmp_path / "out.hdf5"
    assert run(capsys, "label", "--model", tmp_path / "run", "--data", pick, "--out", out, "--skip-bad")[0] == 0
    with h5py.File(out) as file:
        assert file["data/demo_0/rewards_success"].attrs["first_rows_unknown"] == 1
    code, _, err = run(capsys, "audit", tmp_path / "run", "--timing", "before")
    assert code == 2 and "with --timing after: leave it out" in err and err.count("\n") == 1


def test_other_files_are_aligned_as_the_command_line_says(pick, tmp_path, capsys):
    model = reward_model(LiberoSet(pick).read(0))
    where = fitted_run(tmp_path / "run", model)
    for timing, steps in (("before", 56), ("after", 47)):
        words = ("audit", where, "--data", pick, "--skip-bad", "--json", "--timing", timing)
        code, out, _ = run(capsys, *words)
        assert code == 0 and json.loads(out)["steps"] == steps
    out = tmp_path / "out.hdf5"
    words = ("label", "--model", where, "--data", pick, "--out", out, "--skip-bad", "--timing", "after")
    assert run(capsys, *words)[0] == 0
    with h5py.File(out) as file:
        expected = model.rewards(LiberoSet(pick, "after").read(0))
        np.testing.assert_array_equal(file["data/demo_0/rewards_rrd"][1:], expected)


def test_timing_is_for_hdf5_files(arm, tmp_path, capsys):
    where = fitted_run(tmp_path / "run", reward_model(demo(0)))
    for words in (
        ("fit", "--runs-dir", tmp_path / "runs"),
        ("audit", where),
        ("label", "--model", where, "--out", tmp_path / "out"),
    ):
        code, _, err = run(capsys, *words, "--data", arm, "--timing", "after")
        assert code == 2 and "--timing is for LIBERO's HDF5 files" in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists() and not (tmp_path / "out").exists()
