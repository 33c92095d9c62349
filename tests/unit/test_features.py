"""Cached features: right, whole, once, and after an interruption the same."""

import fcntl
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from apportion.cli import main
from apportion.data.features import (
    column_key,
    compute_features,
    default_turns,
    feature_columns,
    open_features,
    turned,
)
from apportion.data.schema import Camera, Demo, SetInfo, Source
from apportion.data.store import DemoStore, StoreWriter
from apportion.nets.encoders import encode_instructions
from apportion.types import UserError

PLAIN = {"image": "none", "wrist_image": "none"}


class Corner:
    """The upper left pixel, and how long the instruction is."""

    name, size = "corner", 4

    def __init__(self, scale: float = 1.0, stop_after: int | None = None):
        self.key = {"scale": scale}
        self.scale, self.left, self.seen = scale, stop_after, 0

    def __call__(self, images, instruction=""):
        if self.left is not None and self.seen >= self.left:
            raise KeyboardInterrupt
        self.seen += len(images)
        words = torch.full((len(images), 1), float(len(instruction)))
        return torch.cat([images[:, 0, 0].float() * self.scale, words], 1)


def demo(index: int, steps: int, last: int, language: str) -> Demo:
    """`last`: 1 if the observation after the last action is there."""
    rng = np.random.default_rng(index)
    images = {name: rng.integers(0, 256, (steps + last, 6, 8, 3), dtype=np.uint8) for name in PLAIN}
    return Demo(
        images=images,
        proprio={"state": np.zeros((steps + last, 2), np.float32)},
        action=np.zeros((steps, 7), np.float32),
        reward=np.zeros(steps, np.float32),
        terminated=True,
        truncated=False,
        success=None,
        language=language,
        task="t",
        source=Source("x", index),
    )


DEMOS = [demo(0, 5, 1, "open it"), demo(1, 3, 0, "close"), demo(2, 7, 1, "open it")]


@pytest.fixture
def store(tmp_path):
    cameras = {"image": Camera(6, 8, "opengl"), "wrist_image": Camera(6, 8, "rotated")}
    info = SetInfo("x", "rlds", "x", cameras, {"state": 2}, 7)
    with StoreWriter(tmp_path / "s", info) as out:
        for one in DEMOS:
            out.add(one)
    return DemoStore(tmp_path / "s")


def expected() -> np.ndarray:
    rows = []
    for one in DEMOS:
        words = np.full((len(one.images["image"]), 1), len(one.language))
        rows.append(np.concatenate([part for x in one.images.values() for part in (x[:, 0, 0], words)], 1))
    return np.concatenate(rows).astype(np.float16)


def test_rows_are_the_encoders_features_camera_after_camera(store):
    told = []
    column = compute_features(store, Corner(), PLAIN, batch=4, progress=lambda *done: told.append(done))
    rows = open_features(store, column.key)
    assert rows.dtype == np.float16
    assert rows.shape == (6 + 3 + 8, 8)
    np.testing.assert_array_equal(rows, expected())
    assert told == [(6, 17), (9, 17), (17, 17)]
    assert (column.size, column.turns, column.encoder) == (8, PLAIN, "corner")
    assert feature_columns(store) == {column.key: column}


def test_the_store_stays_what_it_was(store):
    compute_features(store, Corner(), PLAIN)
    again = DemoStore(store.path)
    assert again.columns.keys() == store.columns.keys()
    assert sorted(path.suffix for path in store.path.glob("feature.*")) == [".bin", ".json"]


def test_features_that_are_there_are_not_computed_again(store):
    first, second = Corner(), Corner()
    compute_features(store, first, PLAIN)
    compute_features(store, second, PLAIN)
    assert (first.seen, second.seen) == (34, 0)


def test_an_interrupted_computation_goes_on_after_the_last_whole_episode(store):
    stopped = Corner(stop_after=20)  # after episodes of 12 and 6 images, within the third
    with pytest.raises(KeyboardInterrupt):
        compute_features(store, stopped, PLAIN, batch=2)
    assert feature_columns(store) == {}
    key, _ = column_key(stopped, PLAIN, store.info)
    with (store.path / f"feature.{key}.part").open("ab") as part:
        part.write(b"torn")
    rest = Corner()
    column = compute_features(store, rest, PLAIN)
    assert rest.seen == 16
    np.testing.assert_array_equal(open_features(store, column.key), expected())
    assert not list(store.path.glob("feature.*.p*"))


@pytest.mark.parametrize("damage", ["counter", "rows", "both"])
def test_a_beginning_that_is_not_whole_is_thrown_away(store, damage):
    with pytest.raises(KeyboardInterrupt):
        compute_features(store, Corner(stop_after=20), PLAIN, batch=2)
    (counter,), (part,) = store.path.glob("feature.*.progress"), store.path.glob("feature.*.part")
    if damage in ("counter", "both"):
        counter.write_text('{"episodes": 77}')
    if damage in ("rows", "both"):
        part.write_bytes(b"")
    column = compute_features(store, Corner(), PLAIN)
    np.testing.assert_array_equal(open_features(store, column.key), expected())


def test_a_crash_before_the_last_rename_loses_nothing(store):
    column = compute_features(store, Corner(), PLAIN)
    (store.path / f"feature.{column.key}.bin").rename(store.path / f"feature.{column.key}.part")
    (store.path / f"feature.{column.key}.progress").write_text('{"episodes": 3}')
    again = Corner()
    compute_features(store, again, PLAIN)
    assert again.seen == 0
    np.testing.assert_array_equal(open_features(store, column.key), expected())


def test_one_process_at_a_time(store):
    key, _ = column_key(Corner(), PLAIN, store.info)
    with (store.path / f"feature.{key}.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process computes"):
            compute_features(store, Corner(), PLAIN)


