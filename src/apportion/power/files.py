"""Arrays and compiled worlds on disk, each file replaced in one step, so that a crash leaves the old one or the new."""

from __future__ import annotations

import json
import zipfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from apportion.power.compiled import Compiled
from apportion.run.files import replacing
from apportion.types import UserError

_ARRAYS = ("states", "level_start", "indptr", "indices", "probs", "terminal", "attained", "goal_weights")


def save_array(path: Path, array: np.ndarray) -> None:
    """`array` as .npy, on the disk when this returns. Raises UserError, one line, on a full disk."""

    rows = np.ascontiguousarray(array)
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(rows))
        file.write(rows.data)  # not ndarray.tofile, which hides why a write failed


def load_array(path: Path) -> np.ndarray:
    """The array in `path`, mapped, not read. Raises UserError if the file is damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it, then solve again") from None


def save_compiled(path: Path, compiled: Compiled) -> None:
    """A compiled world as one .npz without compression."""
    rest = {f.name: getattr(compiled, f.name) for f in fields(compiled) if f.name not in _ARRAYS}
    about = np.frombuffer(json.dumps(rest).encode(), np.uint8)
    arrays = {name: getattr(compiled, name) for name in _ARRAYS}
    with replacing(path) as file:
        np.savez(file, about=about, **arrays)


def load_compiled(path: Path) -> Compiled:
    """What `save_compiled` wrote. Raises UserError if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            rest = json.loads(file["about"].tobytes())
            arrays = {name: file[name] for name in _ARRAYS}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: this is no folder of apportion power solve") from None
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is damaged ({error}): solve again") from None
    tuples: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in rest.items()}
    return Compiled(**arrays, **tuples)


def params_json(params: object) -> dict:
    """A dataclass of numbers as JSON data; infinity as the word "inf", which JSON has no number for."""
    return {k: "inf" if v == float("inf") else v for k, v in asdict(params).items()}  # type: ignore[call-overload]
