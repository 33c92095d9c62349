"""The two JSON files of a store, read and looked through: what a store says of itself must be so before it is used."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.schema import SetInfo
from apportion.types import UserError

VERSION = 1
DTYPES = ("uint8", "int16", "int32", "int64", "float16", "float32", "float64", "bool")
_TEXTS, _FLAGS = ("language", "task"), ("terminated", "truncated")


def read_json(file: Path, kind: type) -> Any:
    """A dictionary or list. Raises UserError for what is none."""
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}): no whole store: convert the data again") from error
    except ValueError as error:
        raise damaged(file, f"it is no JSON ({error})") from error
    if not isinstance(found, kind):
        raise damaged(file, f"it holds a {type(found).__name__}, not a {kind.__name__}")
    return found


def damaged(file: Path, why: str) -> UserError:
    """The line about a file of a store that is not as it was written."""
    return UserError(f"{file}: {why}: the store is damaged, convert the data again")


def read_table(file: Path) -> list[dict[str, Any]]:
    """episodes.json: an entry for each episode, as `StoreWriter.add` writes them. Raises UserError."""
    table: list[dict[str, Any]] = read_json(file, list)
    if not table:
        raise damaged(file, "it lists no episode")
    for number, entry in enumerate(table):
        wrong = next(_wrong(entry), None) if isinstance(entry, dict) else f"is a {type(entry).__name__}"
        if wrong:
            raise damaged(file, f"episode {number} {wrong}")
    return table


def _wrong(entry: dict[str, Any]) -> Iterator[str]:
    """What is wrong with one episode's entry, in words."""
    needed = ("rows", "length", *_FLAGS, "success", *_TEXTS, "source")
    yield from (f"has no {name}" for name in needed if name not in entry)
    rows, length = entry["rows"], entry["length"]
    if not (_whole(length) and length >= 1 and _whole(rows) and rows in (length, length + 1)):
        yield f"has length {length!r} and rows {rows!r}: a number of steps, and as many or one more"
    yield from (f"has {name} {entry[name]!r}, no text" for name in _TEXTS if not isinstance(entry[name], str))
    yield from (f"has {name} {entry[name]!r}, no true or false" for name in _FLAGS if not isinstance(entry[name], bool))
    if not isinstance(entry["success"], bool | None):
        yield f"has success {entry['success']!r}: true, false or null"
    match entry["source"]:
        case [str(), int(), str()]:
            pass
        case other:
            yield f"has source {other!r}: path, number and name"


def read_columns(file: Path, about: dict[str, Any], rows: int) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Column -> type and shape of a row, of the content `about` of store.json. `rows`: of all episodes. UserError."""
    if about.get("version") != VERSION:
        raise UserError(f"{file} is of a store of version {about.get('version')}, this release reads {VERSION}")
    if about.get("rows") != rows:
        raise damaged(file, f"it speaks of {about.get('rows')} rows, and episodes.json of {rows}")
    if not isinstance(about.get("columns"), dict):
        raise damaged(file, "it has no columns")
    columns = {name: _column(file, name, column) for name, column in about["columns"].items()}
    for name, dimensions in (("action", 1), ("reward", 0)):
        if name not in columns or len(columns[name][1]) != dimensions:
            raise damaged(file, f"it has no column {name} of {dimensions} dimension(s) a step")
    return columns


def check_info(file: Path, info: SetInfo, columns: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> None:
    """Raises UserError where cameras, low-dimensional observations or actions are not those of the columns."""
    shapes = {name: shape for name, (_, shape) in columns.items()}
    told = {f"image.{name}": (camera.height, camera.width, 3) for name, camera in info.cameras.items()}
    told |= {f"proprio.{name}": (x if isinstance(x, int) else len(x),) for name, x in info.proprio.items()}
    told["action"] = (info.action,)
    for name, shape in told.items():
        if shapes.get(name) != shape:
            raise damaged(file, f"column {name} is said to have rows of {shape}, and has {shapes.get(name)}")


def _column(file: Path, name: str, column: Any) -> tuple[np.dtype, tuple[int, ...]]:
    match column:
        case {"dtype": str() as dtype, "shape": list() as shape} if dtype in DTYPES and all(
            _whole(n) and n >= 0 for n in shape
        ):
            return np.dtype(dtype), tuple(shape)
    raise damaged(file, f"column {name!r} of {column!r} is not allowed: a dtype ({', '.join(DTYPES)}) and a shape")


def _whole(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)
