"""Episodes as a LeRobot data set of version 2.1 or 3.0, which LeRobot loads."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apportion.data.lerobot_meta import INDICES, OURS, parquet_module
from apportion.data.lerobot_stats import Stats, as_lists, image_stats, merged, vector_stats
from apportion.data.new_place import new_directory
from apportion.data.optional import need
from apportion.data.schema import BadDemo, Demo, SetInfo
from apportion.data.video import VideoWriter, pixel_format
from apportion.run.files import write_json
from apportion.types import UserError

CHUNK = 1000  # files in a folder
DATA_BYTES, VIDEO_BYTES = 100 << 20, 200 << 20  # of a file of version 3.0; then the next one begins
VIDEO_SECONDS = 900  # and so it does here: LeRobot looks times up in float32 to within 1e-4 s, which fails beyond 1024
_PATHS = {
    "v2.1": (
        "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    ),
    "v3.0": (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    ),
}


def write_lerobot(
    demos: Iterable[Demo],
    info: SetInfo,
    path: Path,
    version: Literal["v2.1", "v3.0"] = "v3.0",
    fps: float | None = None,
    video: bool = True,
    lossless: bool = False,
) -> None:
    """Writes `demos` into the directory `path`, which must not exist; nothing is left there if anything fails.

    Cameras become H.264 videos, `lossless` ones where that is asked for, or with `video=False` PNG in the tables.
    LeRobot keeps T observations for T actions: one after the last action is dropped. `fps` defaults to the set's own.
    Raises UserError and BadDemo.
    """
    fps = fps or info.fps
    if not fps:
        raise UserError(f"{info.path} does not say how many frames a second were recorded: give it, as with --fps 20")
    if version not in _PATHS:
        raise UserError(f"LeRobot version {version!r} cannot be written: choose {' or '.join(_PATHS)}")
    with new_directory(path) as temporary:
        writer = _Writer(temporary, info, version, float(fps), video, lossless)
        try:
            for demo in demos:
                writer.add(demo)
        finally:
            writer.close_files()
        writer.write_meta(path)


class _Writer:
    """One data set being written: an open table, an open video per camera, and what `meta/` will say."""

    def __init__(self, root: Path, info: SetInfo, version: str, fps: float, video: bool, lossless: bool):
        self.root, self.info, self.version, self.fps = root, info, version, fps
        self.video, self.lossless = video, lossless
        self.features: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, int] = {}
        self.entries: list[dict[str, Any]] = []
        self.stats: list[Stats] = []
        self.frames = 0
        self._sink: Any = None  # of the open table
        self._table: Any = None
        self._videos: dict[str, VideoWriter] = {}
        self._files: dict[str, int] = {}  # data, or camera feature -> number of its file

    def add(self, demo: Demo) -> None:
        columns, images = _columns(demo), _images(demo)
        features = self._features(demo, columns, images)
        self.features = self.features or features
        for key in {**self.features, **features}:
            if features.get(key) != self.features.get(key):
                here, first = _told(features.get(key)), _told(self.features.get(key))
                hint = "; drop the episodes whose success is unknown" if key == "next.success" else ""
                raise BadDemo(f"{demo.where}: {key} is {here}, in the first episode {first}{hint}")
        number, steps = len(self.entries), demo.length
        task = self.tasks.setdefault(demo.language, len(self.tasks))
        frame = np.arange(steps)
        columns["timestamp"] = (frame / self.fps).astype(np.float32)
        columns["frame_index"], columns["index"] = frame, self.frames + frame
        columns["episode_index"], columns["task_index"] = np.full(steps, number), np.full(steps, task)
        entry: dict[str, Any] = {"episode_index": number, "tasks": [demo.language], "length": steps}
        entry |= {OURS + k: getattr(demo, k) for k in ("task", "success", "terminated", "truncated")}
        entry |= self._add_rows(columns, images)
        if self.video:
            for key, pixels in images.items():
                entry |= self._add_video(key, pixels)
        stats = {key: vector_stats(columns[key]) for key in self.features if key in columns}
        self.stats.append({key: image_stats(pixels) for key, pixels in images.items()} | stats)
        self.entries.append(entry)
        self.frames += steps

    def _features(
        self, demo: Demo, columns: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, Any]]:
        """`features` of info.json for this episode."""
        features: dict[str, dict[str, Any]] = {}
        for key, pixels in images.items():
            height, width = pixels.shape[1:3]
            camera = self.info.cameras.get(key.removeprefix("observation.images."))
            about: dict[str, Any] = {"orientation": camera.orientation if camera else "unknown"}
            if self.video:
                about |= {"video.height": height, "video.width": width, "video.codec": "h264"}
                about |= {"video.pix_fmt": pixel_format(height, width, self.lossless), "video.fps": _plain(self.fps)}
                about |= {"video.channels": 3, "video.is_depth_map": False, "has_audio": False}
            features[key] = {
                "dtype": "video" if self.video else "image",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                "info": about,
            }
        for key, values in columns.items():
            names = self.info.proprio.get(key.removeprefix("observation.")) if key.startswith("observation.") else None
            features[key] = {
                "dtype": values.dtype.name,
                "shape": list(values.shape[1:]) or [1],
                "names": list(names) if isinstance(names, tuple) and len(names) == values.shape[-1] else None,
            }
        for key in INDICES:
            features[key] = {"dtype": "float32" if key == "timestamp" else "int64", "shape": [1], "names": None}
        return features

    def _add_rows(self, columns: Mapping[str, np.ndarray], images: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Appends an episode to the open table, as one row group; what `meta/episodes` says of it."""
        pa = need("pyarrow", "LeRobot")

        if self._table is not None and (self.version == "v2.1" or self._sink.tell() >= DATA_BYTES):
            self._close_table()
        arrays = {key: _arrow(columns[key]) for key in self.features if key in columns}
        if not self.video:
            kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
            for key, frames in images.items():
                cells = [{"bytes": _png(f), "path": f"frame-{i:06d}.png"} for i, f in enumerate(frames)]
                arrays[key] = pa.array(cells, kind)
        table = pa.table(arrays).replace_schema_metadata({"huggingface": _hub_features(self.features)})
        if self._table is None:
            file = self._next("data", _PATHS[self.version][0])
            self._sink = file.open("wb")
            self._table = parquet_module().ParquetWriter(self._sink, table.schema)
        self._table.write_table(table, row_group_size=max(1, len(table)))
        if self.version == "v2.1":
            return {}
        chunk, number = divmod(self._files["data"], CHUNK)
        rows = {"dataset_from_index": self.frames, "dataset_to_index": self.frames + len(table)}
        return {"data/chunk_index": chunk, "data/file_index": number, **rows}

    def _add_video(self, key: str, pixels: np.ndarray) -> dict[str, Any]:
        """Appends an episode's frames to the camera's open video; what `meta/episodes` says of it."""
        video = self._videos.get(key)
        if video is not None and (
            self.version == "v2.1"
            or video.bytes >= VIDEO_BYTES
            or video.frames + len(pixels) > VIDEO_SECONDS * self.fps
        ):
            self._videos.pop(key).close()
        if key not in self._videos:
            file = self._next(key, _PATHS[self.version][1])
            self._videos[key] = VideoWriter(file, self.fps, *pixels.shape[1:3], lossless=self.lossless)
        video = self._videos[key]
        first = video.frames
        video.add(pixels)
        if self.version == "v2.1":
            return {}
        chunk, number = divmod(self._files[key], CHUNK)
        where = {"chunk_index": chunk, "file_index": number}
        times = {"from_timestamp": first / self.fps, "to_timestamp": video.frames / self.fps}
        return {f"videos/{key}/{name}": value for name, value in {**where, **times}.items()}

    def _next(self, key: str, template: str) -> Path:
        """The file after the last one of `key`, its folder made."""
        self._files[key] = self._files.get(key, -1) + 1
        chunk, number = divmod(self._files[key], CHUNK)
        if self.version == "v2.1":
            path = template.format(episode_chunk=chunk, episode_index=self._files[key], video_key=key)
        else:
            path = template.format(chunk_index=chunk, file_index=number, video_key=key)
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        return self.root / path

    def _close_table(self) -> None:
        if self._table is not None:
            self._table.close()
            self._sink.close()
        self._table = self._sink = None

    def close_files(self) -> None:
        self._close_table()
        for key in list(self._videos):
            self._videos.pop(key).close()

    def write_meta(self, path: Path) -> None:
        """`meta/`, after the last episode."""
        if not self.entries:
            raise UserError(f"{path}: there is no episode to write")
        meta = self.root / "meta"
        meta.mkdir()
        about: dict[str, Any] = {"codebase_version": self.version, "robot_type": None}
        about |= {"total_episodes": len(self.entries), "total_frames": self.frames, "total_tasks": len(self.tasks)}
        if self.version == "v2.1":
            videos = len(self.entries) * sum(f["dtype"] == "video" for f in self.features.values())
            about |= {"total_videos": videos, "total_chunks": -(-len(self.entries) // CHUNK), "chunks_size": CHUNK}
            self._write_lines(meta)
        else:
            about |= {"chunks_size": CHUNK, "data_files_size_in_mb": 100, "video_files_size_in_mb": 200}
            self._write_tables(meta)
        data_path, video_path = _PATHS[self.version]
        about |= {"fps": _plain(self.fps), "splits": {"train": f"0:{len(self.entries)}"}, "data_path": data_path}
        filmed = any(feature["dtype"] == "video" for feature in self.features.values())
        about |= {"video_path": video_path if filmed else None, "features": self.features}
        write_json(meta / "info.json", about)

    def _write_lines(self, meta: Path) -> None:
        """Version 2.1: lines of JSON."""
        stats = [{"episode_index": i, "stats": as_lists(s)} for i, s in enumerate(self.stats)]
        tasks = [{"task_index": i, "task": task} for task, i in self.tasks.items()]
        for name, lines in {"tasks": tasks, "episodes": self.entries, "episodes_stats": stats}.items():
            text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
            (meta / f"{name}.jsonl").write_text(text, encoding="utf-8")

    def _write_tables(self, meta: Path) -> None:
        """Version 3.0: tables, with each episode's statistics beside it, and those of the whole set."""
        import pyarrow as pa

        rows: list[dict[str, Any]] = []
        for entry, stats in zip(self.entries, self.stats, strict=True):
            flat = {f"stats/{key}/{k}": v for key, of in as_lists(stats).items() for k, v in of.items()}
            rows.append({**entry, "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0, **flat})
        flags = {OURS + name for name in ("success", "terminated", "truncated")}  # of None alone would have no type
        columns = {k: pa.array([row[k] for row in rows], pa.bool_() if k in flags else None) for k in rows[0]}
        folder = meta / "episodes" / "chunk-000"
        folder.mkdir(parents=True)
        parquet_module().write_table(pa.table(columns), folder / "file-000.parquet")
        parquet_module().write_table(_task_table(self.tasks), meta / "tasks.parquet")
        write_json(meta / "stats.json", as_lists(merged(self.stats)))


def _columns(demo: Demo) -> dict[str, np.ndarray]:
    """Feature -> (T, ...) of everything but pictures and indices."""
    where, steps = demo.where, demo.length
    last = np.arange(steps) == steps - 1
    columns = {f"observation.{name}": values[:steps] for name, values in demo.proprio.items()}
    columns["action"] = demo.action
    columns |= {"next.reward": demo.reward, "next.done": last}
    if demo.success is not None:
        columns["next.success"] = last & demo.success
    for name, values in demo.extra.items():
        if name in columns or name in INDICES:
            raise BadDemo(f"{where}: an extra column cannot be called {name} in a LeRobot data set")
        columns[name] = values
    for name in columns:
        if "/" in name:
            raise BadDemo(f"{where}: LeRobot allows no / in a name: {name}")
    return columns


def _images(demo: Demo) -> dict[str, np.ndarray]:
    """Feature -> (T, h, w, 3)."""
    for name, pixels in demo.images.items():
        if len(pixels) < demo.length:
            raise BadDemo(f"{demo.where}: {len(pixels)} frames of camera {name} for {demo.length} steps")
    return {f"observation.images.{name}": pixels[: demo.length] for name, pixels in demo.images.items()}


def _told(feature: Mapping[str, Any] | None) -> str:
    return "missing" if feature is None else f"{feature['dtype']} {feature['shape']}"


def _plain(number: float) -> int | float:
    return int(number) if float(number).is_integer() else number


def _png(frame: np.ndarray) -> bytes:
    out = io.BytesIO()
    need("PIL.Image", "writing images").fromarray(frame).save(out, "PNG")
    return out.getvalue()


def _arrow(values: np.ndarray) -> Any:
    """(T,) as numbers, (T, d) as lists of d, more dimensions as lists of lists; a width of 1 as plain numbers."""
    import pyarrow as pa

    values = values[:, 0] if values.shape[1:] == (1,) else values
    array = pa.array(np.ascontiguousarray(values).reshape(-1))
    for size in reversed(values.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, size)
    return array


def _hub_features(features: Mapping[str, Mapping[str, Any]]) -> str:
    """The note by which Hugging Face's `datasets` knows pictures in a table from other bytes."""
    about: dict[str, Any] = {}
    for key, feature in features.items():
        value: dict[str, Any] = {"dtype": feature["dtype"], "_type": "Value"}
        shape = feature["shape"]
        if feature["dtype"] == "image":
            about[key] = {"_type": "Image"}
        elif feature["dtype"] != "video":
            for size in reversed([] if shape == [1] else shape):
                value = {"feature": value, "length": size, "_type": "Sequence"}
            about[key] = value
    return json.dumps({"info": {"features": about}})


def _task_table(tasks: Mapping[str, int]) -> Any:
    """task_index, with the instruction as what pandas calls the index: so LeRobot looks it up."""
    import pyarrow as pa

    text = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    number = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    head = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object"}
    about = {
        "index_columns": ["task"],
        "column_indexes": [{**head, "metadata": {"encoding": "UTF-8"}}],
        "columns": [{**number, "metadata": None}, text],
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(tasks.values(), pa.int64()), "task": pa.array(tasks.keys(), pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(about)})
