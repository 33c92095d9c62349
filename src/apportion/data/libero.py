"""LIBERO's HDF5 files: the released ones, openvla's regenerated ones, and others of their form (robomimic's).

FILE holds data/demo_i/{actions, rewards, dones, obs/*}; one file per task, a folder of files per suite. Released files,
told by the attributes of `data`, hold observations AFTER the action: there action 0 is dropped, for what was seen
before it is not stored. Attributes win over what is assumed: `obs_timing` (before, after) and `macros_image_convention`
(opengl; opencv: upright; rotated) of `data`; `task`, `language`, `success`, `terminated` of a demo.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from apportion.data.hdf5 import attribute, child, dataset, names, natural, open_hdf5, rows, subgroup
from apportion.data.schema import (
    BadDemo,
    Camera,
    Demo,
    Frames,
    Orientation,
    SetInfo,
    Source,
    checked,
    end_rows,
    success_of,
)
from apportion.data.spoken import spoken, unquoted
from apportion.types import UserError

if TYPE_CHECKING:
    import h5py

Timing = Literal["before", "after"]
_CAMERAS = {"agentview_rgb": "image", "eye_in_hand_rgb": "wrist_image"}
_STATE = ("ee_states", "gripper_states")
_RENAMED = {"joint_states": "joint_state"}
_DOUBLES = ("ee_pos", "ee_ori", *_STATE)  # all of them are in `state`
_NOT_EXTRA = ("actions", "rewards", "dones", "states", "robot_states")
# states: the simulator's, as wide as the task has objects; robot_states: what `state` holds, with a quaternion
_RELEASED = ("macros_image_convention", "bddl_file_name", "problem_info")  # attributes that only released files have
_ORIENTATIONS: dict[str, Orientation] = {
    "opengl": "opengl", "opencv": "upright", "upright": "upright", "rotated": "rotated", "unknown": "unknown"
}  # fmt: skip
_FPS = 20.0


@dataclass
class _File:
    path: Path
    demos: list[str] = field(default_factory=list)
    timing: Timing = "before"
    suite: str = ""
    task: str = ""
    language: str = ""
    orientation: Orientation = "unknown"
    cameras: dict[str, tuple[int, int]] = field(default_factory=dict)  # name -> height, width
    widths: dict[str, int] = field(default_factory=dict)  # low-dimensional observations: name -> entries
    action: int = 0
    fps: float | None = None
    masks: dict[str, int] = field(default_factory=dict)
    problem: BadDemo | None = None


class LiberoSet:
    """LIBERO's files as a `DemoSet`: `path` is one file, a suite's folder, or a folder of suites.

    `timing` says how files align observations with actions; None: as each file's attributes tell. Files with T + 1
    observations need no such choice. `masks`: robomimic's splits in the files, name -> episodes; they are not used.
    Columns wider in some tasks than in others (object poses) are filled up with zeros. A file that cannot be opened
    counts as one bad episode, unless it is the only one. Raises UserError for what holds no demonstrations.
    """

    def __init__(self, path: Path | str, timing: Timing | None = None):
        self.path = Path(path)
        self._open: dict[Path, h5py.File] = {}
        self._files = [self._look(file, timing) for file in _find(self.path)]
        good = [file for file in self._files if file.problem is None]
        if not good:
            raise next(file.problem for file in self._files if file.problem)
        self._where = [(file, i) for file in self._files for i in range(len(file.demos) if not file.problem else 1)]
        self.masks: dict[str, int] = {}
        for file in good:
            for name, count in file.masks.items():
                self.masks[name] = self.masks.get(name, 0) + count
        self._info = self._summary(good)

    @property
    def info(self) -> SetInfo:
        return self._info

    def __len__(self) -> int:
        return len(self._where)

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open = {}

    def read(self, index: int, frames: Frames = "all") -> Demo:
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        file, place = self._where[index]
        if file.problem:
            raise file.problem
        name = file.demos[place]
        where = f"{file.path}, {name}"
        group = subgroup(subgroup(self._handle(file.path), "data", where), name, where)
        action, reward = _needed(group, "actions", where), _needed(group, "rewards", where).reshape(-1)
        if action.ndim != 2 or len(action) == 0:
            raise BadDemo(f"{where}: actions has shape {action.shape}" + ("" if action.ndim == 2 else ", not (T, a)"))
        obs = subgroup(group, "obs", where)
        seen = _rows_of(obs, where)
        cut = file.timing == "after" and seen == len(action)
        observations = seen if seen is not None else len(action)
        done = dataset(group, "dones", where)
        ended = attribute(group, "terminated", where)
        if ended is None:
            ended = done is not None and len(done) and rows(done, where, [len(done) - 1])[0]
        success = attribute(group, "success", where)
        demo = Demo(
            images=self._images(obs, observations, frames, where),
            proprio={key: self._column(obs, key, width, where) for key, width in self._widths.items()},
            action=_flat(action)[cut:],
            reward=_flat(reward)[cut:, 0],
            terminated=bool(ended),
            truncated=not ended,
            success=bool(success) if success is not None else success_of(reward),
            language=unquoted(str(attribute(group, "language", where) or file.language)),
            task=str(attribute(group, "task", where) or file.task),
            source=Source(str(file.path.relative_to(self._root)), place, name),
            extra={key: value[cut:] for key, value in _extra(group, where).items()},
        )
        return checked(demo, frames)

    @property
    def _root(self) -> Path:
        return self.path.parent if self.path.is_file() else self.path

    def _handle(self, path: Path) -> h5py.File:
        if path not in self._open:
            self._open[path] = open_hdf5(path)
        return self._open[path]

    def _look(self, path: Path, timing: Timing | None) -> _File:
        file = _File(path)
        try:
            _describe(self._handle(path), file, timing)
        except BadDemo as error:
            file.problem = error
            if path in self._open:
                self._open.pop(path).close()
        return file

    def _summary(self, files: list[_File]) -> SetInfo:
        """The set's columns: those of any file, so that an episode that lacks one is told of it by name."""
        cameras: dict[str, Camera] = {}
        self._widths: dict[str, int] = {}
        for file in files:
            for name, size in file.cameras.items():
                cameras.setdefault(name, Camera(*size, file.orientation))
            for name, width in file.widths.items():
                self._widths[name] = max(width, self._widths.get(name, 0))
        suites = {file.suite for file in files}
        return SetInfo(
            name=suites.pop() if len(suites) == 1 else self.path.resolve().name,
            format="libero",
            path=str(self._root),
            cameras=cameras,
            proprio=dict(self._widths),
            action=files[0].action,
            fps=files[0].fps,
            obs_timing=files[0].timing,
        )

    def _images(self, obs: h5py.Group, count: int, frames: Frames, where: str) -> dict[str, np.ndarray]:
        images = {}
        for name, camera in self._info.cameras.items():
            key = next((key for key, renamed in _CAMERAS.items() if renamed == name), name)
            pixels = dataset(obs, key, where)
            if pixels is None:
                raise BadDemo(f"{where}: camera {name} (obs/{key}) is missing")
            if pixels.shape[1:] != (camera.height, camera.width, 3) or pixels.dtype != np.uint8:
                size = f"({camera.height}, {camera.width}, 3) uint8"
                raise BadDemo(
                    f"{where}: camera {name} has {pixels.shape[1:]} {pixels.dtype}, in the first it is {size}"
                )
            if len(pixels) != count:
                raise BadDemo(f"{where}: camera {name} has {len(pixels)} frames for {count} observations")
            if frames != "none":
                images[name] = rows(pixels, where, end_rows(count) if frames == "ends" else None)
        return images

    def _column(self, obs: h5py.Group, name: str, width: int, where: str) -> np.ndarray:
        keys = _STATE if name == "state" else (next((k for k, new in _RENAMED.items() if new == name), name),)
        parts = []
        for key in keys:
            values = dataset(obs, key, where)
            if values is None:
                raise BadDemo(f"{where}: obs/{key} is missing")
            parts.append(_flat(rows(values, where)))
        if len({len(part) for part in parts}) > 1:
            raise BadDemo(f"{where}: {' and '.join(keys)} have {' and '.join(str(len(p)) for p in parts)} rows")
        joined = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
        if joined.shape[1] > width:
            raise BadDemo(f"{where}: obs/{name} has {joined.shape[1]} entries, in the first episodes it is {width}")
        return np.pad(joined, ((0, 0), (0, width - joined.shape[1])))


