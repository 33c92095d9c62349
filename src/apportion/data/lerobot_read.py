"""LeRobot data sets (v2.0, v2.1, v3.0) as episodes: parquet tables, with MP4 videos or images inside the tables.

A LeRobot set holds as many observations as actions: o'_T is not there. It says at most that an episode is done
(`next.done`) and whether it succeeded (`next.success`); where it does not, `success` is None and the return has to be
derived. What our own writer notes of an episode besides is read back.
"""

from __future__ import annotations

import io
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data import lerobot_meta as meta_files
from apportion.data.lerobot_meta import OURS, Meta, inside, parquet_module, read_meta
from apportion.data.optional import need
from apportion.data.schema import BadDemo, Camera, Demo, Frames, SetInfo, Source, checked, end_rows
from apportion.data.video import one_line, read_frames
from apportion.types import UserError

_SIGNALS = ("next.reward", "next.done", "next.success")
_EXTRA = ("uint8", "int16", "int32", "int64", "float16", "float32", "float64", "bool")  # what a store can hold


class LeRobotSet:
    """A LeRobot data set on disk, a `DemoSet` with random access. Raises UserError for what is none."""

    def __init__(self, path: Path | str):
        root = Path(path)
        self.meta: Meta = read_meta(root)
        features = self.meta.features
        action = next((key for key in meta_files.ACTIONS if key in features), None)
        if action is None:
            raise UserError(f"{root}/meta/info.json: no feature is called action, there are {', '.join(features)}")
        self._action = action
        self._cameras: dict[str, tuple[str, Camera]] = meta_files.cameras(self.meta)
        self._proprio: dict[str, str] = meta_files.proprio(self.meta)
        taken = {action, *_SIGNALS, *meta_files.INDICES, *self._proprio.values()}
        self._extra = [key for key, f in features.items() if key not in taken and meta_files.numeric(f)]
        self._numbers = [key for key in features if key in {*taken, *self._extra}]
        self._open: _Rows | None = None
        for entry in self.meta.episodes[:1]:  # are the paths allowed? before anything is read from them
            self.meta.data_file(entry)
            for key, _ in self._cameras.values():
                if features[key]["dtype"] == "video":
                    self.meta.video_file(entry, key)
        self._info = SetInfo(
            name=root.absolute().name,
            format="lerobot",
            path=str(root),
            cameras={name: camera for name, (_, camera) in self._cameras.items()},
            proprio={name: meta_files.entry_names(features[key]) for name, key in self._proprio.items()},
            action=prod(features[action]["shape"]),
            fps=self.meta.fps,
        )

    @property
    def info(self) -> SetInfo:
        return self._info

    def __len__(self) -> int:
        return len(self.meta.episodes)

    def read(self, index: int, frames: Frames = "all") -> Demo:
        entry = self.meta.episodes[index]
        number, file = entry["episode_index"], self.meta.data_file(entry)
        name = str(file.relative_to(self.meta.root))
        where = f"{file}, episode {number}"
        rows = self._rows(file, where)
        low, high = rows.find(number, entry["length"], where)
        table = rows.read(self._numbers, low, high, where)
        columns = {key: _numbers(table[key], self.meta.features[key], f"{where}: {key}") for key in table.column_names}
        steps = high - low
        task = self._task(columns, where)
        done = bool(columns["next.done"][-1]) if "next.done" in columns else None
        success = bool(columns["next.success"][-1] > 0) if "next.success" in columns else None
        success = entry.get(OURS + "success", success)
        terminated = bool(entry.get(OURS + "terminated", success is True if done is None else done))
        zeros = np.zeros(steps, np.float32)
        demo = Demo(
            images={} if frames == "none" else self._images(entry, rows, (low, high), columns, frames),
            proprio={k: columns[key].reshape(steps, -1).astype(np.float32) for k, key in self._proprio.items()},
            action=columns[self._action].reshape(steps, -1).astype(np.float32),
            reward=columns["next.reward"].astype(np.float32) if "next.reward" in columns else zeros,
            terminated=terminated,
            truncated=bool(entry.get(OURS + "truncated", not terminated)),
            success=success,
            language=task,
            task=str(entry.get(OURS + "task") or task),
            source=Source(name, number),
            extra={key: _storable(columns[key]) for key in self._extra},
        )
        return checked(demo, frames)

    def _task(self, columns: dict[str, np.ndarray], where: str) -> str:
        if "task_index" not in columns:
            return ""
        index = int(columns["task_index"][0])
        if index not in self.meta.tasks:
            raise BadDemo(f"{where}, step 0: task_index {index} is not among the {len(self.meta.tasks)} tasks of meta/")
        return self.meta.tasks[index]

    def _images(
        self, entry: dict[str, Any], rows: _Rows, span: tuple[int, int], columns: dict[str, np.ndarray], frames: Frames
    ) -> dict[str, np.ndarray]:
        """Camera -> (n, h, w, 3): all frames of the episode, or its first, middle and last."""
        steps = span[1] - span[0]
        picked = list(range(steps)) if frames == "all" else end_rows(steps)
        times = columns.get("timestamp", np.arange(steps) / self.meta.fps).astype(np.float64)
        where = f"{rows.file}, episode {entry['episode_index']}"
        pictures = [key for key, _ in self._cameras.values() if self.meta.features[key]["dtype"] == "image"]
        table = rows.read(pictures, *span, where) if pictures else None
        images: dict[str, np.ndarray] = {}
        for name, (key, camera) in self._cameras.items():
            size = (camera.height, camera.width)
            if table is not None and key in pictures:
                images[name] = _decoded(table[key], picked, size, self.meta.root, f"{where}: {key}")
                continue
            start = self.meta.start(entry, key)
            unique = sorted(set(picked))  # an episode of one or two steps has fewer than three of them
            file = self.meta.video_file(entry, key)
            found = read_frames(file, [start + times[i] for i in unique], self.meta.fps, size, where, frames == "ends")
            images[name] = found if unique == picked else found[[unique.index(i) for i in picked]]
        return images

    def _rows(self, file: Path, where: str) -> _Rows:
        if self._open is None or self._open.file != file:
            self.close()
            self._open = _Rows(file, where)
        return self._open

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None


