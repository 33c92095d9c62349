"""What the two JSON files of a TFDS folder say: features.json the fields of a record, dataset_info.json the shards."""

from __future__ import annotations

import json
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apportion.data.tfrecord import Values
from apportion.types import UserError

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_PLAIN = re.compile(r"[\w.+-]+")  # names from the JSON become file names: no separators
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_WIDEST = 8192  # entries; what is wider is no low-dimensional column


@dataclass(frozen=True)
class Leaf:
    """One field of a record: under steps/ it has one entry per step."""

    path: tuple[str, ...]
    kind: Literal["image", "tensor", "text", "other"]
    dtype: str = ""
    shape: tuple[int, ...] = ()  # of one entry; -1 where features.json leaves it open
    encoding: str = ""  # of a tensor's numbers: "", "bytes" or "zlib"
    description: str = ""

    @property
    def key(self) -> str:
        return "/".join(self.path)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def is_camera(self) -> bool:
        return self.kind == "image" and self.dtype == "uint8" and len(self.shape) == 3 and self.shape[2] == 3

    @property
    def is_vector(self) -> bool:
        return self.kind == "tensor" and len(self.shape) <= 1 and 0 < self.size <= _WIDEST

    def numbers(self, values: Values) -> np.ndarray:
        """All entries, flat, in the field's own type. Raises ValueError or TypeError where they are none."""
        if isinstance(values, np.ndarray):
            return values.astype(self.dtype)
        if not self.encoding:
            raise ValueError(f"bytes instead of {self.dtype}")
        try:
            raw = b"".join(zlib.decompress(x) if self.encoding == "zlib" else x for x in values)
        except zlib.error as error:
            raise ValueError(str(error)) from error
        return np.frombuffer(raw, np.dtype(self.dtype).newbyteorder("<")).astype(self.dtype)


def version_folder(path: Path) -> Path:
    """The folder with dataset_info.json: `path`, or its only version. Raises UserError with what to give instead."""
    if not path.exists():
        raise UserError(f"{path} does not exist")
    if not path.is_dir():
        raise UserError(f"{path} is a file: give the folder that holds dataset_info.json, {path.resolve().parent}")
    if (path / "dataset_info.json").is_file():
        return path
    versions = sorted(p for p in path.iterdir() if _VERSION.fullmatch(p.name) and (p / "dataset_info.json").is_file())
    if len(versions) == 1:
        return versions[0]
    if versions:
        raise UserError(f"{path} holds versions {', '.join(p.name for p in versions)}: give one of them")
    inside = sorted({p.parent for depth in ("*/", "*/*/") for p in path.glob(f"{depth}dataset_info.json")})
    if len(inside) > 1:
        names = ", ".join(str(p.relative_to(path)) for p in inside[:8]) + (", ..." if len(inside) > 8 else "")
        raise UserError(f"{path} holds {len(inside)} sets: give one of them: {names}")
    hint = f": did you mean {inside[0]}?" if inside else ": give the version folder of an RLDS set, like NAME/1.0.0"
    raise UserError(f"{path} has no dataset_info.json{hint}")


def read_features(folder: Path) -> list[Leaf]:
    """The fields of a record. Raises UserError unless there are steps among them."""
    tree = _load(folder / "features.json")
    try:
        leaves = list(_leaves(tree, ()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{folder / 'features.json'} is not as TFDS writes it: {error!r}") from error
    if not any(leaf.path[:1] == ("steps",) and len(leaf.path) > 1 for leaf in leaves):
        raise UserError(f"{folder}: features.json lists no steps: this TFDS set does not hold episodes (RLDS)")
    return leaves


def _leaves(node: dict[str, Any], path: tuple[str, ...]) -> Iterator[Leaf]:
    about = str(node.get("description", ""))
    kind = node.get("pythonClassName", "").rpartition(".")[2]
    if "featuresDict" in node:
        for name, child in node["featuresDict"]["features"].items():
            yield from _leaves(child, (*path, name))
    elif "sequence" in node and kind == "Dataset" and path == ("steps",):
        yield from _leaves(node["sequence"]["feature"], path)
    elif "image" in node:
        image = node["image"]
        yield Leaf(path, "image", image.get("dtype") or "uint8", _shape(image), "", about)
    elif "text" in node or node.get("tensor", {}).get("dtype") in ("string", "object", "str"):
        yield Leaf(path, "text", description=about)
    elif "classLabel" in node:
        yield Leaf(path, "tensor", "int64", (), "", about)
    elif "tensor" in node and re.fullmatch(r"bool|u?int\d+|float\d+", node["tensor"]["dtype"]):
        tensor = node["tensor"]
        encoding = tensor.get("encoding", "none").lower()
        yield Leaf(path, "tensor", tensor["dtype"], _shape(tensor), "" if encoding == "none" else encoding, about)
    else:  # lists in lists, videos, audio: nothing a Demo has a place for
        yield Leaf(path, "other", description=about)


def _shape(node: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(d) for d in node.get("shape", {}).get("dimensions", ()))


def read_shards(folder: Path, split: str | None) -> tuple[str, str, list[tuple[Path, int | None]]]:
    """(name, description, [(file, records in it; None: not said)]) of one split, or of all."""
    file = folder / "dataset_info.json"
    info = _load(file)
    try:
        splits = {str(s["name"]): s for s in info.get("splits", ())}
        if split is not None and split not in splits:
            raise UserError(f"{folder} has no split {split!r}: it has {', '.join(splits) or 'none'}")
        kind = str(info.get("fileFormat", "tfrecord"))
        if kind != "tfrecord":
            raise UserError(f"{folder} is written as {kind}: write it as tfrecord, the form that is read here")
        chosen = splits.values() if split is None else [splits[split]]
        listed = [shard for s in chosen for shard in _shard_files(folder, str(info["name"]), kind, s)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{file} is not as TFDS writes it: {error!r}") from error
    if not listed:
        raise UserError(f"{file} lists no shards: the set was never finished")
    return str(info["name"]), str(info.get("description", "")), listed


def _shard_files(folder: Path, dataset: str, kind: str, split: dict[str, Any]) -> list[tuple[Path, int | None]]:
    counts: list[int | None] = [int(n) for n in split.get("shardLengths", ())]
    counts = counts or [None] * int(split.get("numShards", 0))
    template, total = str(split.get("filepathTemplate") or _TEMPLATE), len(counts)
    files = []
    for number, count in enumerate(counts):
        fields = {"DATASET": dataset, "SPLIT": str(split["name"]), "FILEFORMAT": kind}
        fields |= {"SHARD_INDEX": f"{number:05}", "NUM_SHARDS": f"{total:05}"}
        fields["SHARD_X_OF_Y"] = f"{number:05}-of-{total:05}"
        name = re.sub(r"\{(\w+)\}", lambda field, fields=fields: fields[field[1]], template)
        if not _PLAIN.fullmatch(name):
            raise UserError(f"{folder / 'dataset_info.json'}: {name!r} is no file name in this folder")
        files.append((folder / name, count))
    return files


def _load(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise UserError(f"{file} is not as TFDS writes it")
    return data
