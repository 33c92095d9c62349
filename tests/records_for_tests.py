"""Demonstrations for tests: the samples, hand-made TFRecords, RLDS folders and HDF5 files, and ways to damage them."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import h5py
import numpy as np
import pytest
import simplejpeg
from PIL import Image

from apportion.types import UserError

DATA = Path(__file__).parent / "data"
RLDS = DATA / "libero_10_no_noops"
HDF5 = DATA / "libero_10"
STOVE = HDF5 / "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it_demo.hdf5"
PAIR = DATA / "same_rollouts"

CLASS = "tensorflow_datasets.core.features."


def varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def message(number: int, data: bytes) -> bytes:
    """A field of wire type 2."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def bytes_list(values: list[bytes]) -> bytes:
    return message(1, b"".join(message(1, v) for v in values))


def float_list(values: Any) -> bytes:
    return message(2, message(1, np.asarray(values, "<f4").tobytes()))


def int64_list(values: list[int]) -> bytes:
    return message(3, message(1, b"".join(varint(v & 0xFFFFFFFFFFFFFFFF) for v in values)))


def example(features: dict[str, bytes]) -> bytes:
    return message(1, b"".join(message(1, message(1, k.encode()) + message(2, v)) for k, v in features.items()))


def framed(data: bytes) -> bytes:
    """A TFRecord record."""

    def crc(x: bytes) -> bytes:
        c = google_crc32c.value(x)
        return struct.pack("<I", (((c >> 15) | (c << 17)) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(data))
    return length + crc(length) + data + crc(data)


def tensor(dtype: str, *shape: int, encoding: str = "none") -> dict[str, Any]:
    dims = {"dimensions": [str(n) for n in shape]} if shape else {}
    return {
        "pythonClassName": CLASS + "tensor_feature.Tensor",
        "tensor": {"dtype": dtype, "shape": dims, "encoding": encoding},
    }


def image(*shape: int) -> dict[str, Any]:
    body = {"dtype": "uint8", "shape": {"dimensions": [str(n) for n in shape]}}
    return {"pythonClassName": CLASS + "image_feature.Image", "image": body}


def text() -> dict[str, Any]:
    return {"pythonClassName": CLASS + "text_feature.Text", "text": {}}


def features_dict(features: dict[str, Any]) -> dict[str, Any]:
    return {"pythonClassName": CLASS + "features_dict.FeaturesDict", "featuresDict": {"features": features}}


def write_rlds(folder: Path, steps: dict[str, Any], records: list[bytes], name: str = "robot", **about: Any) -> Path:
    """An RLDS folder of one shard."""
    folder.mkdir(parents=True)
    dataset = {"sequence": {"feature": features_dict(steps), "length": "-1"}}
    tree = features_dict({"steps": {"pythonClassName": CLASS + "dataset_feature.Dataset", **dataset}})
    (folder / "features.json").write_text(json.dumps(tree))
    split = {"name": "train", "shardLengths": [str(len(records))]}
    info = {"name": name, "fileFormat": "tfrecord", "version": "1.0.0", "splits": [split], **about}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    shard = folder / f"{name}-train.tfrecord-00000-of-00001"
    shard.write_bytes(b"".join(map(framed, records)))
    return shard


def flip_byte(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 0xFF
    file.write_bytes(bytes(data))


def jpeg(value: int, size: int = 8) -> bytes:
    return simplejpeg.encode_jpeg(np.full((size, size, 3), value, np.uint8))


def png(value: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(out, "PNG")
    return out.getvalue()


def small(frames: list[bytes] | None = None, **changed: bytes) -> tuple[dict, bytes]:
    """(steps of features.json, one record) of 5 steps: a camera, a state of 2, an action of 3."""
    observation = features_dict({"image": image(8, 8, 3), "state": tensor("float32", 2)})
    steps = {
        "observation": observation,
        "action": tensor("float32", 3),
        "reward": tensor("float32"),
        "is_terminal": tensor("bool"),
        "language_instruction": text(),
    }
    lists = {
        "steps/observation/image": bytes_list(frames or [jpeg(40 * i) for i in range(5)]),
        "steps/observation/state": float_list(range(10)),
        "steps/action": float_list(range(15)),
        "steps/reward": float_list([0, 0, 0, 0, 1]),
        "steps/is_terminal": int64_list([0, 0, 0, 0, 1]),
        "steps/language_instruction": bytes_list([b'"lift the cup" '] * 5),
    }
    return steps, example({k: v for k, v in {**lists, **changed}.items() if v})


def native(path: Path, demos: dict[str, int], attrs: dict[str, object] | None = None, extra: int = 0) -> Path:
    """A file of the native form without frames; demo name -> T; `extra` 1: T + 1 observations."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs.update(attrs or {})
        for name, steps in demos.items():
            group = data.create_group(name)
            group["actions"] = np.full((steps, 7), steps, np.float64)
            group["rewards"] = np.arange(steps) == steps - 1
            group["dones"] = np.arange(steps) == steps - 1
            group["obs/ee_states"] = np.zeros((steps + extra, 6))
            group["obs/gripper_states"] = np.zeros((steps + extra, 2))
    return path


def one_line(error: pytest.ExceptionInfo[UserError], *parts: object) -> None:
    """The message is one line that holds all parts."""
    said = str(error.value)
    assert "\n" not in said
    for part in parts:
        assert str(part) in said, said
