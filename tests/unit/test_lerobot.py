"""LeRobot data sets: what is written is read back, by us, by pyarrow and PyAV alone, and by LeRobot where it is."""

import importlib.util
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from apportion.data.lerobot import LeRobotSet, write_lerobot, write_progress
from apportion.data.lerobot_stats import image_stats, merged, vector_stats
from apportion.data.schema import Camera, end_rows
from apportion.types import UserError
from lerobot_for_tests import (
    DEMOS,
    IMAGE,
    INFO,
    LENGTHS,
    STORAGE,
    WRIST,
    edit_info,
    edit_table,
    made,
    pictures,
    rewrite_video,
    set_column,
)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(version, storage) -> a data set with DEMOS, made once; copy it before changing it."""
    root, kept = tmp_path_factory.mktemp("lerobot"), {}

    def get(version: str, storage: str) -> Path:
        if (version, storage) not in kept:
            kept[version, storage] = root / f"{version}-{storage}"
            write_lerobot(DEMOS, INFO, root / f"{version}-{storage}", version=version, **STORAGE[storage])
        return kept[version, storage]

    return get


@pytest.fixture
def copied(written, tmp_path):
    return lambda version, storage: Path(shutil.copytree(written(version, storage), tmp_path / "set"))


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_what_was_written_is_read_back_in_any_order(written, version, storage):
    demos = LeRobotSet(written(version, storage))
    assert len(demos) == 4 and demos.info.cameras == INFO.cameras and demos.info.fps == 20
    assert demos.info.proprio == INFO.proprio and demos.info.action == 7
    for i in (2, 0, 3, 1, 1, 2):
        got, want = demos.read(i), DEMOS[i]
        steps = want.length
        for name, frames in want.images.items():
            difference = np.abs(got.images[name].astype(int) - frames[:steps])
            assert difference.max() == 0 if storage != "lossy" else difference.mean() < 2  # frames differ by 4
        for name, values in want.proprio.items():
            np.testing.assert_array_equal(got.proprio[name], values[:steps])
        for name, values in want.extra.items():
            np.testing.assert_array_equal(got.extra[name], values)
            assert got.extra[name].dtype == values.dtype
        np.testing.assert_array_equal(got.action, want.action)
        np.testing.assert_array_equal(got.reward, want.reward)
        for name in ("success", "terminated", "truncated", "language", "task"):
            assert getattr(got, name) == getattr(want, name)
        assert got.source.index == i and (written(version, storage) / got.source.path).is_file()


@pytest.mark.parametrize("storage", STORAGE)
@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_ends_are_the_first_middle_and_last_frame(written, version, storage):
    demos = LeRobotSet(written(version, storage))
    for i, steps in enumerate(LENGTHS):
        every, ends = demos.read(i), demos.read(i, "ends")
        np.testing.assert_array_equal(ends.images["wrist_image"], every.images["wrist_image"][end_rows(steps)])
        assert demos.read(i, "none").images == {}


def test_ends_decode_only_what_is_needed_and_none_nothing(copied):
    root = copied("v3.0", "lossless")
    file = root / f"videos/{IMAGE}/chunk-000/file-000.mp4"
    want = LeRobotSet(root).read(1, "ends")
    with av.open(str(file)) as video:  # episode 1 is frames 7 to 18; its middle one is 13, and pairs are 12/13, ...
        packets = [(packet.pos, packet.size) for packet in video.demux(video=0) if packet.size]
    data = bytearray(file.read_bytes())
    for frame in (8, 9, 10, 11, 14, 15, 16):
        position, size = packets[frame]
        data[position : position + size] = bytes(size)
    file.write_bytes(data)
    np.testing.assert_array_equal(LeRobotSet(root).read(1, "ends").images["image"], want.images["image"])
    shutil.rmtree(root / "videos")
    assert LeRobotSet(root).read(1, "none").length == LENGTHS[1]


def test_an_episode_of_one_step_has_three_ends(tmp_path):
    demo = made(0, 1, after_last=False)
    write_lerobot([demo], INFO, tmp_path / "set", lossless=True)
    ends = LeRobotSet(tmp_path / "set").read(0, "ends").images["image"]
    np.testing.assert_array_equal(ends, demo.images["image"][[0, 0, 0]])


def test_odd_sides_keep_every_pixel_column(tmp_path):
    demo = replace(made(0, 4), images={"image": pictures(0, 5, 31, 45)})
    write_lerobot([demo], replace(INFO, cameras={}), tmp_path / "set")
    demos = LeRobotSet(tmp_path / "set")
    assert demos.info.cameras == {"image": Camera(31, 45, "unknown")}
    assert np.abs(demos.read(0).images["image"].astype(int) - demo.images["image"][:4]).mean() < 2


def off(found: np.ndarray, frames: np.ndarray) -> float:
    """The largest mean difference of any one frame; a neighbour is off by 4."""
    return float(np.abs(found.astype(int) - frames).mean((1, 2, 3)).max())


@pytest.mark.parametrize("drift", [-0.3, 0.0, 0.3])
def test_joined_videos_are_exact_to_the_frame(copied, drift):
    root = copied("v3.0", "lossless")
    lead = {IMAGE: 0, WRIST: 5}  # frames before the first episode: cameras need not begin together
    for key, before in lead.items():
        frames = [d.images[key.removeprefix("observation.images.")][: d.length] for d in DEMOS]
        joined = np.concatenate([np.zeros((before, 32, 48, 3), np.uint8), *frames])
        rewrite_video(root / f"videos/{key}/chunk-000/file-000.mp4", joined)
        starts = (before + np.cumsum([0, *LENGTHS[:-1]]) + drift) / 20  # as sums of durations drift
        edit_table(
            root / "meta/episodes/chunk-000/file-000.parquet", set_column(f"videos/{key}/from_timestamp", starts)
        )
    with av.open(str(root / f"videos/{IMAGE}/chunk-000/file-000.mp4")) as video:
        kinds = [int(frame.pict_type) for frame in video.decode(video=0)]
    assert 3 in kinds and kinds.count(1) == 1  # B, I
    demos = LeRobotSet(root)
    for i in (3, 1, 0, 2):
        for name, frames in DEMOS[i].images.items():
            assert off(demos.read(i).images[name], frames[: LENGTHS[i]]) < 1.5
            assert off(demos.read(i, "ends").images[name], frames[end_rows(LENGTHS[i])]) < 1.5


def test_many_episodes_in_one_row_group(copied):
    root = copied("v3.0", "png")
    edit_table(root / "data/chunk-000/file-000.parquet", lambda table: table)
    assert pq.ParquetFile(root / "data/chunk-000/file-000.parquet").num_row_groups == 1
    demos = LeRobotSet(root)
    for i in (1, 3, 0):
        np.testing.assert_array_equal(demos.read(i).images["image"], DEMOS[i].images["image"][: LENGTHS[i]])
        np.testing.assert_array_equal(demos.read(i).action, DEMOS[i].action)


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_new_file_begins_when_one_is_full(tmp_path, monkeypatch, version):
    monkeypatch.setattr("apportion.data.lerobot_write.DATA_BYTES", 1)
    monkeypatch.setattr("apportion.data.lerobot_write.VIDEO_SECONDS", 1)  # 20 frames: 7 + 12, then 5 + 9
    monkeypatch.setattr("apportion.data.lerobot_write.CHUNK", 2)
    write_lerobot(DEMOS, INFO, tmp_path / "set", version=version, lossless=True)
    tables = sorted(str(p.relative_to(tmp_path / "set/data")) for p in (tmp_path / "set/data").rglob("*.parquet"))
    name = "file-00{1}.parquet" if version == "v3.0" else "episode_00000{2}.parquet"
    assert tables == [f"chunk-00{c}/{name}".format(c, f, 2 * c + f) for c in (0, 1) for f in (0, 1)]
    assert len(list((tmp_path / "set").rglob("*.mp4"))) == (4 if version == "v3.0" else 8)
    demos = LeRobotSet(tmp_path / "set")
    for i in (3, 0, 2, 1):
        np.testing.assert_array_equal(demos.read(i).images["wrist_image"], DEMOS[i].images["wrist_image"][: LENGTHS[i]])


# --- the files themselves, without our reader


@pytest.mark.parametrize("storage", STORAGE)
def test_pyarrow_and_pyav_find_version_3_as_its_description_says(written, storage):
    root = written("v3.0", storage)
    about = json.loads((root / "meta/info.json").read_text())
    data = pq.read_table(root / about["data_path"].format(chunk_index=0, file_index=0))
    total = sum(LENGTHS)
    assert (about["codebase_version"], about["fps"], about["total_frames"], about["total_tasks"]) == (
        "v3.0",
        20,
        total,
        2,
    )
    stored = {key for key, feature in about["features"].items() if feature["dtype"] != "video"}
    assert stored == set(data.column_names)
    assert data["index"].to_pylist() == list(range(total))
    np.testing.assert_allclose(data["timestamp"].to_numpy(), data["frame_index"].to_numpy() / 20, rtol=1e-6)
    np.testing.assert_array_equal(np.array(data["action"].to_pylist(), "f4"), np.concatenate([d.action for d in DEMOS]))
    entries = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet").to_pylist()
    assert [(e["dataset_from_index"], e["dataset_to_index"]) for e in entries] == [(0, 7), (7, 19), (19, 24), (24, 33)]
    tasks = pq.read_table(root / "meta/tasks.parquet")
    assert json.loads(tasks.schema.metadata[b"pandas"])["index_columns"] == ["task"]
    assert [e["tasks"] for e in entries] == [[tasks["task"][i % 2].as_py()] for i in range(4)]
    if storage == "png":
        assert about["video_path"] is None and data.schema.field(IMAGE).type.field(0).name == "bytes"
        return
    file = root / about["video_path"].format(video_key=IMAGE, chunk_index=0, file_index=0)
    with av.open(str(file)) as video:
        frames = list(video.decode(video=0))
        assert video.streams.video[0].codec_context.name == "h264"
    times = np.array([float(f.pts * f.time_base) for f in frames])
    for entry, demo in zip(entries, DEMOS, strict=True):
        for t in range(demo.length):  # as LeRobot looks a frame up
            wanted = (
                entry[f"videos/{IMAGE}/from_timestamp"] + data["timestamp"][entry["dataset_from_index"] + t].as_py()
            )
            nearest = int(np.argmin(np.abs(times - wanted)))
            assert abs(times[nearest] - wanted) < 1e-4
            pixels = frames[nearest].to_ndarray(format="rgb24").astype(int)
            assert np.abs(pixels - demo.images["image"][t]).mean() < 2


def test_version_2_has_a_file_per_episode_and_lines_of_json(written):
    root = written("v2.1", "lossy")
    lines = {
        n: [json.loads(x) for x in (root / f"meta/{n}.jsonl").open()] for n in ("tasks", "episodes", "episodes_stats")
    }
    assert [e["length"] for e in lines["episodes"]] == list(LENGTHS)
    assert lines["tasks"][1] == {"task_index": 1, "task": "put bowl 1 away"}
    stats = lines["episodes_stats"][3]["stats"]
    assert np.shape(stats[IMAGE]["mean"]) == (3, 1, 1) and np.shape(stats["action"]["std"]) == (7,)
    assert stats["next.reward"]["mean"] == pytest.approx([1 / 9]) and stats["next.reward"]["count"] == [9]
    about = json.loads((root / "meta/info.json").read_text())
    assert (about["total_videos"], about["total_chunks"]) == (8, 1)
    for i in range(4):
        names = {"episode_chunk": 0, "episode_index": i, "video_key": WRIST}
        assert len(pq.read_table(root / about["data_path"].format(**names))) == LENGTHS[i]
        with av.open(str(root / about["video_path"].format(**names))) as video:
            assert len(list(video.decode(video=0))) == LENGTHS[i]


def test_statistics_by_hand():
    first, second = vector_stats(np.array([[1.0], [3.0]])), vector_stats(np.array([[5.0]]))
    by_hand = {"min": 1, "max": 3, "mean": 2, "std": 1, "count": 2, "q01": 1.02, "q10": 1.2, "q50": 2, "q90": 2.8}
    by_hand["q99"] = 2.98
    assert {name: values.tolist() for name, values in first.items()} == {k: [v] for k, v in by_hand.items()}
    both = merged([{"x": first}, {"x": second}])["x"]
    assert both["mean"].tolist() == [3] and both["count"].tolist() == [3] and both["q50"].tolist() == [3]
    np.testing.assert_allclose(both["std"], np.std([1, 3, 5]))
    pixels = np.zeros((2, 4, 4, 3), np.uint8)
    pixels[1, ..., 2] = 255
    found = image_stats(pixels)
    assert found["mean"].reshape(3).tolist() == [0, 0, 0.5] and found["std"].reshape(3).tolist() == [0, 0, 0.5]
    assert found["max"].reshape(3).tolist() == [0, 0, 1] and found["count"].tolist() == [2]


@pytest.mark.parametrize("storage", STORAGE)
def test_lerobot_itself_loads_it(written, storage):
    """Where LeRobot is installed. What it would read is asserted without it above."""
    root = written("v3.0", storage)
    demos = LeRobotSet(root)
    assert sum(demos.read(i, "none").length for i in range(4)) == sum(LENGTHS)
    if importlib.util.find_spec("lerobot") is None:
        return
    os.environ["HF_HUB_OFFLINE"] = "1"
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    theirs = LeRobotDataset("someone/made", root=root, video_backend="pyav")
    assert (len(theirs), theirs.num_episodes) == (sum(LENGTHS), 4)
    assert theirs.meta.stats["action"]["q99"].shape == (7,)
    for index in (32, 0, 7, 18, 23):
        item = theirs[index]
        demo = demos.read(int(item["episode_index"]))
        t = int(item["frame_index"])
        pixels = (item[WRIST].numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)
        np.testing.assert_array_equal(pixels, demo.images["wrist_image"][t])
        np.testing.assert_array_equal(item["action"].numpy(), demo.action[t])
        np.testing.assert_allclose(item["pose"].numpy(), demo.extra["pose"][t], rtol=1e-6)
        assert item["task"] == demo.language and bool(item["next.success"]) == (t == demo.length - 1 and demo.success)


# --- what other people's sets look like


def test_a_port_without_rewards_has_zeros_and_an_unknown_success(copied, tmp_path):
    """The names of the LIBERO port made for openpi: v2.0, `image`, `state`, `actions`, pictures in the tables."""
    root = copied("v2.1", "png").rename(tmp_path / "libero")
    names = {IMAGE: "image", WRIST: "wrist_image", "observation.state": "state", "action": "actions"}
    kept = [*names, "timestamp", "frame_index", "episode_index", "index", "task_index"]
    for file in (root / "data").rglob("*.parquet"):
        edit_table(file, lambda table: table.select(kept).rename_columns([names.get(k, k) for k in kept]))
    features = json.loads((root / "meta/info.json").read_text())["features"]
    for key in (IMAGE, WRIST):
        features[key] = {"dtype": "image", "shape": [32, 48, 3], "names": ["height", "width", "channel"]}
    edit_info(root, codebase_version="v2.0", fps=10, features={names.get(k, k): features[k] for k in kept})
    lines = [{"episode_index": i, "tasks": ["x"], "length": n} for i, n in enumerate(LENGTHS)]
    (root / "meta/episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    demos = LeRobotSet(root)
    demo = demos.read(2)
    assert demos.info.cameras["wrist_image"] == Camera(32, 48, "rotated") and demos.info.fps == 10
    assert (
        demo.success is None and demo.reward.tolist() == [0] * 5 and (demo.terminated, demo.truncated) == (False, True)
    )
    assert demo.task == demo.language == "put bowl 0 away" and demo.extra == {} and list(demo.proprio) == ["state"]
    np.testing.assert_array_equal(demo.images["image"], DEMOS[2].images["image"][:5])
    np.testing.assert_array_equal(demo.action, DEMOS[2].action)


def test_success_is_that_of_the_last_frame(copied):
    root = copied("v3.0", "lossy")
    flickers = np.zeros(sum(LENGTHS), bool)
    flickers[[3, 18]] = True  # in the midst of episode 0, at the end of episode 1
    edit_table(root / "data/chunk-000/file-000.parquet", set_column("next.success", flickers))
    ours = [f"apportion/{name}" for name in ("task", "success", "terminated", "truncated")]
    edit_table(root / "meta/episodes/chunk-000/file-000.parquet", lambda table: table.drop_columns(ours))
    demos = LeRobotSet(root)
    assert [demos.read(i, "none").success for i in range(4)] == [False, True, False, False]
    assert demos.read(0, "none").terminated and demos.read(0, "none").task == "put bowl 0 away"


def test_depth_maps_and_texts_are_left_out(copied):
    root = copied("v3.0", "png")
    features = json.loads((root / "meta/info.json").read_text())["features"]
    features[WRIST]["info"] = {"is_depth_map": True}
    features["note"] = {"dtype": "string", "shape": [1], "names": None}
    edit_info(root, features=features)
    assert list(LeRobotSet(root).read(0).images) == ["image"]


# --- progress


def test_progress_is_written_for_the_frames_of_the_set(written, tmp_path):
    demos, path = LeRobotSet(written("v3.0", "lossy")), tmp_path / "sarm_progress.parquet"
    values = [{"progress_sparse": np.linspace(0, 1, steps)} for steps in LENGTHS]
    write_progress(path, values, demos, model="runs/a")
    table = pq.read_table(path)
    assert table.column_names == ["index", "episode_index", "frame_index", "progress_sparse"]
    assert [str(t) for t in table.schema.types] == ["int64", "int64", "int64", "float"]
    assert table["index"].to_pylist() == list(range(33)) and table["episode_index"].to_pylist()[18:20] == [1, 2]
    assert table["frame_index"].to_pylist()[6:9] == [6, 0, 1] and table["progress_sparse"][18].as_py() == 1
    assert table.schema.metadata == {b"reward_model_path": b"runs/a"}
    with pytest.raises(UserError, match=r"episode 1 has 12 frames, its progress \[7\] values"):
        write_progress(path, [values[0], values[0]], demos)
    with pytest.raises(UserError, match="progress of 2 episodes, the data set has 4"):
        write_progress(path, values[:2], demos)
    with pytest.raises(UserError, match="columns of one length called progress_"):
        write_progress(path, [{"reward": np.zeros(3)}])
    assert pq.read_table(path) == table