class _Rows:
    """One open table. Keeps the row groups that it read last: a file may hold many episodes in one of them."""

    def __init__(self, file: Path, where: str):
        if not file.is_file():
            raise BadDemo(f"{where}: the file is missing; download the data set again")
        self.file = file
        self._kept: dict[tuple[str, ...], tuple[tuple[int, int], Any]] = {}
        with whole_table(where):
            self._reader = parquet_module().ParquetFile(file)
            about = self._reader.metadata
            self._starts = [0, *accumulate(about.row_group(i).num_rows for i in range(about.num_row_groups))]
            self._episodes = self._reader.read(columns=["episode_index"])["episode_index"].to_numpy()

    def find(self, number: int, length: int, where: str) -> tuple[int, int]:
        """First row of episode `number`, and the row after its last. By its own column, not by recorded offsets."""
        found = np.flatnonzero(self._episodes == number)
        if not len(found):
            raise BadDemo(f"{where}: no row has this episode_index")
        low, high = int(found[0]), int(found[-1]) + 1
        if high - low != len(found) or len(found) != length:
            raise BadDemo(f"{where}: it has {len(found)} rows in {low}..{high - 1}, meta/ says {length}")
        return low, high

    def read(self, columns: list[str], low: int, high: int, where: str) -> Any:
        """Those columns of rows `low` to `high`, as a table."""
        groups = (bisect_right(self._starts, low) - 1, bisect_left(self._starts, high))
        key = tuple(columns)
        if key not in self._kept or self._kept[key][0] != groups:
            with whole_table(where):
                table = self._reader.read_row_groups(list(range(*groups)), columns=columns)
            missing = [name for name in columns if name not in table.column_names]
            if missing:
                raise BadDemo(f"{where}: column {missing[0]} is missing, meta/info.json promises it")
            self._kept[key] = (groups, table.select(columns))
        return self._kept[key][1].slice(low - self._starts[groups[0]], high - low)

    def close(self) -> None:
        self._reader.close()


@contextmanager
def whole_table(where: str) -> Iterator[None]:
    """Turns what pyarrow raises over a damaged file into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:  # pyarrow's errors are of these kinds
        raise BadDemo(f"{where}: the table is damaged ({one_line(error)}); download it again") from error


def _numbers(column: Any, feature: dict[str, Any], where: str) -> np.ndarray:
    """(T, *shape) of a column of numbers or of lists of numbers; a shape of (1,) is a plain number: (T,)."""
    import pyarrow as pa

    compute = need("pyarrow.compute", "LeRobot's format")
    shape, rows = feature["shape"], len(column)
    shape = () if shape == (1,) else shape
    values = pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)
    values = values.storage if isinstance(values, pa.ExtensionArray) else values
    for size in (*shape, None):
        if values.null_count:
            missing = int(np.argmax(values.is_null().to_numpy(zero_copy_only=False)))
            raise BadDemo(f"{where} has no value in step {missing * rows // len(values)}")
        if size is None or not _is_list(values.type):
            break
        lengths = compute.list_value_length(values).unique().to_pylist()
        if lengths != [size]:
            raise BadDemo(f"{where} has {lengths} entries, meta/info.json says {list(shape)}")
        values = values.flatten()
    numbers = pa.types.is_floating(values.type) or pa.types.is_integer(values.type) or pa.types.is_boolean(values.type)
    if not numbers or len(values) != rows * prod(shape):
        raise BadDemo(f"{where} is of {column.type}, meta/info.json says {feature['dtype']} {list(feature['shape'])}")
    return values.to_numpy(zero_copy_only=False).reshape(rows, *shape)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _storable(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.name in _EXTRA else values.astype(np.int64)


def _decoded(column: Any, rows: list[int], size: tuple[int, int], root: Path, where: str) -> np.ndarray:
    """(n, h, w, 3) of images that the table holds as {bytes, path}: the file's content, or where it lies."""
    Image = need("PIL.Image", "reading images")
    frames: list[np.ndarray] = []
    for row in rows:
        cell = column[row].as_py()
        if not isinstance(cell, dict) or not (cell.get("bytes") or cell.get("path")):
            raise BadDemo(f"{where}, step {row}: there is no image")
        try:
            data = cell.get("bytes") or inside(root, cell["path"]).read_bytes()
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
                if (picture.height, picture.width) != size:  # before its pixels are decoded
                    found = f"{picture.height} x {picture.width}"
                    raise BadDemo(f"{where}, step {row}: {found} pixels, meta/info.json says {size[0]} x {size[1]}")
                frames.append(np.asarray(picture.convert("RGB")))
        except (OSError, ValueError, SyntaxError) as error:
            raise BadDemo(f"{where}, step {row}: the image is damaged ({one_line(error)})") from error
    return np.stack(frames)
