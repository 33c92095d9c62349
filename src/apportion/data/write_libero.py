"""Episodes into HDF5 in LIBERO's layout: a folder with one file per task, as openvla regenerates them.

Observations are from BEFORE the action, unlike those of LIBERO's released files; the attribute `obs_timing` says so.
The other attributes are those that `apportion.data.libero` reads; LIBERO's and robomimic's loaders ignore them.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apportion.data.hdf5 import attribute, subgroup
from apportion.data.new_place import new_directory
from apportion.data.optional import need
from apportion.data.schema import Demo, SetInfo
from apportion.types import UserError

if TYPE_CHECKING:
    import h5py

_CAMERAS = {"image": "agentview_rgb", "wrist_image": "eye_in_hand_rgb"}
_COLUMNS = ("actions", "rewards", "dones", "states", "robot_states", "obs", "next_obs")
_PARTS = ("ee_states", "ee_pos", "ee_ori", "gripper_states")


def write_libero(demos: Iterable[Demo], info: SetInfo, path: Path) -> None:
    """Writes all episodes to `path`/TASK_demo.hdf5; `path` must not exist yet.

    Where an episode has T + 1 observations the file has them too. Raises UserError and BadDemo; then nothing is left.
    """
    need("h5py", "writing HDF5")
    if path.suffix in (".hdf5", ".h5"):
        raise UserError(f"{path}: give a folder: there will be one file per task in it")
    files: dict[str, _TaskFile] = {}
    with new_directory(path) as folder:
        try:
            for demo in demos:
                name = re.sub(r"[^\w.-]+", "_", demo.task).strip("._") or "demos"
                if name not in files:
                    files[name] = _TaskFile(folder / f"{name}_demo.hdf5")
                    _head(files[name].hdf5, info, demo)
                _write(files[name].hdf5, demo)
                files[name].check()
        finally:
            for file in files.values():
                file.close()
        for file in files.values():
            file.check()  # closing wrote the rest
        if not files:
            raise UserError(f"{path}: there is no episode to write")


class _TaskFile:
    """One HDF5 file. HDF5 itself does not survive a full disk: so it never learns of one, and `check` raises it."""

    def __init__(self, path: Path):
        import h5py

        self._raw = _Quiet(path, "w+")
        self.hdf5 = h5py.File(self._raw, "w")

    def check(self) -> None:
        """Raises OSError if anything could not be written."""
        if self._raw.error:
            raise self._raw.error

    def close(self) -> None:
        self.hdf5.close()
        self._raw.close()


class _Quiet(io.FileIO):
    """A file that keeps its first error for later, and from then on takes all that is written for written."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while len(left) and not self.error:
                left = left[super().write(left) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0


def _head(file: h5py.File, info: SetInfo, demo: Demo) -> None:
    data = file.create_group("data")
    data.attrs["obs_timing"] = "before"
    data.attrs["total"] = 0
    data.attrs["problem_info"] = json.dumps({"language_instruction": [demo.language]})
    if info.fps:
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": info.fps}})
    lies = {camera.orientation for name, camera in info.cameras.items() if name in demo.images}
    if len(lies) > 1:
        raise UserError(f"the cameras lie differently ({', '.join(sorted(lies))}): HDF5 has one word for all of them")
    if lies:
        data.attrs["macros_image_convention"] = lies.pop()


def _write(file: h5py.File, demo: Demo) -> None:
    data = subgroup(file, "data", file.filename)
    group = data.create_group(f"demo_{len(data)}")
    data.attrs["num_demos"] = len(data)
    data.attrs["total"] = attribute(data, "total", file.filename) + demo.length
    group.attrs["num_samples"] = demo.length
    group.attrs["task"], group.attrs["language"] = demo.task, demo.language
    group.attrs["terminated"] = demo.terminated
    if demo.success is not None:
        group.attrs["success"] = demo.success
    done = np.zeros(demo.length, np.uint8)
    done[-1] = demo.terminated
    columns = {"actions": demo.action, "rewards": demo.reward, "dones": done}
    for name, values in demo.extra.items():
        if name in _COLUMNS:
            raise UserError(f"a column {name} means something else in LIBERO's HDF5: take --to store")
        columns[name] = values
    group.create_group("obs")  # readers look for it even where there is nothing in it
    columns |= {f"obs/{_CAMERAS.get(name, name)}": frames for name, frames in demo.images.items()}
    for name, values in demo.proprio.items():
        columns |= _observed(name, values)
    for name, values in columns.items():
        group.create_dataset(name, data=values)


def _observed(name: str, values: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of LIBERO's that one of ours becomes."""
    if name in _PARTS:
        raise UserError(f"a column {name} means something else in LIBERO's HDF5: take --to store")
    if name == "state" and values.shape[1:] == (8,):
        parts = {"ee_states": values[:, :6], "ee_pos": values[:, :3], "ee_ori": values[:, 3:6]}
        return {f"obs/{part}": x for part, x in {**parts, "gripper_states": values[:, 6:]}.items()}
    return {f"obs/{'joint_states' if name == 'joint_state' else name}": values}