def _find(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if path.is_file():
        return [path]
    patterns = ("*.hdf5", "*.h5", "*/*.hdf5", "*/*.h5")
    found = sorted({file for pattern in patterns for file in path.glob(pattern)}, key=lambda file: natural(str(file)))
    if not found:
        raise UserError(f"{path} holds no .hdf5 files: give a LIBERO file, a suite's folder, or a folder of suites")
    return found


def _describe(handle: h5py.File, file: _File, timing: Timing | None) -> None:
    """Fills `file` from the attributes, and from its first demo, or from all where some columns are not LIBERO's."""
    where = str(file.path)
    data = subgroup(handle, "data", where)
    file.demos = [name for name in names(data) if name.startswith("demo")]
    if not file.demos:
        raise BadDemo(f"{where}: there are no demos in it")
    said = {name: attribute(data, name, where) for name in ("obs_timing", "env_args", *_RELEASED)}
    released = any(said[name] is not None for name in _RELEASED)
    file.timing = timing or ("after" if released else "before")
    if timing is None and said["obs_timing"] in ("before", "after"):
        file.timing = said["obs_timing"]
    stem = file.path.stem
    file.task = stem.removesuffix("_demo")
    bddl = PurePosixPath(str(said["bddl_file_name"] or ""))
    file.suite = bddl.parent.name or (file.path.parent.name if stem.endswith("_demo") else stem)
    # regenerated files hold no instruction: the name is one, as openvla's own builder has it
    file.language = _instruction(said["problem_info"]) or (spoken(file.task) if stem.endswith("_demo") else "")
    first = subgroup(subgroup(data, file.demos[0], where), "obs", where)
    own_names = any(name in first for name in _CAMERAS)
    file.orientation = _ORIENTATIONS.get(str(said["macros_image_convention"]), "opengl" if own_names else "unknown")
    file.fps = _control_freq(said["env_args"]) or (_FPS if own_names or "ee_states" in first else None)
    action = dataset(subgroup(data, file.demos[0], where), "actions", where)
    file.action = action.shape[1] if action is not None and action.ndim == 2 else 0
    known = {*_CAMERAS, *_DOUBLES, *_RENAMED}
    for name in file.demos if set(names(first)) - known else file.demos[:1]:
        obs = subgroup(subgroup(data, name, where), "obs", where)
        for key in names(obs):
            _note_column(file, obs, key, where)
    if isinstance(child(handle, "mask", where), type(data)):
        masks = subgroup(handle, "mask", where)
        listed = {name: getattr(child(masks, name, where), "shape", ()) for name in names(masks)}
        file.masks = {name: shape[0] for name, shape in listed.items() if shape}


def _note_column(file: _File, obs: h5py.Group, key: str, where: str) -> None:
    found = dataset(obs, key, where)
    if found is None:
        return
    if found.ndim == 4 and found.shape[3] == 3 and found.dtype == np.uint8:
        file.cameras.setdefault(_CAMERAS.get(key, key), (found.shape[1], found.shape[2]))
    elif key == _STATE[0] and _STATE[1] in obs:
        file.widths["state"] = 8
    elif key not in _DOUBLES and 1 <= found.ndim <= 2:
        name, width = _RENAMED.get(key, key), 1 if found.ndim == 1 else found.shape[1]
        file.widths[name] = max(width, file.widths.get(name, 0))


def _needed(group: h5py.Group, name: str, where: str) -> np.ndarray:
    found = dataset(group, name, where)
    if found is None or found.ndim == 0:
        raise BadDemo(f"{where}: {name} is missing")
    return rows(found, where)


def _rows_of(obs: h5py.Group, where: str) -> int | None:
    """How many observations there are, by the first column."""
    found = next(
        (column for name in names(obs) if (column := dataset(obs, name, where)) is not None and column.ndim), None
    )
    return None if found is None else len(found)


def _extra(group: h5py.Group, where: str) -> dict[str, np.ndarray]:
    columns = {}
    for name in (n for n in names(group) if n not in (*_NOT_EXTRA, "obs", "next_obs")):
        found = dataset(group, name, where)
        if found is not None and 1 <= found.ndim <= 2:
            columns[name] = rows(found, where)
    return columns


def _flat(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows becomes infinite, and is told of as such
        return values.reshape(len(values), -1).astype(np.float32)


def _instruction(problem_info: Any) -> str:
    """language_instruction of the JSON: a string, or a list of strings, with quotes around."""
    try:
        said = json.loads(problem_info)["language_instruction"]
    except (TypeError, ValueError, KeyError):
        return ""
    return unquoted(" ".join(map(str, said)) if isinstance(said, list) else str(said))


def _control_freq(env_args: Any) -> float | None:
    try:
        return float(json.loads(env_args)["env_kwargs"]["control_freq"])
    except (TypeError, ValueError, KeyError):
        return None
