"""LeRobot data sets that are damaged or hostile, and what the writer refuses: one line each, nothing left behind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from apportion.data.lerobot import LeRobotSet, write_lerobot
from apportion.data.schema import BadDemo
from apportion.types import UserError
from lerobot_for_tests import (
    DEMOS,
    IMAGE,
    INFO,
    STORAGE,
    WRIST,
    edit_info,
    edit_table,
    one_line,
    pictures,
    rewrite_video,
    set_column,
)


@pytest.fixture
def made_set(tmp_path):
    """(version, storage) -> a data set with DEMOS, to be damaged."""

    def write(version: str, storage: str) -> Path:
        write_lerobot(DEMOS, INFO, tmp_path / "set", version=version, **STORAGE[storage])
        return tmp_path / "set"

    return write


def test_damaged_tables_give_one_line(made_set):
    root = made_set("v3.0", "lossy")
    file = root / "data/chunk-000/file-000.parquet"
    whole = file.read_bytes()

    def message() -> str:
        with pytest.raises(BadDemo, match=r"file-000.parquet, episode 1") as error:
            LeRobotSet(root).read(1)
        return one_line(error)

    file.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in message()
    edit = bytearray(whole)
    edit[4 : len(edit) // 2] = bytes(len(edit) // 2 - 4)
    file.write_bytes(edit)
    assert "damaged" in message()
    file.unlink()
    assert "missing" in message()
    for change, told in {
        lambda t: t.drop_columns("action"): "column action is missing",
        lambda t: t.slice(0, 15): "it has 8 rows in 7..14, meta/ says 12",
        lambda t: t.slice(0, 7): "no row has this episode_index",
        set_column("action", [[0.0] * 6] * 33): r"action has [6] entries, meta/info.json says [7]",
        set_column("action", [[0.0] * 7] * 10 + [None] + [[0.0] * 7] * 22): "action has no value in step 3",
        set_column("action", [[0.0] * 7] * 9 + [[np.nan] * 7] * 24): "step 2: action is not finite",
        set_column("action", ["left"] * 33): "action is of string",
        set_column("task_index", [7] * 33): "task_index 7 is not among the 2 tasks",
    }.items():
        file.write_bytes(whole)
        edit_table(file, change)
        if "finite" in told:  # found at the very end, where the file's place in the set is what is known
            with pytest.raises(BadDemo) as error:
                LeRobotSet(root).read(1, "none")
            assert told in one_line(error)
        else:
            assert told in message()


def test_damaged_videos_give_one_line_and_leave_the_rest_readable(made_set):
    root = made_set("v3.0", "lossy")
    file = root / f"videos/{WRIST}/chunk-000/file-000.mp4"
    whole = file.read_bytes()
    file.with_name("other.mp4").write_bytes(whole)
    for data, told in (
        (b"no video", "cannot be decoded"),
        (whole[: len(whole) // 3], "cannot be decoded"),
        (b"ffconcat version 1.0\nfile 'other.mp4'\n", "Invalid data found"),  # a playlist is not even opened
        (None, "missing"),
    ):
        file.unlink()
        if data is not None:
            file.write_bytes(data)
        with pytest.raises(BadDemo, match=r"file-000.parquet, episode 1: .*file-000.mp4") as error:
            LeRobotSet(root).read(1)
        assert told in one_line(error)
        assert LeRobotSet(root).read(1, "none").length == 12
    rewrite_video(file, pictures(0, 10))  # too few frames: episode 1 is 7 to 18
    with pytest.raises(BadDemo, match=r"episode 1, step 3: .* has no frame at 0.500 s"):
        LeRobotSet(root).read(1)
    rewrite_video(file, pictures(0, 33, 64, 64))
    with pytest.raises(BadDemo, match=r"is 64 x 64 pixels, meta/info.json says 32 x 48"):
        LeRobotSet(root).read(1)


def test_damaged_pictures_give_one_line(made_set):
    root = made_set("v2.1", "png")
    file = root / "data/chunk-000/episode_000001.parquet"
    cells = pq.read_table(file)[IMAGE].to_pylist()
    Image.new("RGB", (9, 8)).save(root / "small.png")
    (root / "beside.png").write_bytes(cells[2]["bytes"])
    (root.parent / "outside.png").write_bytes(cells[2]["bytes"])
    for cell, told in (
        ({"bytes": cells[2]["bytes"][:-40], "path": None}, "step 2: the image is damaged"),
        ({"bytes": (root / "small.png").read_bytes(), "path": None}, "8 x 9 pixels, meta/info.json says 32 x 48"),
        ({"bytes": b"GIF89a", "path": None}, "step 2: the image is damaged"),
        ({"bytes": None, "path": None}, "step 2: there is no image"),
        ({"bytes": None, "path": "gone.png"}, "step 2: the image is damaged"),
        ({"bytes": None, "path": "../outside.png"}, "must stay inside"),
        ({"bytes": None, "path": str(root / "beside.png")}, "must stay inside"),
    ):
        edit_table(file, set_column(IMAGE, [*cells[:2], cell, *cells[3:]]))
        with pytest.raises(BadDemo) as error:
            LeRobotSet(root).read(1)
        assert told in one_line(error)
    edit_table(file, set_column(IMAGE, [*cells[:2], {"bytes": None, "path": "beside.png"}, *cells[3:]]))
    np.testing.assert_array_equal(LeRobotSet(root).read(1).images["image"], DEMOS[1].images["image"][:12])


@pytest.mark.parametrize(
    "changes",
    [
        {"data_path": "../../secret.parquet"},
        {"data_path": "/etc/{chunk_index}.parquet"},
        {"data_path": "data/{chunk_index.__class__}.parquet"},
        {"data_path": "data/{file_index:0999999999d}.parquet"},
        {"data_path": "data/{secret}.parquet"},
        {"video_path": "videos/../../{video_key}.mp4"},
        {"video_path": "..\\{video_key}.mp4"},
        {"video_path": None},
    ],
)
def test_paths_that_leave_the_set_are_refused_when_it_is_opened(made_set, changes):
    root = made_set("v3.0", "lossy")
    edit_info(root, **changes)
    with pytest.raises(UserError) as error:
        LeRobotSet(root)
    one_line(error)


def test_metadata_that_is_wrong_gives_one_line(made_set, tmp_path):
    root = made_set("v3.0", "lossy")
    about = json.loads((root / "meta/info.json").read_text())

    def message(match: str) -> None:
        with pytest.raises(UserError, match=match) as error:
            LeRobotSet(root)
        one_line(error)

    hostile = {"../../x": about["features"]["action"]}
    edit_info(root, features={**about["features"], **hostile})
    message("not allowed as the name of a feature")
    edit_info(root, features={k: v for k, v in about["features"].items() if k != "action"})
    message("no feature is called action")
    edit_info(root, features=about["features"], codebase_version="v1.6")
    message("version v1.6 is not among")
    edit_info(root, codebase_version="v3.0", fps=0)
    message("must be positive")
    edit_info(root, fps=20)
    (root / "meta/tasks.parquet").write_bytes(b"PAR1")
    message("meta is damaged")
    (root / "meta/info.json").write_text("{")
    message("info.json is damaged")
    with pytest.raises(UserError, match="no LeRobot data set"):
        LeRobotSet(tmp_path / "nowhere")


# --- refusals of the writer


def test_the_writer_refuses_what_cannot_be_kept_and_leaves_nothing(tmp_path):
    path = tmp_path / "set"
    changed = replace(DEMOS[1], action=DEMOS[1].action[:, :6])
    for demos, info, told in (
        ([DEMOS[0], changed], INFO, r"demo_1: action is float32 \[6\], in the first episode float32 \[7\]"),
        ([DEMOS[0], replace(DEMOS[1], success=None)], INFO, "demo_1: next.success is missing.*drop the episodes"),
        ([replace(DEMOS[0], extra={"index": np.zeros(7)})], INFO, "cannot be called index"),
        ([replace(DEMOS[0], extra={"a/b": np.zeros(7)})], INFO, "no / in a name"),
        ([replace(DEMOS[0], images={"image": DEMOS[0].images["image"][:3]})], INFO, "3 frames of camera image for 7"),
        ([], INFO, "no episode to write"),
        (DEMOS, replace(INFO, fps=None), "does not say how many frames a second"),
    ):
        with pytest.raises(UserError, match=told) as error:
            write_lerobot(demos, info, path)
        one_line(error)
        assert list(tmp_path.iterdir()) == []
    path.mkdir()
    with pytest.raises(UserError, match="exists already"):
        write_lerobot(DEMOS, INFO, path)
