"""Labelled copies: rewards read back from each format, everything else as it was, the source untouched."""

import hashlib
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from apportion.cli import main
from apportion.data.lerobot import LeRobotSet, write_lerobot
from apportion.data.libero import LiberoSet
from apportion.data.open import open_demos
from apportion.data.rlds import RldsSet
from apportion.data.rlds_column import with_floats
from apportion.data.schema import episodes
from apportion.data.store import DemoStore
from apportion.data.tfrecord import parse_example, read_record, record_offsets
from apportion.types import UserError
from demos_for_tests import demo, info, same, store
from records_for_tests import HDF5, PAIR, RLDS, example, float_list
from rewards_for_tests import fitted_run, reward_model

NATIVE = PAIR / "native"


def digests(path: Path) -> dict[str, str]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def labelled(tmp_path: Path, data: Path, out: Path, **settings):
    """Labels `data` by the command line; the model, which must say the same of every episode."""
    model = reward_model(open_demos(data).read(0, "none"), **settings)
    before = digests(data)
    run = fitted_run(tmp_path / "run", model)
    assert main(["label", "--model", str(run), "--data", str(data), "--out", str(out)]) == 0
    assert digests(data) == before
    assert not list(out.parent.glob("*.tmp"))
    return model


def made_up(count: int = 3, frames: bool = False):
    return [demo(i, 6 + i, success=i != 1, frames=frames) for i in range(count)]


@pytest.fixture
def arm(tmp_path):
    store(tmp_path / "arm", made_up()).close()
    return tmp_path / "arm"


def test_a_store_gains_an_extra_column(arm, tmp_path, capsys):
    model = labelled(tmp_path, arm, tmp_path / "out")
    for before, after in zip(episodes(DemoStore(arm)), episodes(DemoStore(tmp_path / "out")), strict=True):
        reward = after.extra.pop("reward_rrd")
        np.testing.assert_array_equal(reward, model.rewards(before))
        same(before, after)
    assert "3 episodes, 21 steps; column extra.reward_rrd" in capsys.readouterr().out


def test_rlds_records_gain_a_step_feature_and_keep_every_byte_of_the_others(tmp_path):
    data, out = RLDS, tmp_path / "out"
    model = labelled(tmp_path, data, out)
    first, second = RldsSet(data), RldsSet(out)
    for before, after in zip(episodes(first, "none"), episodes(second, "none"), strict=True):
        np.testing.assert_array_equal(after.extra.pop("reward_rrd"), model.rewards(before))
        same(before, after)
    for shard in sorted(data.rglob("*.tfrecord-*")):
        copy = out / shard.relative_to(data)
        for mine, theirs in zip(record_offsets(shard)[0], record_offsets(copy)[0], strict=True):
            old, new = parse_example(read_record(shard, *mine)), parse_example(read_record(copy, *theirs))
            assert set(new) - set(old) == {"steps/reward_rrd"}
            assert all(
                np.array_equal(old[k], new[k]) if isinstance(old[k], np.ndarray) else old[k] == new[k] for k in old
            )
    info = json.loads((out / "1.0.0" / "dataset_info.json").read_text())
    sizes = [n for shard in out.rglob("*.tfrecord-*") for _, n in record_offsets(shard)[0]]
    assert info["splits"][0]["numBytes"] == str(sum(sizes))


def test_an_example_in_two_parts_becomes_one(tmp_path):
    split = example({"a": float_list([1.0])}) + example({"b": float_list([2.0])})
    whole = parse_example(with_floats(split, "c", np.array([3.0, 4.0])))
    assert {name: list(x) for name, x in whole.items()} == {"a": [1.0], "b": [2.0], "c": [3.0, 4.0]}
    assert whole.keys() == parse_example(split).keys() | {"c"}


def test_hdf5_files_gain_a_dataset_beside_rewards(tmp_path):
    model = labelled(tmp_path, HDF5, tmp_path / "out", method="success")
    first, second = LiberoSet(HDF5), LiberoSet(tmp_path / "out")
    for before, after in zip(episodes(first, "none"), episodes(second, "none"), strict=True):
        np.testing.assert_array_equal(after.extra.pop("rewards_success"), model.rewards(before))
        same(before, after)


