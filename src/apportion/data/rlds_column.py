"""One more step feature in an RLDS set on disk: records are extended, what was in them stays as it is, to the byte."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.rlds_meta import read_shards
from apportion.data.schema import Source
from apportion.data.tfrecord import fields, message, nested, read_record, record_offsets, write_record
from apportion.run.files import write_json
from apportion.types import UserError


def add_rlds_column(
    folder: Path, name: str, files: Mapping[str, Sequence[tuple[Source, np.ndarray]]], about: str
) -> list[str]:
    """Adds the step feature `name` in place. `files`: shard -> the columns (T,) of its records, by their numbers.

    TFDS wants every feature in every record: a record without a column is left out.
    """
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
    sizes: dict[str, list[int]] = {}  # shard -> bytes of its records
    shards = read_shards(folder, None)[2]
    for shard, _ in shards:
        columns = {source.index: column for source, column in files.get(shard.name, ())}
        grown, sizes[shard.name] = shard.with_name(f"{shard.name}.tmp"), []
        with grown.open("wb") as file:
            for number, (start, length) in enumerate(record_offsets(shard)[0]):
                if number in columns:
                    record = with_floats(read_record(shard, start, length), f"steps/{name}", columns[number])
                    sizes[shard.name].append(len(record))
                    write_record(file, record)
        grown.replace(shard)
    _note_sizes(folder, sizes)
    write_json(folder / "features.json", tree)
    return [f"step feature {name}, in {len(shards)} shard(s)"]


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


def _note_sizes(folder: Path, sizes: dict[str, list[int]]) -> None:
    """Of each split: numBytes, the sum of its records, by which TFDS plans its reading, and records per shard."""
    info: dict[str, Any] = json.loads((folder / "dataset_info.json").read_bytes())
    for split in info["splits"]:
        of_split = [sizes[shard.name] for shard, _ in read_shards(folder, split["name"])[2]]
        split["numBytes"] = str(sum(map(sum, of_split)))
        if split.get("shardLengths"):
            split["shardLengths"] = [str(len(records)) for records in of_split]
    write_json(folder / "dataset_info.json", info)
