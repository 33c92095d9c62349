"""What a LeRobot data set says about itself: `meta/` of versions 2.0, 2.1 and 3.0, checked before it is believed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from apportion.data.optional import need
from apportion.data.schema import BadDemo, Camera, Orientation
from apportion.data.video import one_line
from apportion.types import UserError

ACTIONS = ("action", "actions")  # the second: ports of LIBERO made for openpi
INDICES = ("timestamp", "frame_index", "episode_index", "index", "task_index")
OURS = "apportion/"  # prefix of what we note of an episode, beside the columns of the format
_FIELD = re.compile(r"\{(\w+)(?::0?(\d{1,2})d)?\}")
_NUMBERS = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")


@dataclass(frozen=True)
class Meta:
    """`meta/` of one data set. `episodes`: one entry each, in order of episode_index."""

    root: Path
    version: str
    fps: float
    features: dict[str, dict[str, Any]]
    data_path: str
    video_path: str | None
    chunks_size: int
    tasks: dict[int, str]
    episodes: list[dict[str, Any]]

    @property
    def joined(self) -> bool:
        """Whether a file holds many episodes, as from version 3.0 on."""
        return self.version.startswith("v3")

    def data_file(self, entry: dict[str, Any]) -> Path:
        """The parquet file with this episode's rows."""
        return self._file(self.data_path, entry, "data", {})

    def video_file(self, entry: dict[str, Any], key: str) -> Path:
        """The MP4 with this episode's frames of the feature `key`."""
        if self.video_path is None:
            raise UserError(f"{self.root}/meta/info.json: {key} is a video, but there is no video_path")
        return self._file(self.video_path, entry, f"videos/{key}", {"video_key": key})

    def start(self, entry: dict[str, Any], key: str) -> float:
        """When this episode begins in its video, in seconds. Cameras of one episode may differ in it."""
        return float(_entry(self.root, entry, f"videos/{key}/from_timestamp")) if self.joined else 0.0

    def _file(self, template: str, entry: dict[str, Any], group: str, values: dict[str, Any]) -> Path:
        if self.joined:
            for name in ("chunk_index", "file_index"):
                values[name] = int(_entry(self.root, entry, f"{group}/{name}"))
        else:
            number = entry["episode_index"]
            values |= {"episode_index": number, "episode_chunk": number // self.chunks_size}
        return inside(self.root, fill(self.root, template, values))


def read_meta(root: Path) -> Meta:
    """The metadata below `root`. Raises UserError for what is no LeRobot data set, or one of an unknown version."""
    about = root / "meta" / "info.json"
    try:
        info = json.loads(about.read_bytes())
        version, features = str(info["codebase_version"]), dict(info["features"])
        fps, chunks_size = float(info["fps"]), int(info.get("chunks_size", 1000))
        data_path, video_path = str(info["data_path"]), info.get("video_path")
        for key, feature in features.items():
            if "/" in key or "\\" in key or ".." in key:
                raise UserError(f"{about}: {key!r} is not allowed as the name of a feature")
            feature["dtype"], feature["shape"] = str(feature["dtype"]), tuple(int(n) for n in feature["shape"])
    except FileNotFoundError as error:
        raise UserError(f"{root} is no LeRobot data set: meta/info.json is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{about} is damaged ({type(error).__name__}: {one_line(error)})") from error
    if not re.fullmatch(r"v(2\.[01]|3\.\d+)", version):
        raise UserError(f"{about}: version {version} is not among v2.0, v2.1, v3.0: convert it with LeRobot's scripts")
    if not fps > 0 or chunks_size < 1:
        raise UserError(f"{about}: fps {fps} and chunks_size {chunks_size} must be positive")
    joined = version.startswith("v3")
    try:
        tasks = dict(_tasks_parquet(root) if joined else _tasks_lines(root))
        episodes = list(_episodes_parquet(root) if joined else _json_lines(root / "meta" / "episodes.jsonl"))
        episodes = [{**e, "episode_index": int(e["episode_index"]), "length": int(e["length"])} for e in episodes]
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are ValueErrors or OSErrors
        raise UserError(f"{root}/meta is damaged ({type(error).__name__}: {one_line(error)})") from error
    episodes.sort(key=lambda entry: entry["episode_index"])
    return Meta(root, version, fps, features, data_path, video_path, chunks_size, tasks, episodes)


def parquet_module() -> Any:
    return need("pyarrow.parquet", "LeRobot's format")


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        yield from (json.loads(line) for line in file if line.strip())


def _tasks_lines(root: Path) -> Iterator[tuple[int, str]]:
    yield from ((int(e["task_index"]), str(e["task"])) for e in _json_lines(root / "meta" / "tasks.jsonl"))


def _tasks_parquet(root: Path) -> Iterator[tuple[int, str]]:
    """The instruction is the table's pandas index, whose column is called differently from release to release."""
    table = parquet_module().read_table(root / "meta" / "tasks.parquet")
    text = next((name for name in ("task", "__index_level_0__") if name in table.column_names), None)
    if text is None:
        raise KeyError(f"tasks.parquet has no column task, only {table.column_names}")
    yield from zip(table["task_index"].to_pylist(), map(str, table[text].to_pylist()), strict=True)


def _episodes_parquet(root: Path) -> Iterator[dict[str, Any]]:
    parquet = parquet_module()
    files = sorted((root / "meta" / "episodes").glob("*/*.parquet"))
    if not files:
        raise FileNotFoundError("no meta/episodes/*/*.parquet")
    for file in files:
        reader = parquet.ParquetFile(file)
        names = [name for name in reader.schema_arrow.names if not name.startswith("stats/")]  # most of the bytes
        yield from reader.read(columns=names).select(names).to_pylist()


def _entry(root: Path, entry: dict[str, Any], name: str) -> Any:
    if entry.get(name) is None:
        raise BadDemo(f"{root}/meta/episodes, episode {entry['episode_index']}: there is no {name}")
    return entry[name]


def fill(root: Path, template: str, values: dict[str, Any]) -> str:
    """`template` with {name} and {name:03d} replaced. Not str.format, which would obey more than that."""

    def put(match: re.Match[str]) -> str:
        name, width = match.groups()
        if name not in values:
            raise UserError(f"{root}/meta/info.json: {{{name}}} in {template!r} is unknown")
        return f"{int(values[name]):0{int(width)}d}" if width else str(values[name])

    return _FIELD.sub(put, template)


def inside(root: Path, relative: str) -> Path:
    """`relative` below `root`. Raises BadDemo for a path that would leave it."""
    path = PurePosixPath(relative)
    if path.is_absolute() or ".." in path.parts or not path.parts or set(relative) & set("\\\0{}"):
        raise BadDemo(f"{root}: path {relative!r} is not allowed, it must stay inside the data set")
    return root / path


def numeric(feature: dict[str, Any]) -> bool:
    return bool(_NUMBERS.fullmatch(feature["dtype"]))


def cameras(meta: Meta) -> dict[str, tuple[str, Camera]]:
    """Camera -> (feature, what it is): those with three colours; depth maps are no pictures."""
    found: dict[str, tuple[str, Camera]] = {}
    for key, feature in meta.features.items():
        about = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
        depth = about.get("is_depth_map") or about.get("video.is_depth_map")
        shape = feature["shape"]
        if feature["dtype"] not in ("image", "video") or depth or len(shape) != 3 or 3 not in (shape[0], shape[2]):
            continue
        first = str((feature.get("names") or [""])[0]).startswith("channel") or shape[2] != 3
        height, width = shape[1:] if first else shape[:2]
        name = key.removeprefix("observation.").removeprefix("images.")
        found[name] = (key, Camera(height, width, _orientation(meta, about)))
    return found


def _orientation(meta: Meta, about: dict[str, Any]) -> Orientation:
    """What the writer noted; else all ports of LIBERO were made from the rotated RLDS files."""
    noted = about.get("orientation")
    if noted in ("upright", "opengl", "rotated", "unknown"):
        return noted
    places = meta.root.absolute().parts[-4:]  # a cache: datasets--owner--libero/snapshots/<hash>
    return "rotated" if any("libero" in place.lower() for place in places) else "unknown"


def proprio(meta: Meta) -> dict[str, str]:
    """Name -> feature, of the low-dimensional observations."""
    found: dict[str, str] = {}
    for key, feature in meta.features.items():
        if numeric(feature) and (key == "state" or key.startswith("observation.")):
            name = key.removeprefix("observation.")
            short = name.removeprefix("states.")  # one family of LIBERO ports: observation.states.joint_state
            found[name if short in found else short] = key
    return found


def entry_names(feature: dict[str, Any]) -> tuple[str, ...] | int:
    """What the entries of a vector are called, where each has a name; else how many there are."""
    names: Any = feature.get("names")
    if isinstance(names, dict) and len(names) == 1:
        names = next(iter(names.values()))
    size = 1
    for n in feature["shape"]:
        size *= n
    return tuple(map(str, names)) if isinstance(names, list) and len(names) == size else size
