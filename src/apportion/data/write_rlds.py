"""Episodes into an RLDS set on disk (TFDS, TFRecord) in the layout of openvla's modified LIBERO, without TensorFlow."""

from __future__ import annotations

import io
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.new_place import new_directory
from apportion.data.optional import need
from apportion.data.schema import BadDemo, Demo, SetInfo
from apportion.data.tfrecord import message, varint, write_record
from apportion.types import UserError

SHARD = 256 * 2**20  # bytes after which the next file begins
QUALITY = 95  # of JPEG frames, with full chroma
_CLASS = "tensorflow_datasets.core.features."
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def write_rlds(demos: Iterable[Demo], info: SetInfo, path: Path, png: bool = False, shard: int = SHARD) -> None:
    """Writes all episodes to `path`/1.0.0, or to `path` if its name is a version; it must not exist yet.

    Frames become JPEG of quality 95, or PNG. RLDS has T observations: the one after the last action is left out. Where
    the first episode says whether it succeeded all must, and `episode_metadata/success` says so. Raises UserError and
    BadDemo (columns that differ from the first episode's); then nothing is left behind.
    """
    versioned = _VERSION.fullmatch(path.name) is not None
    name = _set_name(path.resolve().parent.name if versioned else path.name)
    stream = iter(demos)
    with new_directory(path) as folder:
        first = next(stream, None)
        if first is None:
            raise UserError(f"{path}: there is no episode to write")
        inside = folder if versioned else folder / "1.0.0"
        inside.mkdir(exist_ok=True)
        features = _features(first, info, png)
        size = _write_shards(itertools.chain([first], stream), inside, name, first, png, shard)
        counts = _rename_shards(inside, name)
        (inside / "features.json").write_text(json.dumps(features, indent=4))
        (inside / "dataset_info.json").write_text(json.dumps(_about(name, info, inside.name, counts, size), indent=2))


def _set_name(folder: str) -> str:
    """A name that TFDS accepts: lower case, digits, underscores, a letter first."""
    name = re.sub(r"[^a-z0-9]+", "_", folder.lower()).strip("_") or "demos"
    return name if name[0].isalpha() else f"set_{name}"


def _write_shards(demos: Iterable[Demo], folder: Path, name: str, first: Demo, png: bool, limit: int) -> int:
    """Records into `<name>.<shard>.<episodes>.tmp`: how many shards there will be shows only at the end.

    Returns the bytes of all examples, without what frames them in their records: TFDS's numBytes.
    """
    columns, number, count, written, size = _shapes(first), 0, 0, 0, 0
    file = (folder / "shard.tmp").open("wb")
    try:
        for demo in demos:
            if written >= limit:
                file.close()
                (folder / "shard.tmp").rename(folder / f"{name}.{number}.{count}.tmp")
                file, number, count, written = (folder / "shard.tmp").open("wb"), number + 1, 0, 0
            _check(demo, columns)
            example = _example(demo, png)
            write_record(file, example)
            count, written, size = count + 1, written + len(example), size + len(example)
    finally:
        file.close()
    (folder / "shard.tmp").rename(folder / f"{name}.{number}.{count}.tmp")
    return size


def _rename_shards(folder: Path, name: str) -> list[int]:
    """Final names. Episodes of each shard."""
    parts = sorted((p.name.split(".") for p in folder.glob("*.tmp")), key=lambda part: int(part[1]))
    for _, number, count, _ in parts:
        place = folder / f"{name}-train.tfrecord-{int(number):05}-of-{len(parts):05}"
        (folder / f"{name}.{number}.{count}.tmp").rename(place)
    return [int(count) for _, _, count, _ in parts]


def _shapes(demo: Demo) -> dict[str, tuple[Any, ...]]:
    """What all episodes must have in common."""
    arrays = {f"camera {k}": v for k, v in demo.images.items()} | {f"proprio {k}": v for k, v in demo.proprio.items()}
    arrays |= {"action": demo.action} | {f"extra {k}": v for k, v in demo.extra.items()}
    return {k: (*v.shape[1:], v.dtype.name) for k, v in arrays.items()} | {"success": (demo.success is not None,)}


def _check(demo: Demo, columns: dict[str, tuple[Any, ...]]) -> None:
    here = _shapes(demo)
    for name in here.keys() | columns.keys():
        if here.get(name) != columns.get(name):
            first = columns.get(name, "missing")
            raise BadDemo(f"{demo.where}: {name} is {here.get(name, 'missing')}, in the first episode it is {first}")


# One episode as tf.train.Example: a protocol buffer, field by field.


