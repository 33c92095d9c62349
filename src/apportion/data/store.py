"""Episodes as flat columns on disk, memory-mapped: any step of any episode is one gather, whatever fits in RAM.

STORE/ holds `<column>.bin` (raw rows, little-endian, one episode after the other, O rows each), `episodes.json` and,
written last, `store.json`. Columns: image.CAMERA (h, w, 3) uint8; proprio.NAME (d,) float32; action (a,) float32;
reward () float32; extra.NAME. Where an episode has T + 1 observations the last row of action, reward and extra is 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from apportion.config import from_json, to_json
from apportion.data.new_place import new_directory
from apportion.data.schema import BadDemo, Camera, Demo, Frames, SetInfo, Source, checked, end_rows
from apportion.data.store_files import DTYPES, VERSION, check_info, damaged, read_columns, read_json, read_table
from apportion.run.files import full_disk, write_json
from apportion.types import UserError

_NAME = re.compile(r"[\w.-]+")


class StoreWriter:
    """Writes a store into a directory that must not exist: `with StoreWriter(path, info) as out: out.add(demo)`.

    It grows under another name and takes its own only when the block ends well; otherwise nothing is left.
    """

    def __init__(self, path: Path, info: SetInfo):
        self.path, self.info = path, info
        self._files: dict[str, Any] = {}
        self._columns: dict[str, dict[str, Any]] = {}
        self._episodes: list[dict[str, Any]] = []
        self._rows = 0
        self._stack = ExitStack()

    def __enter__(self) -> StoreWriter:
        self._temporary = self._stack.enter_context(new_directory(self.path))
        return self

    def add(self, demo: Demo) -> None:
        """Appends one episode. Raises BadDemo if its columns are not those of the first one."""
        rows = len(next(iter({**demo.images, **demo.proprio}.values()), demo.action))
        columns: dict[str, np.ndarray] = {f"image.{k}": v for k, v in demo.images.items()}
        columns |= {f"proprio.{k}": v for k, v in demo.proprio.items()}
        steps = {"action": demo.action, "reward": demo.reward} | {f"extra.{k}": v for k, v in demo.extra.items()}
        for name, values in steps.items():
            columns[name] = np.zeros((rows, *values.shape[1:]), values.dtype)
            columns[name][: len(values)] = values
        self._check_columns(demo, columns)
        with full_disk(self.path, "nothing was kept"):
            for name, values in columns.items():
                # not ndarray.tofile: on a full disk its error does not say what is wrong
                self._files[name].write(np.ascontiguousarray(values).reshape(-1).view(np.uint8))
        self._episodes.append(
            {
                "rows": rows,
                "length": demo.length,
                "terminated": demo.terminated,
                "truncated": demo.truncated,
                "success": demo.success,
                "language": demo.language,
                "task": demo.task,
                "source": [demo.source.path, demo.source.index, demo.source.name],
            }
        )
        self._rows += rows

    def _check_columns(self, demo: Demo, columns: Mapping[str, np.ndarray]) -> None:
        shapes = {name: {"dtype": x.dtype.name, "shape": list(x.shape[1:])} for name, x in columns.items()}
        if not self._episodes:
            for name, column in shapes.items():
                if not _NAME.fullmatch(name) or column["dtype"] not in DTYPES:
                    raise BadDemo(f"{demo.source.path}: a store cannot hold a column {name!r} of {column['dtype']}")
                self._files[name] = self._stack.enter_context((self._temporary / f"{name}.bin").open("wb"))
            self._columns = shapes
        for name in shapes.keys() | self._columns.keys():
            here, first = shapes.get(name), self._columns.get(name)
            if here != first:
                told = f"is {here or 'missing'}, in the first it is {first or 'missing'}"
                raise BadDemo(f"{demo.where}: column {name} {told}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack.pop_all() as stack:
            if error is None:
                self._finish()
            else:
                stack.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if not self._episodes:
            raise UserError(f"{self.path}: there is no episode to write")
        write_json(self._temporary / "episodes.json", self._episodes)
        about = {"version": VERSION, "rows": self._rows, "columns": self._columns}
        write_json(self._temporary / "store.json", {**about, "info": _info_json(self.info)})


class DemoStore:
    """A store opened for reading: a `DemoSet`, and columns to gather from.

    `start`, `rows`, `length` (episodes,) int64: first row, O and T of each episode; `transitions` O - 1: the steps
    whose next observation exists. Raises UserError for what is no whole store.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        about = read_json(self.path / "store.json", dict)
        self.table = read_table(self.path / "episodes.json")
        self.rows = np.array([entry["rows"] for entry in self.table], np.int64)
        self.length = np.array([entry["length"] for entry in self.table], np.int64)
        columns = read_columns(self.path / "store.json", about, int(self.rows.sum()))
        try:
            self._info = _info_from(about["info"], self.path)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise damaged(self.path / "store.json", f"its info is not as it was written ({error!r})") from error
        check_info(self.path / "store.json", self._info, columns)
        self.start = np.concatenate([[0], np.cumsum(self.rows)[:-1]])
        self.columns = {name: self.map(name, dtype, shape) for name, (dtype, shape) in columns.items()}

    def map(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """The rows of `<name>.bin`, read-only, without loading them."""
        file, rows = self.path / f"{name}.bin", int(self.rows.sum())
        if not _NAME.fullmatch(name) or dtype.name not in DTYPES:
            raise UserError(f"{self.path}: column {name!r} of {dtype} is not allowed")
        need = rows * dtype.itemsize * math.prod(shape)
        if not file.is_file() or file.stat().st_size != need:
            size = file.stat().st_size if file.is_file() else "no"
            raise UserError(f"{file} has {size} bytes instead of {need}: convert the data again")
        return np.memmap(file, dtype, "r", shape=(rows, *shape)) if need else np.zeros((rows, *shape), dtype)

    @property
    def info(self) -> SetInfo:
        return self._info

    @property
    def transitions(self) -> np.ndarray:
        return self.rows - 1

    def __len__(self) -> int:
        return len(self.table)

    def read(self, index: int, frames: Frames = "all") -> Demo:
        entry, low, steps = self.table[index], int(self.start[index]), int(self.length[index])
        rows = int(self.rows[index])
        picked = {"all": slice(low, low + rows), "ends": [low + i for i in end_rows(rows)]}

        def group(prefix: str, pick: Any) -> dict[str, np.ndarray]:
            return {k.removeprefix(prefix): np.array(v[pick]) for k, v in self.columns.items() if k.startswith(prefix)}

        demo = Demo(
            images={} if frames == "none" else group("image.", picked[frames]),
            proprio=group("proprio.", slice(low, low + rows)),
            action=np.array(self.columns["action"][low : low + steps]),
            reward=np.array(self.columns["reward"][low : low + steps]),
            extra=group("extra.", slice(low, low + steps)),
            source=Source(*entry["source"]),
            **{k: entry[k] for k in ("terminated", "truncated", "success", "language", "task")},
        )
        return checked(demo, frames)

    def close(self) -> None:
        self.columns = {}


def _info_json(info: SetInfo) -> dict[str, Any]:
    cameras = {name: to_json(camera) for name, camera in info.cameras.items()}
    return {**to_json(replace(info, cameras={}, proprio={})), "cameras": cameras, "proprio": info.proprio}


def _info_from(data: dict[str, Any], path: Path) -> SetInfo:
    cameras = {name: from_json(Camera, c) for name, c in data["cameras"].items()}
    proprio = {k: v if isinstance(v, int) else tuple(map(str, v)) for k, v in data["proprio"].items()}
    return SetInfo(
        name=str(data["name"]),
        format="store",
        path=str(path),
        cameras=cameras,
        proprio=proprio,
        action=int(data["action"]),
        fps=data["fps"],
        obs_timing="before",
    )
