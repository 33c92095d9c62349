"""From one format to another and back: what is written is what was read, or nothing is."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apportion.data.agree import Options
from apportion.data.convert import convert
from apportion.data.libero import LiberoSet
from apportion.data.open import open_demos
from apportion.data.schema import BadDemo, episodes
from apportion.data.store import DemoStore
from apportion.data.write_libero import write_libero
from apportion.data.write_rlds import write_rlds
from apportion.types import UserError
from demos_for_tests import demo, same, store, with_rewards
from records_for_tests import HDF5

TASKS = ("lift the cup", "KITCHEN_SCENE1_open_the_drawer")


def made(count=4, **how):
    """Episodes of two tasks in turn, an instruction for the second."""
    demos = [demo(i, 10 + i, task=TASKS[i % 2], **how) for i in range(count)]
    return [replace(d, language="open the drawer") if d.task == TASKS[1] else d for d in demos]


def by_source(demos):
    return sorted(episodes(demos), key=lambda d: float(d.action[0, 0]))


@pytest.mark.parametrize("to", ["store", "hdf5"])
@pytest.mark.parametrize("after", [True, False])
def test_formats_without_loss_give_back_what_they_were_given(tmp_path, to, after):
    source = store(tmp_path / "src", [*made(after=after), demo(9, success=False, task=TASKS[0], after=after)])
    result = convert([source], tmp_path / "dst", Options(to=to))
    again = open_demos(tmp_path / "dst")
    assert result.episodes == len(again) == 5 and result.failures == 1
    assert again.info.cameras == source.info.cameras and again.info.fps == 20 and again.info.obs_timing == "before"
    for one, other in zip(by_source(source), by_source(again), strict=True):
        same(one, other)


def test_rlds_without_loss_gives_back_all_but_the_observation_after_the_last_action(tmp_path):
    source = store(tmp_path / "src", [*made(), demo(9, success=False)], orientation="upright", fps=12.5)
    result = convert([source], tmp_path / "dst", Options(to="rlds", lossless=True))
    again = open_demos(tmp_path / "dst")
    assert again.info.cameras == source.info.cameras and again.info.fps == 12.5
    assert "5 of 5 episodes have an observation after the last action" in result.notes[0]
    for one, other in zip(by_source(source), by_source(again), strict=True):
        assert other.observations == one.length
        same(one, other, rows=one.length)


def test_rlds_goes_by_success_even_where_the_reward_does_not_say_it(tmp_path):
    odd = [with_rewards(demo(0), [0] * 12), with_rewards(demo(1), [0] * 11 + [1], success=False)]
    convert([store(tmp_path / "src", odd)], tmp_path / "dst", Options(to="rlds"))
    assert [d.success for d in episodes(open_demos(tmp_path / "dst"))] == [True, False]


def test_rlds_has_the_names_and_counts_that_tfds_looks_for(tmp_path):
    demos = [demo(i) for i in range(5)]
    source = store(tmp_path / "src", demos)
    write_rlds(episodes(source), source.info, tmp_path / "My-Set", shard=20_000)
    folder = tmp_path / "My-Set" / "1.0.0"
    about = json.loads((folder / "dataset_info.json").read_text())
    counts = [int(n) for n in about["splits"][0]["shardLengths"]]
    assert about["name"] == "my_set" and sum(counts) == 5 and len(counts) > 1
    shards = [f"my_set-train.tfrecord-{i:05}-of-{len(counts):05}" for i in range(len(counts))]
    assert sorted(p.name for p in folder.iterdir()) == sorted([*shards, "dataset_info.json", "features.json"])
    # TFDS counts the serialized examples, not the 16 bytes that frame each record
    size = sum((folder / shard).stat().st_size for shard in shards)
    assert about["splits"][0]["numBytes"] == str(size - 5 * 16)


def test_jpeg_stays_close(tmp_path):
    smooth = np.broadcast_to(np.linspace(0, 255, 16, dtype=np.uint8)[:, None, None], (13, 16, 16, 3)).copy()
    source = store(tmp_path / "src", [replace(demo(0), images={"image": smooth})])
    convert([source], tmp_path / "dst", Options(to="rlds"))
    again = open_demos(tmp_path / "dst").read(0).images["image"]
    assert np.abs(again.astype(int) - smooth[:12]).max() <= 4


@pytest.mark.parametrize("version", ["v3.0", "v2.1"])
def test_lerobot_gives_back_the_numbers(tmp_path, version):
    source = store(tmp_path / "src", made())
    convert([source], tmp_path / "dst", Options(to="lerobot", version=version, cameras=()))
    for one, other in zip(by_source(source), by_source(open_demos(tmp_path / "dst")), strict=True):
        np.testing.assert_array_equal(one.action, other.action)
        np.testing.assert_array_equal(one.proprio["state"][: one.length], other.proprio["state"])


def test_h5py_finds_liberos_names(tmp_path):
    import h5py

    convert([store(tmp_path / "src", made())], tmp_path / "suite", Options(to="hdf5"))
    assert sorted(p.name for p in (tmp_path / "suite").iterdir()) == [
        "KITCHEN_SCENE1_open_the_drawer_demo.hdf5",
        "lift_the_cup_demo.hdf5",
    ]
    with h5py.File(tmp_path / "suite" / "lift_the_cup_demo.hdf5") as file:
        data = file["data"]
        assert data.attrs["num_demos"] == 2 and data.attrs["total"] == 22 and data.attrs["obs_timing"] == "before"
        assert data.attrs["macros_image_convention"] == "opengl"
        assert set(data["demo_0/obs"]) == {
            "agentview_rgb", "eye_in_hand_rgb", "ee_states", "ee_pos", "ee_ori", "gripper_states", "joint_states",
        }  # fmt: skip
        assert data["demo_1"].attrs["num_samples"] == 12 and data["demo_1/dones"][-1] == 1


def test_failures_are_added_and_their_source_is_told_apart(tmp_path):
    source = store(tmp_path / "src", made())
    rollouts = store(tmp_path / "rollouts", [demo(20 + i, success=False) for i in range(3)])
    result = convert([source, rollouts], tmp_path / "dst", Options())
    again = DemoStore(tmp_path / "dst")
    assert (result.episodes, result.failures) == (7, 3)
    assert [d.success for d in episodes(again)] == [True] * 4 + [False] * 3
    assert again.read(5).source.path == "rollouts/made-up"


def test_sets_that_do_not_agree_are_refused_with_every_difference(tmp_path):
    source = store(tmp_path / "src", made())
    others = [demo(i, success=False) for i in range(2)]
    for d in others:
        d.images.pop("wrist_image")
        d.proprio["object_state"] = d.proprio.pop("joint_state")
    other = store(tmp_path / "other", others, orientation="rotated", fps=10.0)
    with pytest.raises(UserError) as refused:
        convert([source, other], tmp_path / "dst", Options())
    for words in (
        "camera image is 16 x 16 rotated instead of 16 x 16 opengl",
        "camera wrist_image is missing instead of",
        "proprio joint_state is missing instead of 7 entries",
        "proprio object_state is 7 entries instead of missing",
        "steps per second is 10 instead of 20",
    ):
        assert words in str(refused.value)
    options = Options(cameras=(), proprio=("state",), fps=20.0)
    assert convert([source, other], tmp_path / "dst", options).episodes == 6


def test_extra_columns_that_not_all_have_are_left_out_and_named(tmp_path):
    source = store(tmp_path / "src", made())
    other = store(tmp_path / "other", [replace(demo(9, success=False), extra={})])
    result = convert([source, other], tmp_path / "dst", Options())
    assert result.notes == ["left out, for not all episodes have them alike: phase"]
    assert DemoStore(tmp_path / "dst").read(0).extra == {}


def test_outcomes_nobody_recorded_have_to_be_said(tmp_path):
    source = store(tmp_path / "src", made())
    silent = store(tmp_path / "silent", [with_rewards(demo(9), [0] * 12, success=None)])
    with pytest.raises(UserError, match=r"silent does not say which episodes succeeded, .*: say --assume-failure"):
        convert([source, silent], tmp_path / "dst", Options())
    assert convert([source, silent], tmp_path / "dst", Options(assume_failure=True)).failures == 1
    with pytest.raises(UserError, match="say --assume-success"):
        convert([silent, source], tmp_path / "dst2", Options())


def test_filters_count_what_they_leave_out(tmp_path):
    demos = made(6)
    demos[0] = replace(demos[0], success=False)
    demos[2].action[3:5, :6] = 0
    demos[2].action[:, 6] = 1
    result = convert([store(tmp_path / "src", demos)], tmp_path / "dst", Options(success_only=True, drop_noops=True))
    assert (result.episodes, result.filtered, result.noops) == (5, 1, 2)
    assert result.steps == sum(d.length for d in demos[1:]) - 2 == DemoStore(tmp_path / "dst").length.sum()


def test_no_task_is_emptied_without_being_told(tmp_path):
    demos = [replace(d, success=False) if d.task == TASKS[0] else d for d in made()]
    source = store(tmp_path / "src", demos)
    with pytest.raises(UserError, match=r"--success-only leaves no episode of 1 of 2 .*--drop-task 'lift the cup'"):
        convert([source], tmp_path / "dst", Options(success_only=True))
    convert([source], tmp_path / "dst", Options(success_only=True, drop_tasks=(TASKS[0],)))
    with pytest.raises(UserError, match="no such task; did you mean lift the cup"):
        convert([source], tmp_path / "x", Options(drop_tasks=("lift a cup",)))
    still = [replace(d, action=np.zeros_like(d.action)) if d.task == TASKS[0] else d for d in made()]
    source = store(tmp_path / "still", still)
    with pytest.raises(UserError, match="there is no episode of 1 of 2 tasks"):
        convert([source], tmp_path / "x", Options(drop_noops=True, skip_bad=True))
    with pytest.raises(BadDemo, match="all 10 steps are no-ops"):
        convert([source], tmp_path / "x", Options(drop_noops=True))


def test_frames_and_time_change_and_the_record_with_them(tmp_path):
    source = store(tmp_path / "src", made(), orientation="rotated")
    options = Options(cameras=("image",), rotate_180=True, flip=True, resize=(8, 8), hz=5.0)
    convert([source], tmp_path / "dst", options)
    again = DemoStore(tmp_path / "dst")
    assert list(again.info.cameras) == ["image"] and again.info.fps == 5
    camera = again.info.cameras["image"]
    assert (camera.height, camera.width, camera.orientation) == (8, 8, "upright")
    assert again.length.tolist() == [3, 3, 3, 4] and again.read(0).images["image"].shape == (4, 8, 8, 3)


def test_rates_that_are_no_fraction_are_refused(tmp_path):
    source = store(tmp_path / "src", made())
    with pytest.raises(UserError, match=r"the recorded 20 divided by a whole number: 20, 10, 6.66667, 5, 4"):
        convert([source], tmp_path / "dst", Options(hz=8.0))
    unknown = store(tmp_path / "unknown", made(), fps=None)
    for options in (Options(hz=10.0), Options(to="lerobot")):
        with pytest.raises(UserError, match="add --fps N"):
            convert([unknown], tmp_path / "dst", options)


class Damaged:
    """A set in which the frames of one episode are damaged, and all of another one."""

    def __init__(self, inner, frames=(), all_=()):
        self.inner, self.frames, self.all_ = inner, frames, all_
        self.info = inner.info

    def __len__(self):
        return len(self.inner)

    def read(self, index, frames="all"):
        if index in self.all_ or (index in self.frames and frames != "none"):
            raise BadDemo(f"file.x, episode {index}: damaged")
        return self.inner.read(index, frames)

    def close(self):
        self.inner.close()


@pytest.mark.parametrize("to", ["store", "hdf5", "rlds", "lerobot"])
def test_a_bad_episode_leaves_nothing_behind_unless_it_may_be_skipped(tmp_path, to):
    source = Damaged(store(tmp_path / "src", made(6)), frames=(4,), all_=(1,))
    with pytest.raises(BadDemo, match="episode 1: damaged"):
        convert([source], tmp_path / "dst", Options(to=to))
    late = Damaged(source.inner, frames=(4,))
    with pytest.raises(BadDemo, match="episode 4: damaged"):
        convert([late], tmp_path / "dst", Options(to=to))
    assert [p.name for p in tmp_path.iterdir()] == ["src"]
    result = convert([source], tmp_path / "dst", Options(to=to, skip_bad=True))
    assert result.skipped == ["file.x, episode 1: damaged", "file.x, episode 4: damaged"] and result.episodes == 4
    assert len(open_demos(tmp_path / "dst")) == 4


def test_damaged_frames_of_a_whole_task_are_not_skipped(tmp_path):
    source = Damaged(store(tmp_path / "src", made(4)), frames=(1, 3))
    with pytest.raises(UserError, match="all episodes of the task KITCHEN_SCENE1_open_the_drawer are bad"):
        convert([source], tmp_path / "dst", Options(skip_bad=True))
    assert [p.name for p in tmp_path.iterdir()] == ["src"]


@pytest.mark.parametrize("to", ["store", "hdf5", "rlds", "lerobot"])
def test_ctrl_c_leaves_nothing_behind(tmp_path, to):
    def stop(done, all_):
        assert (done, all_) == (1, 4)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert([store(tmp_path / "src", made())], tmp_path / "dst", Options(to=to), stop)
    assert [p.name for p in tmp_path.iterdir()] == ["src"]


def test_places_that_cannot_be_are_refused_first(tmp_path):
    source = store(tmp_path / "src", made())
    for place, words in (
        (tmp_path / "src", "exists already"),
        (tmp_path / "src" / "dst", "lies inside"),
        (tmp_path / "no" / "dst", "make it first"),
        (Path("/proc/dst"), "/proc/dst"),
    ):
        with pytest.raises(UserError, match=words):
            convert([source], place, Options())


FULL = """
import resource, sys
from pathlib import Path
from apportion.ending import guarded
from apportion.data.agree import Options
from apportion.data.convert import convert
from apportion.data.store import DemoStore
source = DemoStore(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
sys.exit(guarded(lambda: convert([source], Path(sys.argv[2]), Options(to=sys.argv[3]))))
"""


@pytest.mark.parametrize("to", ["store", "hdf5", "rlds"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, to):
    store(tmp_path / "src", made())
    words = [sys.executable, "-c", FULL, str(tmp_path / "src"), str(tmp_path / "dst"), to]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("apportion: cannot write") and done.stderr.count("\n") == 1, done.stderr
    assert "nothing was kept" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["src"]


def test_frames_that_will_not_fit_are_refused_before_anything_is_written(tmp_path, monkeypatch):
    source = store(tmp_path / "src", made())
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("apportion.data.convert.shutil.disk_usage", lambda _: usage)
    with pytest.raises(UserError, match=r"do not fit into the 0.0 GiB that are free; --resize 128"):
        convert([source], tmp_path / "dst", Options())


def test_writers_hold_one_episode_at_a_time(tmp_path):
    """They ask for the next episode only when the one before is written, and keep no reference to it."""
    import gc
    import weakref

    source = store(tmp_path / "src", made(5))

    def stream():
        alive: list[weakref.ref] = []
        for one in episodes(source):
            alive.append(weakref.ref(one.images["image"]))
            yield one
            del one
            gc.collect()
            assert sum(ref() is not None for ref in alive[1:-1]) == 0  # the first gives the columns, the last is in use

    for number, write in enumerate((write_libero, write_rlds)):
        write(stream(), source.info, tmp_path / f"dst{number}")


def test_a_set_added_twice_keeps_every_source_apart(tmp_path):
    source = store(tmp_path / "src", made(2))
    again = store(tmp_path / "again", made(2))
    convert([source, again, again], tmp_path / "dst", Options())
    assert len({d.source for d in episodes(DemoStore(tmp_path / "dst"))}) == 6


def test_one_file_may_be_converted_beside_itself(tmp_path):
    file = shutil.copyfile(next(HDF5.glob("*.hdf5")), tmp_path / "mine.hdf5")
    assert convert([LiberoSet(file)], tmp_path / "dst", Options()).episodes == len(LiberoSet(file))