def _example(demo: Demo, png: bool) -> bytes:
    steps = demo.length
    last = np.arange(steps) == steps - 1
    lists: dict[str, np.ndarray | list[bytes]] = {
        "steps/action": demo.action,
        "steps/reward": demo.reward,
        "steps/discount": np.ones(steps, np.float32),
        "steps/is_first": np.arange(steps) == 0,
        "steps/is_last": last,
        "steps/is_terminal": last & demo.terminated,
        "steps/language_instruction": [demo.language.encode()] * steps,
        "episode_metadata/file_path": [_file_path(demo).encode()],
    }
    lists |= {f"steps/observation/{name}": x[:steps] for name, x in demo.proprio.items()}
    lists |= {f"steps/observation/{k}": [_encoded(f, png) for f in x[:steps]] for k, x in demo.images.items()}
    lists |= {f"steps/{name}": x for name, x in demo.extra.items()}
    if demo.success is not None:
        lists["episode_metadata/success"] = np.array([demo.success])
    entries = (message(1, message(1, name.encode()) + message(2, _list(x))) for name, x in sorted(lists.items()))
    return message(1, b"".join(entries))


def _file_path(demo: Demo) -> str:
    """LIBERO's file name of the task; the source where the task is but the instruction."""
    return demo.source.path if demo.task == demo.language else f"{demo.task}_demo.hdf5"


def _encoded(frame: np.ndarray, png: bool) -> bytes:
    if not png:
        frame = np.ascontiguousarray(frame)
        return need("simplejpeg", "writing JPEG").encode_jpeg(frame, QUALITY, "RGB", "444")
    data = io.BytesIO()
    need("PIL.Image", "writing PNG").fromarray(frame).save(data, "PNG")
    return data.getvalue()


def _list(values: np.ndarray | list[bytes]) -> bytes:
    """A Feature: BytesList, FloatList or Int64List."""
    if isinstance(values, list):
        return message(1, b"".join(message(1, value) for value in values))
    flat = values.reshape(-1)
    if values.dtype.kind == "f":
        return message(2, message(1, flat.astype("<f4").tobytes()))
    return message(3, message(1, b"".join(varint(int(x) & 0xFFFFFFFFFFFFFFFF) for x in flat)))


# The two JSON files.


def _about(name: str, info: SetInfo, version: str, counts: list[int], size: int) -> dict[str, Any]:
    fps = f" fps: {info.fps:g}" if info.fps else ""
    split = {
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
        "name": "train",
        "numBytes": str(size),
        "shardLengths": [str(count) for count in counts],
    }
    return {
        "description": f"{info.name}, written by apportion.{fps}",
        "fileFormat": "tfrecord",
        "name": name,
        "splits": [split],
        "version": version,
    }


def _features(demo: Demo, info: SetInfo, png: bool) -> dict[str, Any]:
    seen = {name: _tensor("float32", x.shape[1:]) for name, x in demo.proprio.items()}
    for name, frames in demo.images.items():
        lies = info.cameras[name].orientation if name in info.cameras else "unknown"
        image = {"dtype": "uint8", "encodingFormat": "png" if png else "jpeg", "shape": _shape(frames.shape[1:])}
        description = f"Camera {name}. orientation: {lies}"
        seen[name] = {"pythonClassName": f"{_CLASS}image_feature.Image", "image": image, "description": description}
    steps = {
        "observation": _dict(seen),
        "action": _tensor("float32", demo.action.shape[1:]),
        **{name: _tensor("float32") for name in ("reward", "discount")},
        **{name: _tensor("bool") for name in ("is_first", "is_last", "is_terminal")},
        "language_instruction": _text(),
    }
    for name, values in demo.extra.items():
        if name in steps or values.ndim > 2:
            raise UserError(f"RLDS has no place for the column {name} {values.shape[1:]}: take --to store or hdf5")
        steps[name] = _tensor("float32" if values.dtype.kind == "f" else values.dtype.name, values.shape[1:])
    metadata = {"file_path": _text()} | ({} if demo.success is None else {"success": _tensor("bool")})
    dataset = {"sequence": {"feature": _dict(steps), "length": "-1"}}
    return _dict(
        {
            "steps": {"pythonClassName": f"{_CLASS}dataset_feature.Dataset", **dataset},
            "episode_metadata": _dict(metadata),
        }
    )


def _dict(features: Mapping[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": f"{_CLASS}features_dict.FeaturesDict", "featuresDict": {"features": dict(features)}}


def _tensor(dtype: str, shape: tuple[int, ...] = ()) -> dict[str, Any]:
    kind = "tensor_feature.Tensor" if shape else "scalar.Scalar"
    return {"pythonClassName": _CLASS + kind, "tensor": {"dtype": dtype, "encoding": "none", "shape": _shape(shape)}}


def _text() -> dict[str, Any]:
    return {"pythonClassName": f"{_CLASS}text_feature.Text", "text": {}}


def _shape(shape: tuple[int, ...]) -> dict[str, Any]:
    return {"dimensions": [str(n) for n in shape]} if shape else {}
