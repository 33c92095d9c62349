"""One more step feature in an RLDS set on disk: records are extended, what was in them stays as it is, to the byte."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.schema import Source
from apportion.data.tfrecord import fields, message, nested, read_record, record_offsets, write_record
from apportion.run.files import write_json
from apportion.types import UserError


def add_rlds_column(
    folder: Path, name: str, files: Mapping[str, Sequence[tuple[Source, np.ndarray]]], about: str
) -> list[str]:
    """Adds the step feature `name` in place. `files`: shard -> the columns (T,) of its records, in their order."""
    infos = [folder / "dataset_info.json", *folder.glob("*/dataset_info.json")]
    folder = next(path.parent for path in infos if path.is_file())
    tree: dict[str, Any] = json.loads((folder / "features.json").read_bytes())
    steps = tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"]
    if name in steps:
        raise UserError(f"the set has a step feature {name} already: give another --name")
    steps[name] = {
        "pythonClassName": "tensorflow_datasets.core.features.scalar.Scalar",
        "tensor": {"shape": {}, "dtype": "float32", "encoding": "none"},
        "description": about,
    }
    sizes: dict[str, int] = {}
    for path, episodes in files.items():
        grown = folder / f"{path}.tmp"
        with grown.open("wb") as file:
            for (start, length), (_, column) in zip(record_offsets(folder / path)[0], episodes, strict=True):
                record = with_floats(read_record(folder / path, start, length), f"steps/{name}", column)
                sizes[path] = sizes.get(path, 0) + len(record)
                write_record(file, record)
        grown.replace(folder / path)
    _note_sizes(folder / "dataset_info.json", sizes)
    write_json(folder / "features.json", tree)
    return [f"step feature {name}, in {len(sizes)} shard(s)"]


def with_floats(record: bytes, key: str, values: np.ndarray) -> bytes:
    """A tf.train.Example with one more list of floats.

    Its features are one message, and protocol buffers of the same field, one after the other, are merged by every
    reader: yet only the whole message is written here, for some readers take the first alone.
    """
    features = b""
    for number, body in fields(memoryview(record)):
        if number != 1:  # the only one that an Example has
            raise UserError(f"a record holds a field {number}, and an Example has only features: convert it first")
        features += nested(body)
    floats = message(2, message(1, np.asarray(values, "<f4").tobytes()))
    return message(1, features + message(1, message(1, key.encode()) + message(2, floats)))


def _note_sizes(file: Path, sizes: dict[str, int]) -> None:
    """numBytes of each split is the sum of its records: TFDS plans its reading by it."""
    info: dict[str, Any] = json.loads(file.read_bytes())
    for split in info["splits"]:
        of_split = [size for path, size in sizes.items() if len(info["splits"]) == 1 or f"-{split['name']}." in path]
        split["numBytes"] = str(sum(of_split))
    write_json(file, info)
