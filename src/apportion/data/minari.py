"""Minari datasets, without the minari package: NAME-vN/data/{metadata.json, main_data.hdf5}, or its Arrow and Parquet
forms, data/i/part-0.*.

Observations are T + 1 per episode. Dict and Tuple spaces are taken apart: {"arm": {"qpos": ...}} is `arm.qpos`, entry 1
of the tuple `pair` is `pair.1`; an observation that is one array is `state`, or `image`. Discrete becomes one-hot.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.frames import BadFrame, decode_frames
from apportion.data.minari_files import ArrowEpisodes, Episode, Hdf5Episodes
from apportion.data.schema import BadDemo, Camera, Demo, Frames, SetInfo, Source, checked, end_rows
from apportion.data.spoken import unquoted
from apportion.types import UserError

_NUMBERS = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
_SMALLEST = 32  # pixels: Minari takes uint8 arrays of this height and width for images
_SUCCESS = ("success", "is_success")


@dataclass(frozen=True)
class _Space:
    """One leaf of a space."""

    path: tuple[str, ...]  # under observations/ or actions/; places in tuples as Minari's HDF5 files call them
    kind: str
    dtype: str = ""
    shape: tuple[int, ...] = ()
    n: int = 0  # Discrete: values from `start` on
    start: int = 0

    @property
    def is_image(self) -> bool:
        colours = len(self.shape) == 2 or (len(self.shape) == 3 and self.shape[2] in (1, 3))
        return self.kind == "Box" and self.dtype == "uint8" and colours and min(self.shape[:2]) >= _SMALLEST

    @property
    def is_vector(self) -> bool:
        return self.kind in _NUMBERS and not self.is_image and len(self.shape) <= 1

    @property
    def size(self) -> int:
        return self.n or math.prod(self.shape)

    def name(self, alone: str) -> str:
        return ".".join(part.removeprefix("_index_") for part in self.path) or alone

    def columns(self, values: np.ndarray, where: str) -> np.ndarray:
        """(n, size) float32 of what is stored."""
        if self.kind == "Discrete":
            picked = values.reshape(-1).astype(np.int64) - self.start
            if len(picked) and not 0 <= picked.min() <= picked.max() < self.n:
                raise BadDemo(f"{where}: {'.'.join(self.path)} has values outside Discrete({self.n})")
            return np.eye(self.n, dtype=np.float32)[picked]
        if values.size != len(values) * self.size:
            raise BadDemo(f"{where}: {'.'.join(self.path)} has rows of {values.shape[1:]} instead of {self.shape}")
        return values.reshape(len(values), self.size).astype(np.float32)


class MinariSet:
    """A Minari dataset as a `DemoSet`; `path`: NAME-vN, its folder data, or main_data.hdf5.

    Success comes from infos (success, is_success), other numbers there are `extra`: what was told after each action.
    Observations of other kinds than numbers and RGB or grey images are left out. Raises UserError.
    """

    def __init__(self, path: Path | str):
        self.path = _data_folder(Path(path))
        about = _metadata(self.path)
        kind = str(about.get("data_format", "hdf5"))
        if kind not in ("hdf5", "arrow", "parquet"):
            raise UserError(f"{self.path} is kept as {kind}; hdf5, arrow and parquet are read")
        self._files = Hdf5Episodes(self.path) if kind == "hdf5" else ArrowEpisodes(self.path, kind)
        try:
            observations = list(_leaves(_space_json(about, "observation_space"), ()))
            self._action = [leaf for leaf in _leaves(_space_json(about, "action_space"), ()) if leaf.is_vector]
            self._count = int(about["total_episodes"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self.path / 'metadata.json'} is not as Minari writes it: {error!r}") from error
        if self._count < 1 or not self._action:
            what = "actions of numbers" if self._count else "episodes"
            raise UserError(f"{self.path}: there are no {what} in it")
        self._cameras = {leaf.name("image"): leaf for leaf in observations if leaf.is_image}
        self._proprio = {leaf.name("state"): leaf for leaf in observations if leaf.is_vector}
        self._text = next((leaf for leaf in observations if leaf.kind == "Text"), None)
        self._info = SetInfo(
            name=str(about.get("dataset_id") or self.path.resolve().parent.name),
            format="minari",
            path=str(self.path),
            cameras={name: Camera(leaf.shape[0], leaf.shape[1]) for name, leaf in self._cameras.items()},
            proprio={name: leaf.size for name, leaf in self._proprio.items()},
            action=sum(leaf.size for leaf in self._action),
        )

    @property
    def info(self) -> SetInfo:
        return self._info

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        self._files.close()

    def read(self, index: int, frames: Frames = "all") -> Demo:
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        episode = self._files.episode(index)
        where = episode.where
        reward = episode.numbers(("rewards",)).reshape(-1).astype(np.float32)
        parts = [leaf.columns(episode.numbers(("actions", *leaf.path)), where) for leaf in self._action]
        infos = {name: values for name, values in episode.infos() if values.ndim <= 2}
        success = next((infos.pop(name) for name in _SUCCESS if name in infos), None)
        ended, cut = (episode.numbers((name,)).reshape(-1) for name in ("terminations", "truncations"))
        demo = Demo(
            images=self._images(episode, len(reward) + 1, frames),
            proprio={k: s.columns(episode.numbers(("observations", *s.path)), where) for k, s in self._proprio.items()},
            action=np.concatenate(parts, axis=1),
            reward=reward,
            terminated=bool(len(ended) and ended[-1]),
            truncated=bool(len(cut) and cut[-1]),
            success=None if success is None or not len(success) else bool(success[-1]),
            language=unquoted(episode.text(("observations", *self._text.path))) if self._text else "",
            task=self._info.name,
            source=Source(episode.file, index, f"episode_{index}"),
            extra={name: values[-len(reward) :] for name, values in infos.items() if len(values) >= len(reward)},
        )
        return checked(demo, frames)

    def _images(self, episode: Episode, count: int, frames: Frames) -> dict[str, np.ndarray]:
        if frames == "none":
            return {}
        images = {}
        rows = list(range(count)) if frames == "all" else end_rows(count)
        for name, leaf in self._cameras.items():
            stored = episode.images(("observations", *leaf.path), rows, count)
            if isinstance(stored, np.ndarray):
                pixels = stored.reshape(len(rows), *leaf.shape[:2], -1)  # grey ones get the three equal channels
                images[name] = np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))
                continue
            try:
                images[name] = decode_frames(stored, leaf.shape[0], leaf.shape[1])
            except BadFrame as error:
                raise BadDemo(f"{episode.where}, step {rows[error.place]}: camera {name}: {error}") from error
        return images


def _data_folder(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path} does not exist")
    folder = path.parent if path.is_file() else path
    if (folder / "data" / "metadata.json").is_file():
        return folder / "data"
    if (folder / "metadata.json").is_file():
        return folder
    inside = sorted(p.parent.parent for p in (*path.glob("*/data/metadata.json"), *path.glob("*/*/data/metadata.json")))
    names = ", ".join(str(p.relative_to(path)) for p in inside[:8])
    raise UserError(f"{path} is no Minari dataset" + (f": give one of those in it: {names}" if names else ""))


def _metadata(folder: Path) -> dict[str, Any]:
    file = folder / "metadata.json"
    try:
        data = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{file} is not as Minari writes it")
    return data


def _space_json(about: dict[str, Any], name: str) -> dict[str, Any]:
    if name not in about:
        raise UserError(f"metadata.json has no {name}: write the dataset again with minari 0.5 or later")
    space = about[name]
    return json.loads(space) if isinstance(space, str) else space


def _leaves(space: dict[str, Any], path: tuple[str, ...]) -> Iterator[_Space]:
    kind, children = space["type"], space.get("subspaces", {})
    if kind == "Dict":
        for name, child in children.items():
            yield from _leaves(child, (*path, name))
    elif kind == "Tuple":
        for place, child in enumerate(children):
            yield from _leaves(child, (*path, f"_index_{place}"))
    elif kind == "Discrete":
        yield _Space(path, kind, n=int(space["n"]), start=int(space.get("start", 0)))
    elif kind == "MultiDiscrete":
        yield _Space(path, kind, shape=np.shape(space["nvec"]))
    elif kind == "MultiBinary":
        yield _Space(path, kind, shape=tuple(np.atleast_1d(space["n"]).tolist()))
    else:
        yield _Space(path, kind, str(space.get("dtype", "")), tuple(int(d) for d in space.get("shape", ())))