def test_where_observations_lie_after_actions_the_first_row_is_marked_unknown(tmp_path):
    file = next(NATIVE.glob("*.hdf5"))
    model = labelled(tmp_path, file, tmp_path / "one.hdf5")
    one = LiberoSet(file).read(0, "none")
    with h5py.File(tmp_path / "one.hdf5") as handle:
        group = handle["data"][one.source.name]
        found = group["rewards_rrd"]
        assert len(found) == len(group["actions"]) == one.length + 1
        assert found[0] == 0
        assert found.attrs["first_rows_unknown"] == 1
        np.testing.assert_array_equal(found[1:], model.rewards(one))


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_lerobot_tables_gain_a_column_and_a_progress_file(tmp_path, version):
    demos = made_up(frames=True)
    write_lerobot(demos, info(demos[0]), tmp_path / "data", version=version, fps=20.0)
    out = tmp_path / "out"
    model = labelled(tmp_path, tmp_path / "data", out, method="progress")
    before, after = LeRobotSet(tmp_path / "data"), LeRobotSet(out)
    for index in range(3):
        old, new = before.read(index), after.read(index)
        np.testing.assert_array_equal(new.extra.pop("reward.progress"), model.rewards(old))
        same(old, new)
    progress = pq.read_table(out / "sarm_progress.parquet")
    assert progress["index"].to_pylist() == list(range(21))
    phi = np.concatenate([model.potential(before.read(i)) for i in range(3)])
    np.testing.assert_allclose(progress["progress_sparse"].to_numpy(), phi, rtol=1e-6)
    about = json.loads((out / "meta" / "info.json").read_text())
    assert about["features"]["reward.progress"] == {"dtype": "float32", "shape": [1], "names": None}
    table = next((out / "data").rglob("*.parquet"))
    hub = json.loads(pq.read_schema(table).metadata[b"huggingface"])
    assert hub["info"]["features"]["reward.progress"] == {"dtype": "float32", "_type": "Value"}
    if version == "v3.0":
        stats = json.loads((out / "meta" / "stats.json").read_text())["reward.progress"]
    else:
        lines = (out / "meta" / "episodes_stats.jsonl").read_text().splitlines()
        stats = json.loads(lines[0])["stats"]["reward.progress"]
    assert stats["count"] == [21 if version == "v3.0" else 6]


def test_progress_of_summed_rewards_reaches_one_in_the_best_episode(tmp_path):
    demos = made_up(2, frames=True)
    write_lerobot(demos, info(demos[0]), tmp_path / "data", fps=20.0)
    model = labelled(tmp_path, tmp_path / "data", tmp_path / "out", method="rd")
    progress = pq.read_table(tmp_path / "out" / "sarm_progress.parquet")["progress_sparse"].to_numpy()
    sums = [np.cumsum(model.rewards(LeRobotSet(tmp_path / "data").read(i))) for i in range(2)]
    top = max(x[-1] for x in sums)
    expected = np.clip(np.concatenate(sums) / (top if top > 0 else 1), 0, 1)
    np.testing.assert_allclose(progress, expected, rtol=1e-5)


def test_labelling_twice_needs_another_name(arm, tmp_path, capsys):
    labelled(tmp_path, arm, tmp_path / "out")
    again = ["label", "--model", str(tmp_path / "run"), "--data", str(tmp_path / "out"), "--out", str(tmp_path / "two")]
    assert main(again) == 2
    assert "has a column extra.reward_rrd already: give another --name" in capsys.readouterr().err
    assert not (tmp_path / "two").exists()
    assert main([*again, "--name", "second"]) == 0
    assert {"reward_rrd", "reward_second"} <= DemoStore(tmp_path / "two").read(0).extra.keys()


