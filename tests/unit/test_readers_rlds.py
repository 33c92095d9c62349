"""RLDS: records byte by byte, sets of any make, and damage, which one line names."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from apportion.data.rlds import RldsSet
from apportion.data.schema import BadDemo, episodes
from apportion.data.spoken import spoken
from apportion.data.tfrecord import Damaged, parse_example, read_record, record_offsets
from apportion.types import UserError
from records_for_tests import (
    PAIR,
    RLDS,
    bytes_list,
    example,
    features_dict,
    flip_byte,
    float_list,
    framed,
    image,
    int64_list,
    jpeg,
    message,
    one_line,
    png,
    small,
    tensor,
    text,
    varint,
    write_rlds,
)


def test_lists_of_every_kind_are_parsed():
    values = parse_example(
        example(
            {
                "b": bytes_list([b"one", b"", b"three"]),
                "f": float_list([1.5, -2.0]),
                "i": int64_list([0, 1, 127, 128, 300, 2**62, -1]),
                "small": int64_list([1, 0, 1]),
                "empty": b"",
            }
        )
    )
    assert [bytes(b) for b in values["b"]] == [b"one", b"", b"three"]
    np.testing.assert_array_equal(values["f"], np.array([1.5, -2.0], np.float32))
    assert np.asarray(values["i"]).tolist() == [0, 1, 127, 128, 300, 2**62, -1]
    assert np.asarray(values["small"]).tolist() == [1, 0, 1]
    assert values["empty"] == []


def test_lists_that_are_not_packed_are_parsed():
    floats = message(2, b"".join(varint(1 << 3 | 5) + np.float32(x).tobytes() for x in (1.5, 2.5)))
    ints = message(3, b"".join(varint(1 << 3) + varint(x) for x in (7, 300)))
    values = parse_example(example({"f": floats, "i": ints}))
    assert np.asarray(values["f"]).tolist() == [1.5, 2.5] and np.asarray(values["i"]).tolist() == [7, 300]


def test_no_cut_of_a_record_is_taken_for_a_whole_one():
    record = example({"a": float_list(range(5)), "b": bytes_list([b"xyz"]), "c": int64_list([1, 300])})
    for end in range(1, len(record)):
        with pytest.raises(Damaged):
            parse_example(record[:end])


def test_checksums_are_those_of_the_format(tmp_path: Path):
    file = tmp_path / "x"
    file.write_bytes(framed(b"first") + framed(b"") + framed(b"third"))
    offsets, damage = record_offsets(file)
    assert damage == "" and [read_record(file, *place) for place in offsets] == [b"first", b"", b"third"]


@pytest.mark.long  # for the package that `make check-long` installs
def test_the_parser_agrees_with_tensorflow_datasets():
    from tensorflow_datasets.core import features

    oracle = features.FeaturesDict.from_config(str(PAIR / "libero_spatial_no_noops" / "1.0.0"))
    demos = RldsSet(PAIR / "libero_spatial_no_noops")
    for index in range(len(demos)):
        demo = demos.read(index)
        file = demos.path / demo.source.path
        record = read_record(file, *record_offsets(file)[0][demo.source.index])
        steps = list(oracle.deserialize_example_np(record)["steps"])
        np.testing.assert_array_equal(demo.action, [step["action"] for step in steps])
        np.testing.assert_array_equal(demo.proprio["state"], [step["observation"]["state"] for step in steps])
        np.testing.assert_array_equal(demo.reward, [step["reward"] for step in steps])
        assert demo.terminated == steps[-1]["is_terminal"]


# --- sets of other makes


def test_only_the_frames_asked_for_are_decoded(tmp_path: Path):
    steps, record = small(frames=[jpeg(1), b"no image", b"none", b"either", jpeg(9)])
    write_rlds(tmp_path / "1.0.0", steps, [record])
    demos = RldsSet(tmp_path)
    demos.read(0, "none")
    with pytest.raises(BadDemo) as error:
        demos.read(0, "ends")
    one_line(error, "step 2", "camera image")


def test_any_rlds_set_is_read_by_its_features(tmp_path: Path):
    steps, _ = small()
    steps |= {
        "action": features_dict({"world": tensor("float32", 2), "grip": tensor("float32")}),
        "phase": tensor("int32"),
        "far": tensor("float64", 2, encoding="bytes"),
        "note": text(),
    }
    far = [np.array([i, -i], "<f8").tobytes() for i in range(5)]
    lists = {
        "steps/action": b"",
        "steps/action/world": float_list(range(10)),
        "steps/action/grip": float_list([9] * 5),
        "steps/phase": int64_list([0, 1, 1, 2, -2]),
        "steps/far": bytes_list(far),
        "steps/note": bytes_list([b"x"] * 5),
    }
    _, record = small([png(3), *[jpeg(100)] * 4], **lists)
    write_rlds(tmp_path / "1.0.0", steps, [record], description="fps: 5 a second")
    demos = RldsSet(tmp_path / "1.0.0")
    demo = demos.read(0)
    assert demos.info.action == 3 and demos.info.fps == 5 and demos.info.cameras["image"].orientation == "unknown"
    np.testing.assert_array_equal(demo.action[1], [9, 2, 3])  # grip before world
    assert demo.images["image"][0, 0, 0].tolist() == [3, 3, 3]
    assert demo.extra["phase"].tolist() == [0, 1, 1, 2, -2] and demo.extra["phase"].dtype == np.int32
    np.testing.assert_array_equal(demo.extra["far"][3], [3.0, -3.0])
    assert demo.language == demo.task == "lift the cup" and demo.success is True


def test_the_size_of_a_camera_may_be_open(tmp_path: Path):
    steps, record = small()
    steps["observation"]["featuresDict"]["features"]["image"] = image(-1, -1, 3)
    write_rlds(tmp_path / "1.0.0", steps, [record])
    camera = RldsSet(tmp_path).info.cameras["image"]
    assert (camera.height, camera.width) == (8, 8)


def test_without_rewards_success_is_unknown(tmp_path: Path):
    steps, record = small(**{"steps/reward": b""})
    del steps["reward"]
    write_rlds(tmp_path / "1.0.0", steps, [record])
    demo = RldsSet(tmp_path).read(0)
    assert demo.success is None and not demo.reward.any() and demo.terminated


def test_a_task_is_spelt_the_same_by_rollouts_and_demonstrations(tmp_path: Path):
    from apportion.data.rlds import _task

    words = "turn on the stove"
    assert spoken("KITCHEN_SCENE3_turn_on_the_stove") == words
    assert _task("/x/regenerated/libero_10/KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", words) == (
        _task("rollouts/KITCHEN_SCENE3_turn_on_the_stove/seed_102", words)
    )
    assert _task("gs://x/episode_12.npz", words) == words


# --- damage


def damaged(tmp_path: Path) -> Path:
    """A copy of the RLDS sample."""
    return Path(shutil.copytree(RLDS / "1.0.0", tmp_path / "1.0.0"))


def test_a_wrong_checksum_spoils_one_episode(tmp_path: Path):
    shard = damaged(tmp_path) / "liber_o10-train.tfrecord-00000-of-00002"
    start, length = record_offsets(shard)[0][1]
    flip_byte(shard, start + length // 2)
    demos, lost = RldsSet(tmp_path), []
    assert len(list(episodes(demos, skip_bad=lost.append))) == 5 and len(lost) == 1
    with pytest.raises(BadDemo) as error:
        demos.read(1)
    one_line(error, shard.name, "episode 1", "checksum")


def test_a_shard_cut_short_spoils_the_episodes_after_the_cut(tmp_path: Path):
    shard = damaged(tmp_path) / "liber_o10-train.tfrecord-00000-of-00002"
    shard.write_bytes(shard.read_bytes()[:-100])
    demos, lost = RldsSet(tmp_path), []
    assert len(list(episodes(demos, skip_bad=lost.append))) == 5 and len(lost) == 1
    with pytest.raises(BadDemo) as error:
        demos.read(2)
    one_line(error, shard.name, "episode 2", "cut short")


def test_a_damaged_length_spoils_the_rest_of_its_shard(tmp_path: Path):
    shard = damaged(tmp_path) / "liber_o10-train.tfrecord-00001-of-00002"
    flip_byte(shard, record_offsets(shard)[0][1][0] - 12)
    demos, lost = RldsSet(tmp_path), []
    assert len(list(episodes(demos, skip_bad=lost.append))) == 4 and len(lost) == 2


@pytest.mark.parametrize(("damage", "said"), [("empty", "empty"), ("gone", "cannot be read"), ("text", "checksum")])
def test_a_shard_that_is_none_is_named(tmp_path: Path, damage: str, said: str):
    shard = damaged(tmp_path) / "liber_o10-train.tfrecord-00000-of-00002"
    shard.write_bytes(b"" if damage == "empty" else b"this is a page of text, not a record")
    if damage == "gone":
        shard.unlink()
    with pytest.raises(BadDemo) as error:
        RldsSet(tmp_path).read(0)
    one_line(error, shard.name, "episode 0", said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"steps/observation/image": b""}, "camera image is missing"),
        ({"steps/observation/image": bytes_list([jpeg(1)] * 4)}, "camera image has 4 frames for 5 actions"),
        ({"steps/observation/image": bytes_list([*[jpeg(1)] * 3, jpeg(1)[:-20], jpeg(1)])}, "step 3: camera image"),
        ({"steps/observation/image": bytes_list([jpeg(1, 16)] * 5)}, "step 0: camera image: 16 x 16 pixels"),
        ({"steps/observation/image": bytes_list([jpeg(1, 4)] * 5)}, "step 0: camera image: 4 x 4 pixels"),
        ({"steps/observation/image": bytes_list([b""] * 5)}, "step 0: camera image: empty"),
        ({"steps/observation/state": float_list(range(9))}, "state has 9 numbers"),
        ({"steps/observation/state": bytes_list([b"ab"] * 5)}, "state does not hold"),
        ({"steps/action": b""}, "steps/action is missing"),
        ({"steps/action": float_list([0.0] * 7 + [np.nan] + [0.0] * 7)}, "step 2: action is not finite"),
        ({"steps/reward": float_list([0.0])}, "reward has 1 numbers"),
    ],
)
def test_a_bad_column_is_named(tmp_path: Path, changed: dict[str, bytes], said: str):
    steps, record = small(**changed)
    shard = write_rlds(tmp_path / "1.0.0", steps, [record])
    with pytest.raises(BadDemo) as error:
        RldsSet(tmp_path).read(0)
    one_line(error, shard.name, "episode 0", said)


def test_names_in_the_json_cannot_leave_the_folder(tmp_path: Path):
    steps, record = small()
    write_rlds(tmp_path / "1.0.0", steps, [record])
    file = tmp_path / "1.0.0" / "dataset_info.json"
    file.write_text(file.read_text().replace('"robot"', '"../robot"'))
    with pytest.raises(UserError, match="no file name in this folder"):
        RldsSet(tmp_path)


def test_a_features_file_without_steps_is_no_set_of_episodes(tmp_path: Path):
    folder = damaged(tmp_path)
    (folder / "features.json").write_text(json.dumps(features_dict({"image": image(8, 8, 3)})))
    with pytest.raises(UserError, match="lists no steps"):
        RldsSet(folder)