def test_keys_tell_encoders_cameras_their_order_and_turns_apart(store):
    turns = [PLAIN, dict(reversed(PLAIN.items())), {"image": "none"}, {"image": "180"}, {"image": "flip"}]
    keys = [compute_features(store, Corner(), x).key for x in turns] + [compute_features(store, Corner(2), PLAIN).key]
    assert len(set(keys)) == len(keys) == len(feature_columns(store))


def test_a_raw_buffer_turned_has_the_key_of_rlds_as_it_is(store):
    raw, rlds = (replace(store.info, cameras={"image": Camera(6, 8, way)}) for way in ("opengl", "rotated"))
    key, about = column_key(Corner(), {"image": "180"}, raw)
    assert (key, about) == column_key(Corner(), {"image": "none"}, rlds)
    assert about["cameras"] == [["image", "rotated"]]
    assert column_key(Corner(), {"image": "180"}, rlds)[1]["cameras"] == [["image", "opengl"]]


def test_images_are_turned_before_they_are_encoded(store):
    assert default_turns(store.info, list(PLAIN)) == {"image": "180", "wrist_image": "none"}
    image = np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1)
    assert turned(image, "180")[0, ..., 0].tolist() == [[5, 4, 3], [2, 1, 0]]
    assert turned(image, "flip")[0, ..., 0].tolist() == [[3, 4, 5], [0, 1, 2]]
    assert not np.shares_memory(turned(image, "none"), image)
    column = compute_features(store, Corner(), {"image": "180"})
    np.testing.assert_array_equal(open_features(store, column.key)[:6, :3], DEMOS[0].images["image"][:, -1, -1])


@pytest.mark.parametrize(("scale", "line"), [(1e6, "beyond float16's 65504"), (float("nan"), "is NaN or infinite")])
def test_numbers_that_float16_does_not_hold_are_refused(store, scale, line):
    with pytest.raises(UserError, match=f"episode 0: a feature of corner, camera image, around frame 0, .*{line}"):
        compute_features(store, Corner(scale), PLAIN)
    assert feature_columns(store) == {}


def test_an_encoder_of_another_size_than_it_says_is_refused(store):
    encoder = Corner()
    encoder.size = 5
    with pytest.raises(UserError, match=r"corner gives \(6, 4\) and not \(6, 5\)"):
        compute_features(store, encoder, PLAIN)


def test_what_is_not_there_is_said(store):
    with pytest.raises(UserError, match="has no camera front; it has image, wrist_image"):
        compute_features(store, Corner(), {"front": "none"})
    with pytest.raises(UserError, match="holds no images"):
        compute_features(store, Corner(), {})
    column = compute_features(store, Corner(), PLAIN)
    with pytest.raises(
        UserError, match=rf"has no features 123; it has {column.key} \(corner\); apportion data features"
    ):
        open_features(store, "123")
    (store.path / f"feature.{column.key}.bin").write_bytes(b"12")
    with pytest.raises(UserError, match="has not one row for each of the store: remove it"):
        open_features(store, column.key)
    (store.path / f"feature.{column.key}.json").write_text("{}")
    with pytest.raises(UserError, match=r"cannot be read .*: remove it, and compute the features again"):
        feature_columns(store)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "my_colour.py").write_text(
        "class Colour:\n"
        "    name, key, size = 'colour', {'version': 1}, 3\n"
        "    def __call__(self, images, instruction=''):\n"
        "        return images.float().mean((1, 2))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def test_the_command_line_computes_and_lists(store, own, capsys):
    assert main(["data", "features", "s"]) == 0
    assert "has no features yet" in capsys.readouterr().out
    assert main(["data", "features", "s", "--encoder", "my_colour:Colour", "--batch", "4"]) == 0
    said = capsys.readouterr().out
    (key,) = feature_columns(store)
    assert f"{key}  17 rows of 6 features in s" in said
    assert f"apportion fit --data s --features feature:{key}" in said
    assert main(["data", "features", "s"]) == 0
    assert capsys.readouterr().out == f"{key}  colour, 6 features, image turned 180, wrist_image\n"
    wanted = DEMOS[0].images["wrist_image"].astype(np.float64).mean((1, 2))
    np.testing.assert_allclose(open_features(store, key)[:6, 3:], wanted, rtol=1e-3)
    assert main(["data", "features", "s", "--encoder", "my_colour:Colour", "--cameras", "image", "--turn", "flip"]) == 0
    assert {json.dumps(column.turns) for column in feature_columns(store).values()} == {
        '{"image": "180", "wrist_image": "none"}',
        '{"image": "flip"}',
    }


def test_the_command_line_writes_vectors_of_the_instructions(store, own, capsys):
    assert main(["data", "features", "s", "--instructions", "words.safetensors"]) == 0
    table = load_file("words.safetensors")
    assert table.keys() == {"open it", "close"}
    np.testing.assert_array_equal(table["close"], encode_instructions(["close"])[0])
    assert main(["data", "features", "s", "--instructions", "words.safetensors"]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere"], "nowhere is no store: make one with apportion data convert"),
        (
            ["s", "--encoder", "my_colour:Colour", "--cameras", "imag"],
            "--cameras imag: the store has image, wrist_image",
        ),
        (["s", "--encoder", "my_colour:Colour", "--batch", "0"], "--batch 0: at least 1"),
        (["s", "--encoder", "my_colour:Colour", "--device", "tpu9"], "--device tpu9: there is no such device"),
        (["s", "--encoder", "/no/such/folder"], "there is no such folder"),
    ],
)
def test_slips_on_the_command_line_are_one_line(store, own, capsys, words, line):
    assert main(["data", "features", *words]) == 2
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