@pytest.mark.parametrize(
    ("out", "name", "said"),
    [
        ("arm", "rrd", "exists already"),
        ("arm/inside", "rrd", "lie in one another"),
        ("out", "../up", "a letter, then letters"),
        ("full/file/out", "rrd", "cannot be written"),
    ],
)
def test_slips_leave_nothing_behind(arm, tmp_path, capsys, out, name, said):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    run = fitted_run(tmp_path / "run", reward_model(demo(0)))
    before = digests(tmp_path)
    words = ["label", "--model", str(run), "--data", str(arm), "--out", str(tmp_path / out), "--name", name]
    assert main(words) == 2
    assert said in capsys.readouterr().err
    assert digests(tmp_path) == before


def test_a_bad_episode_and_a_model_for_other_data_are_one_line(arm, tmp_path, capsys):
    run = fitted_run(tmp_path / "run", reward_model(demo(0), proprio=("joint_state",)))
    broken = tmp_path / "broken"
    shutil.copytree(RLDS, broken)
    shard = next(broken.rglob("*00000-of*"))
    data = bytearray(shard.read_bytes())
    data[200] ^= 255
    shard.write_bytes(bytes(data))
    assert main(["label", "--model", str(run), "--data", str(broken), "--out", str(tmp_path / "out")]) == 2
    assert "episode 0" in capsys.readouterr().err
    wrong = fitted_run(tmp_path / "wrong", reward_model(demo(0), tasks=["other"]))
    assert main(["label", "--model", str(wrong), "--data", str(arm), "--out", str(tmp_path / "out")]) == 2
    assert "was not fitted on task" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_link_out_of_a_file_is_not_written_through(tmp_path):
    from apportion.data.columns import add_column
    from apportion.data.schema import Source

    with h5py.File(tmp_path / "mine.hdf5", "w") as handle:
        handle.create_dataset("data/demo_0/actions", data=np.zeros((2, 7)))
    with h5py.File(tmp_path / "theirs.hdf5", "w") as handle:
        handle.create_group("data")["demo_0"] = h5py.ExternalLink(str(tmp_path / "mine.hdf5"), "data/demo_0")
    libero = LiberoSet(HDF5).info
    column = {Source("theirs.hdf5", 0, "demo_0"): np.zeros(2, np.float32)}
    with pytest.raises(UserError, match="link"):
        add_column(libero, tmp_path / "theirs.hdf5", tmp_path / "out.hdf5", "x", column, column, "")
    with h5py.File(tmp_path / "mine.hdf5") as handle:
        assert list(handle["data/demo_0"]) == ["actions"]


def test_several_sets_are_labelled_one_at_a_time_and_stay_as_they_are(tmp_path, capsys):
    sets = tmp_path / "libero"
    for suite in ("libero_90", "libero_10"):
        (sets / suite).mkdir(parents=True)
        shutil.copyfile(next(HDF5.glob("*.hdf5")), sets / suite / "lift_demo.hdf5")
    first = open_demos(sets / "libero_90").read(0, "none")
    run = fitted_run(tmp_path / "run", reward_model(first, suite="libero-100", data=str(sets)))
    before = digests(sets)
    assert main(["label", "--model", str(run), "--data", str(sets), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "label one at a time" in said and str(sets / "libero_90") in said
    assert digests(sets) == before and not (tmp_path / "out").exists()
    part = str(sets / "libero_10")
    assert main(["label", "--model", str(run), "--data", part, "--out", str(tmp_path / "out")]) == 0


def test_files_outside_of_the_copy_are_never_written_to(tmp_path):
    from apportion.data.columns import add_column
    from apportion.data.schema import Source

    (tmp_path / "set").mkdir()
    shutil.copyfile(next(HDF5.glob("*.hdf5")), tmp_path / "set" / "a.hdf5")
    before = digests(tmp_path)
    for path in (str(tmp_path / "set" / "a.hdf5"), "../set/a.hdf5"):
        column = {Source(path, 0, "demo_0"): np.zeros(2, np.float32)}
        with pytest.raises(UserError, match="only files of the copy"):
            add_column(LiberoSet(HDF5).info, tmp_path / "set", tmp_path / "out", "x", column, column, "")
    assert digests(tmp_path) == before
