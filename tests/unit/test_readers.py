"""Readers: the same episodes through two doors are equal; HDF5 in all its forms."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from apportion.data.libero import LiberoSet
from apportion.data.open import open_demos
from apportion.data.rlds import RldsSet
from apportion.data.schema import Demo, DemoSet, episodes, success_of
from apportion.data.store import DemoStore, StoreWriter
from records_for_tests import (
    HDF5,
    PAIR,
    RLDS,
    native,
)


def by_actions(demos: DemoSet, demo: Demo) -> Demo:
    """The episode of `demos` with the same actions."""
    same = [d for d in episodes(demos) if d.length == demo.length and np.array_equal(d.action, demo.action)]
    assert len(same) == 1
    return same[0]


def test_the_same_episodes_through_rlds_and_hdf5_are_equal():
    native, rlds = LiberoSet(HDF5, timing="before"), RldsSet(RLDS)
    assert len(native) == len(rlds) == 6
    for demo in episodes(native):
        other = by_actions(rlds, demo)
        for name in ("state", "joint_state"):
            assert demo.proprio[name].dtype == np.float32
            np.testing.assert_array_equal(demo.proprio[name], other.proprio[name])
        np.testing.assert_array_equal(demo.reward, other.reward)
        assert (demo.terminated, demo.truncated, demo.success) == (other.terminated, other.truncated, other.success)
        assert (demo.language, demo.task, demo.length) == (other.language, other.task, other.length)


def test_frames_of_both_differ_by_a_rotation_a_resize_and_jpeg_noise():
    demo = LiberoSet(HDF5, timing="before").read(0)
    other = by_actions(RldsSet(RLDS), demo)
    for camera in ("image", "wrist_image"):
        turned = other.images[camera][:, ::-1, ::-1].astype(float)
        halved = turned.reshape(-1, 128, 2, 128, 2, 3).mean((2, 4))
        assert np.abs(demo.images[camera] - halved).mean() < 3
        assert np.abs(demo.images[camera] - halved[:, ::-1]).mean() > 20


def test_released_files_lose_action_0_and_then_agree_with_rlds():
    native, rlds = LiberoSet(PAIR / "native"), RldsSet(PAIR / "libero_spatial_no_noops")
    assert native.info.obs_timing == "after"
    for index, other in ((0, 1), (1, 0)):
        demo, whole = native.read(index), rlds.read(other)
        with h5py.File(PAIR / "native" / f"{demo.task}_demo.hdf5") as file:
            stored = file["data"][demo.source.name]["actions"][:]
        assert demo.length == len(stored) - 1 and demo.observations == demo.length + 1
        np.testing.assert_array_equal(demo.action, stored[1:].astype(np.float32))
        first = 6  # five steps cut, and action 0, before which nothing was seen
        assert whole.length == first + demo.length
        np.testing.assert_array_equal(demo.action, whole.action[first:])
        for name in ("state", "joint_state"):  # RLDS lacks the observation after the last action
            np.testing.assert_array_equal(demo.proprio[name][:-1], whole.proprio[name][first:])
        assert demo.task == whole.task and demo.language == whole.language and demo.success is whole.success is True


def test_timing_can_be_given():
    before, after = LiberoSet(PAIR / "native", timing="before").read(0), LiberoSet(PAIR / "native").read(0)
    assert before.length == before.observations == after.length + 1
    np.testing.assert_array_equal(before.action[1:], after.action)


# --- every reader


@pytest.mark.parametrize("path", [RLDS, HDF5], ids=["rlds", "hdf5"])
def test_frames_at_the_ends_are_those_of_the_whole(path: Path):
    demos = open_demos(path)
    whole, ends, none = (demos.read(3, frames) for frames in ("all", "ends", "none"))
    rows = [0, whole.observations // 2, whole.observations - 1]
    for camera, pixels in whole.images.items():
        np.testing.assert_array_equal(ends.images[camera], pixels[rows])
    assert none.images == {}
    np.testing.assert_array_equal(none.action, whole.action)


def test_what_a_set_says_of_itself():
    rlds, native = RldsSet(RLDS).info, LiberoSet(HDF5).info
    assert (rlds.name, native.name) == ("liber_o10", "libero_10")
    assert {c.orientation for c in rlds.cameras.values()} == {"rotated"}
    assert {c.orientation for c in native.cameras.values()} == {"opengl"}
    assert rlds.proprio == native.proprio == {"state": 8, "joint_state": 7}
    assert rlds.fps == native.fps == 20 and rlds.action == native.action == 7
    assert RldsSet(RLDS).read(4).source.path == "liber_o10-train.tfrecord-00001-of-00002"
    assert RldsSet(RLDS).read(4).source.index == 1


@pytest.mark.parametrize("path", [RLDS, PAIR / "native"], ids=["rlds", "hdf5"])
def test_a_set_goes_into_a_store_and_comes_back(path: Path, tmp_path: Path):
    demos = open_demos(path)
    with StoreWriter(tmp_path / "store", demos.info) as out:
        for demo in episodes(demos):
            out.add(demo)
    store = open_demos(tmp_path / "store")
    assert isinstance(store, DemoStore)
    for demo, kept in zip(episodes(demos), episodes(store), strict=True):
        np.testing.assert_array_equal(demo.proprio["state"], kept.proprio["state"])
        for camera in demo.images:
            np.testing.assert_array_equal(demo.images[camera], kept.images[camera])


# --- HDF5


def test_demos_come_in_natural_order(tmp_path: Path):
    file = native(tmp_path / "x_demo.hdf5", {"demo_10": 10, "demo_2": 2, "demo_1": 4})
    assert [d.source.name for d in episodes(LiberoSet(file))] == ["demo_1", "demo_2", "demo_10"]
    assert [d.length for d in episodes(LiberoSet(file))] == [4, 2, 10]


def test_files_without_attributes_are_seen_before_the_action(tmp_path: Path):
    file = native(tmp_path / "KITCHEN_SCENE3_turn_on_the_stove_demo.hdf5", {"demo_0": 5})
    demo = LiberoSet(file).read(0)
    assert demo.length == demo.observations == 5
    assert demo.task == "KITCHEN_SCENE3_turn_on_the_stove" and demo.language == "turn on the stove"


def test_rollouts_with_a_last_observation_and_their_own_attributes(tmp_path: Path):
    file = native(tmp_path / "rollouts.hdf5", {"demo_0": 5, "demo_1": 6}, {"note": "T + 1"}, extra=1)
    with h5py.File(file, "a") as f:
        f["data/demo_0"].attrs.update({"success": False, "task": "stove", "language": "turn it on"})
        f["data/demo_0/phase"] = np.arange(5, dtype=np.int16)
        f["data/demo_1/phase"] = np.arange(6, dtype=np.int16)
        f["data/demo_0/obs/obj"], f["data/demo_1/obs/obj"] = np.ones((6, 3)), np.ones((7, 6))
    demos = LiberoSet(file)
    demo, other = demos.read(0), demos.read(1)
    assert (demo.length, demo.observations) == (5, 6)
    assert (demo.success, demo.task, demo.language) == (False, "stove", "turn it on")
    assert other.success is True and other.task == "rollouts" and other.language == ""
    assert demo.extra["phase"].tolist() == [0, 1, 2, 3, 4]
    assert demos.info.proprio == {"state": 8, "obj": 6}
    assert demo.proprio["obj"].tolist() == [[1, 1, 1, 0, 0, 0]] * 6 and other.proprio["obj"].all()


def test_a_folder_of_suites_is_one_set_and_masks_are_listed(tmp_path: Path):
    for suite, name in (("libero_10", "b"), ("libero_90", "a")):
        (tmp_path / suite).mkdir()
        native(tmp_path / suite / f"{name}_demo.hdf5", {"demo_0": 3})
    with h5py.File(tmp_path / "libero_10" / "b_demo.hdf5", "a") as file:
        file["mask/train"] = np.array([b"demo_0"])
    demos = LiberoSet(tmp_path)
    assert [d.source.path for d in episodes(demos)] == ["libero_10/b_demo.hdf5", "libero_90/a_demo.hdf5"]
    assert demos.masks == {"train": 1} and demos.info.name == tmp_path.name


@pytest.mark.parametrize("reward, said", [([0, 0, 1], True), ([0, 1, 0], False), ([0, 0.5, 0.7], None), ([], None)])
def test_rewards_of_zero_and_one_tell_success_and_graded_ones_do_not(reward, said):
    assert success_of(np.array(reward, np.float32)) is said
