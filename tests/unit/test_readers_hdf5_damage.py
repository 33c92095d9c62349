"""HDF5 files that are damaged, or lead elsewhere: one line names file, episode and step."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from apportion.data.libero import LiberoSet
from apportion.data.schema import BadDemo, episodes
from records_for_tests import (
    STOVE,
    flip_byte,
    native,
    one_line,
)


def test_a_damaged_file_among_others_is_one_bad_episode(tmp_path: Path):
    native(tmp_path / "a_demo.hdf5", {"demo_0": 3})
    (tmp_path / "b_demo.hdf5").write_bytes(STOVE.read_bytes()[:5000])
    lost: list[BadDemo] = []
    assert len(list(episodes(LiberoSet(tmp_path), skip_bad=lost.append))) == 1
    assert len(lost) == 1 and "b_demo.hdf5: it is cut short" in str(lost[0])


@pytest.mark.parametrize(("data", "said"), [(b"", "is empty"), (b"text" * 100, "no HDF5 file")])
def test_a_file_that_is_no_hdf5_is_named(tmp_path: Path, data: bytes, said: str):
    (tmp_path / "a_demo.hdf5").write_bytes(data)
    with pytest.raises(BadDemo) as error:
        LiberoSet(tmp_path / "a_demo.hdf5")
    one_line(error, "a_demo.hdf5", said)


def test_damaged_bytes_inside_a_file_are_named(tmp_path: Path):
    file = tmp_path / STOVE.name
    shutil.copy(STOVE, file)
    with h5py.File(file) as f:
        where = f["data/demo_1/actions"].id.get_chunk_info(0).byte_offset
    flip_byte(file, where + 20)
    with pytest.raises(BadDemo) as error:
        LiberoSet(file).read(1)
    one_line(error, file.name, "demo_1", "actions cannot be read")


def broken(tmp_path: Path, change: str) -> Path:
    """The sample with demo_1 changed."""
    file = tmp_path / STOVE.name
    shutil.copy(STOVE, file)
    with h5py.File(file, "a") as f:
        demo = f["data/demo_1"]
        steps = len(demo["actions"])
        if change == "camera":
            del demo["obs/eye_in_hand_rgb"]
        elif change == "nan":
            demo["actions"][7, 2] = np.nan
        elif change == "short":
            shorter = demo["obs/joint_states"][: steps - 2]
            del demo["obs/joint_states"]
            demo["obs/joint_states"] = shorter
        elif change == "frames":
            del demo["obs/agentview_rgb"]
            demo["obs/agentview_rgb"] = np.zeros((steps, 64, 64, 3), np.uint8)
        elif change == "objects":
            del demo["actions"]
            demo.create_dataset("actions", data=[b"x"] * steps, dtype=h5py.string_dtype())
        elif change in ("soft", "external"):
            link = h5py.SoftLink("/data/demo_0/actions") if change == "soft" else h5py.ExternalLink("x.hdf5", "/y")
            del demo["actions"]
            demo["actions"] = link
        elif change == "raw":
            del demo["actions"]
            (tmp_path / "secret").write_bytes(bytes(steps * 56))
            demo.create_dataset("actions", (steps, 7), "f8", external=[(str(tmp_path / "secret"), 0, steps * 56)])
        elif change == "virtual":
            del demo["actions"]
            layout = h5py.VirtualLayout((steps, 7), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.hdf5"), "x", (steps, 7))
            demo.create_virtual_dataset("actions", layout)
    return file


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("camera", "camera wrist_image (obs/eye_in_hand_rgb) is missing"),
        ("nan", "step 7: action is not finite"),
        ("short", "proprio joint_state has 20 rows for 22 actions"),
        ("frames", "camera image has (64, 64, 3)"),
        ("objects", "actions holds object instead of numbers"),
        ("soft", "actions is a link"),
        ("external", "actions is a link"),
        ("raw", "actions lies in another file"),
        ("virtual", "actions lies in another file"),
    ],
)
def test_a_bad_demo_is_named(tmp_path: Path, change: str, said: str):
    demos = LiberoSet(broken(tmp_path, change), timing="before")
    demos.read(0)
    with pytest.raises(BadDemo) as error:
        demos.read(1)
    one_line(error, STOVE.name, "demo_1", said)
