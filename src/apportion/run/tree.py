"""Trees of state, taken apart into JSON and tensors and put together again; as bytes, what processes send each other.

A tree is a nested dictionary with string keys; its leaves are tensors, NumPy arrays, numbers, strings, booleans, None
and lists of these. There is no code in it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

Tree = dict[str, Any]
_MARKS = ("$tensor", "$array")
_HEAD = struct.Struct("<Q")  # how long the JSON is that follows; safetensors are the rest


def take_apart(node: Any, put: Callable[[str, Tensor], str], path: str = "") -> Any:
    """`node` with {"$tensor": name} or {"$array": name} for each of its tensors and arrays.

    `put` is given the path of each and a copy on the CPU that shares no memory (safetensors refuses views of one
    buffer), and answers with its name. Raises TypeError for a leaf or key that would not come back.
    """
    if isinstance(node, Tensor):
        return {"$tensor": put(path, node.detach().to("cpu", copy=True).contiguous())}
    if isinstance(node, np.ndarray):
        return {"$array": put(path, torch.from_numpy(np.array(node)).contiguous())}
    if isinstance(node, dict):
        for key in node:
            if not isinstance(key, str) or key in _MARKS:
                raise TypeError(f"key {key!r} at {path or 'the top'} cannot be kept: use another string")
        return {key: take_apart(value, put, f"{path}/{key}" if path else key) for key, value in node.items()}
    if isinstance(node, list):
        return [take_apart(value, put, f"{path}/{i}") for i, value in enumerate(node)]
    if node is None or type(node) in (bool, int, float, str):
        return node
    raise TypeError(f"{path or 'the top'} is a {type(node).__name__}, which cannot be kept")


def put_together(node: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `take_apart`, given the tensors by name."""
    if isinstance(node, dict):
        if "$tensor" in node:
            return tensors[node["$tensor"]]
        if "$array" in node:
            return tensors[node["$array"]].numpy()
        return {key: put_together(value, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [put_together(value, tensors) for value in node]
    return node


def to_bytes(tree: Tree) -> bytes:
    """`tree` as bytes that `from_bytes` makes a tree again, bit for bit, NaN and infinity too; nothing is shared.

    Raises TypeError for a leaf or key that would not come back.
    """
    tensors: dict[str, Tensor] = {}

    def put(path: str, tensor: Tensor) -> str:
        tensors[name := str(len(tensors))] = tensor
        return name

    structure = json.dumps(take_apart(tree, put)).encode()
    return b"".join((_HEAD.pack(len(structure)), structure, save_tensors(tensors)))


def from_bytes(data: bytes) -> Tree:
    """The inverse of `to_bytes`; tensors are on the CPU. Raises ValueError for bytes that are no tree."""
    try:
        (length,) = _HEAD.unpack_from(data)
        start = _HEAD.size + length
        return put_together(json.loads(data[_HEAD.size : start]), load_tensors(data[start:]))
    except (struct.error, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"these {len(data)} bytes are no tree of state, or damaged") from error
