"""RLDS sets (TFDS on disk): openvla's modified LIBERO, Open X-Embodiment, and any other with steps and actions.

VERSION/ holds dataset_info.json (the name, the shards), features.json (what a record holds) and the shards. Names come
from there, never from the folder: openvla's libero_10_no_noops is called liber_o10. One record is one episode.
What RLDS cannot say, a description may: `orientation: upright` in that of a camera, `fps: 10` in that of the set.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from apportion.data.frames import BadFrame, decode_frames, frame_size
from apportion.data.rlds_meta import Leaf, read_features, read_shards, version_folder
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
from apportion.data.tfrecord import Damaged, Values, parse_example, read_record, record_offsets
from apportion.types import UserError

_OBSERVATION = ("steps", "observation")
_NOT_EXTRA = ("reward", "discount", "is_first", "is_last", "is_terminal", "success")
_LIBERO = re.compile(r"libero|liber_o", re.IGNORECASE)
_LIBERO_FPS = 20.0  # of the simulator's controller; after the no-op filter frames are not quite uniform in time


@dataclass(frozen=True)
class _Shard:
    path: Path
    offsets: list[tuple[int, int]]  # of the whole records
    episodes: int  # that it should hold
    damage: str  # why there are fewer offsets than episodes


class RldsSet:
    """An RLDS set as a `DemoSet`; `split`: one of them, None for all, in the order of dataset_info.json.

    `path`: the version folder, or its parent. Opening reads lengths only; a damaged shard spoils the episodes from the
    damage on, and each of those raises BadDemo when read. The last step's action and reward are taken as real, as the
    robot sets have them. An action of several parts is their concatenation in the order of names. Without rewards the
    column is 0 and success unknown. Raises UserError for what is no RLDS set.
    """

    def __init__(self, path: Path | str, split: str | None = None):
        self.path = version_folder(Path(path))
        self._leaves = {leaf.path: leaf for leaf in read_features(self.path)}
        name, description, listed = read_shards(self.path, split)
        self._shards = [_open_shard(file, count) for file, count in listed]
        self._ends = list(accumulate(shard.episodes for shard in self._shards))
        if len(self) == 0:
            raise UserError(f"{self.path}: there is no episode in it")
        steps = [leaf for leaf in self._leaves.values() if leaf.path[0] == "steps"]
        seen = {".".join(leaf.path[2:]): leaf for leaf in steps if leaf.path[:2] == _OBSERVATION}
        self._cameras = {name: leaf for name, leaf in seen.items() if leaf.is_camera}
        self._proprio = {name: leaf for name, leaf in seen.items() if leaf.is_vector}
        self._action = sorted((x for x in steps if x.path[1] == "action" and x.is_vector), key=lambda leaf: leaf.path)
        self._extra = {".".join(leaf.path[1:]): leaf for leaf in steps if leaf.is_vector and _is_extra(leaf)}
        texts = [leaf for leaf in self._leaves.values() if leaf.kind == "text"]
        spoken = [leaf for leaf in texts if re.search("instruction|language", leaf.path[-1])]
        self._language = min(spoken, key=lambda leaf: (leaf.path[0] != "steps", len(leaf.path)), default=None)
        if not self._action:
            raise UserError(f"{self.path}: features.json lists no steps/action: what is in it is no demonstrations")
        fps = re.search(r"fps: ([\d.]*\d)", description)
        libero = _LIBERO.match(name) is not None
        self._info = SetInfo(
            name=name,
            format="rlds",
            path=str(self.path),
            cameras={key: self._camera(leaf, libero) for key, leaf in self._cameras.items()},
            proprio={key: leaf.size for key, leaf in self._proprio.items()},
            action=sum(leaf.size for leaf in self._action),
            fps=float(fps[1]) if fps else _LIBERO_FPS if libero else None,
        )

    @property
    def info(self) -> SetInfo:
        return self._info

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def close(self) -> None:
        """Nothing stays open between episodes."""

    def read(self, index: int, frames: Frames = "all") -> Demo:
        source, where, values = self._record(index)
        steps = _steps(values, self._action[0], where)

        def column(leaf: Leaf) -> np.ndarray:
            return _column(values, leaf, steps, where)

        reward_leaf, end_leaf = self._leaves.get(("steps", "reward")), self._leaves.get(("steps", "is_terminal"))
        reward = np.zeros(steps, np.float32) if reward_leaf is None else column(reward_leaf).reshape(steps)
        action = np.concatenate([_wide(column(leaf)) for leaf in self._action], axis=1)
        terminated = bool(steps and end_leaf is not None and column(end_leaf)[-1])
        language = _text(values, self._language)
        demo = Demo(
            images=self._images(values, steps, frames, where),
            proprio={name: _wide(column(leaf)) for name, leaf in self._proprio.items()},
            action=action,
            reward=reward.astype(np.float32),
            terminated=terminated,
            truncated=not terminated,
            success=self._success(values, reward if reward_leaf else None),
            language=language,
            task=_task(_text(values, self._leaves.get(("episode_metadata", "file_path"))), language),
            source=source,
            extra={name: column(leaf) for name, leaf in self._extra.items()},
        )
        return checked(demo, frames)

    def _record(self, index: int) -> tuple[Source, str, dict[str, Values]]:
        """Of episode `index`: where it is, the same in words, and its lists."""
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        shard = self._shards[number]
        place = index - (self._ends[number] - shard.episodes)
        where = f"{shard.path}, episode {place}"
        if place >= len(shard.offsets):
            raise BadDemo(f"{where}: {shard.damage}: fetch this file again")
        try:
            values = parse_example(read_record(shard.path, *shard.offsets[place]))
        except Damaged as error:
            raise BadDemo(f"{where}: {error}: fetch this file again") from error
        return Source(shard.path.name, place), where, values

    def _images(self, values: dict[str, Values], steps: int, frames: Frames, where: str) -> dict[str, np.ndarray]:
        images = {}
        for name, leaf in self._cameras.items():
            encoded = values.get(leaf.key, [])
            if len(encoded) == 0:
                raise BadDemo(f"{where}: camera {name} is missing")
            if isinstance(encoded, np.ndarray) or len(encoded) != steps:
                raise BadDemo(f"{where}: camera {name} has {len(encoded)} frames for {steps} actions")
            rows = list(range(steps)) if frames == "all" else end_rows(steps) if frames == "ends" else []
            camera = self._info.cameras[name]
            try:
                images[name] = decode_frames([encoded[row] for row in rows], camera.height, camera.width)
            except BadFrame as error:
                raise BadDemo(f"{where}, step {rows[error.place]}: camera {name}: {error}") from error
        return images if frames != "none" else {}

    def _success(self, values: dict[str, Values], reward: np.ndarray | None) -> bool | None:
        for path in (("episode_metadata", "success"), ("steps", "success")):
            flags = values.get("/".join(path), []) if path in self._leaves else []
            if isinstance(flags, np.ndarray) and len(flags):
                return bool(flags[-1])
        return success_of(reward) if reward is not None else None

    def _camera(self, leaf: Leaf, libero: bool) -> Camera:
        height, width = leaf.shape[:2]
        if height <= 0 or width <= 0:  # features.json leaves the size open: the first frame has it
            _, where, values = self._record(0)
            try:
                height, width = frame_size(values[leaf.key][0])
            except (KeyError, IndexError, ValueError, OSError) as error:
                raise BadDemo(f"{where}: camera {'.'.join(leaf.path[2:])}: no size to be found") from error
        said = re.search("orientation: (upright|opengl|rotated|unknown)", leaf.description)
        orientation: Orientation = said[1] if said else "rotated" if libero else "unknown"  # type: ignore[assignment]
        return Camera(height, width, orientation)


def _open_shard(path: Path, count: int | None) -> _Shard:
    """`count`: records it should hold, None where nothing says so."""
    offsets, damage = record_offsets(path)
    episodes = max(len(offsets), 1 if damage else 0) if count is None else count
    if len(offsets) > episodes:
        raise UserError(f"{path} holds {len(offsets)} records, dataset_info.json speaks of {episodes}")
    return _Shard(
        path, offsets, episodes, damage or f"dataset_info.json speaks of {episodes}, there are {len(offsets)}"
    )


def _is_extra(leaf: Leaf) -> bool:
    return leaf.path[1] not in ("observation", "action", *_NOT_EXTRA)


def _steps(values: dict[str, Values], action: Leaf, where: str) -> int:
    """T, by the actions."""
    listed = values.get(action.key, [])
    if len(listed) == 0:
        raise BadDemo(f"{where}: {action.key} is missing, or empty")
    return len(listed) if action.encoding else len(listed) // action.size


def _column(values: dict[str, Values], leaf: Leaf, steps: int, where: str) -> np.ndarray:
    """(steps, *shape) of the feature's type. Raises BadDemo."""
    listed = values.get(leaf.key, [])
    if len(listed) == 0:
        raise BadDemo(f"{where}: {leaf.key} is missing, or empty")
    try:
        flat = leaf.numbers(listed)
    except (ValueError, TypeError) as error:
        raise BadDemo(f"{where}: {leaf.key} does not hold what features.json says: {error}") from error
    if len(flat) != steps * leaf.size:
        raise BadDemo(f"{where}: {leaf.key} has {len(flat)} numbers, {steps} actions need {steps} x {leaf.size}")
    return flat.reshape(steps, *leaf.shape)


def _wide(values: np.ndarray) -> np.ndarray:
    return values.reshape(len(values), -1).astype(np.float32)


def _text(values: dict[str, Values], leaf: Leaf | None) -> str:
    listed = values.get(leaf.key, []) if leaf else []
    if isinstance(listed, np.ndarray) or len(listed) == 0:
        return ""
    return unquoted(str(listed[0], "utf-8", "replace"))


def _task(file_path: str, language: str) -> str:
    """LIBERO's name of a task: the part of the path that spells the instruction, or a demo file's name.

    Else the instruction: most other sets have one file per episode, whose name says nothing about the task.
    """
    parts = [part.removesuffix("_demo.hdf5") for part in file_path.replace("\\", "/").split("/")]
    spelt = [part for part in parts if part and spoken(part).lower() == language.lower()]
    return spelt[-1] if spelt else parts[-1] if file_path.endswith("_demo.hdf5") else language
