"""Trees of state as bytes: what processes send each other. JSON and safetensors, as in a checkpoint; never code.

A tree is a nested dictionary with string keys; its leaves are tensors, NumPy arrays, numbers, strings, booleans, None
and lists of these. Unlike in a checkpoint, NaN and infinity may pass.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from apportion.run.checkpoint import Tree, unflatten

_MARKS = ("$tensor", "$array")
_HEAD = struct.Struct("<Q")  # how long the JSON is that follows; safetensors are the rest


def to_bytes(tree: Tree) -> bytes:
    """`tree` as bytes that `from_bytes` makes a tree again, bit for bit; nothing of it is shared.

    Raises TypeError for a leaf or key that would not come back.
    """
    tensors: dict[str, Tensor] = {}
    structure = json.dumps(_plain(tree, "", tensors)).encode()
    return b"".join((_HEAD.pack(len(structure)), structure, save_tensors(tensors)))


def from_bytes(data: bytes) -> Tree:
    """The inverse of `to_bytes`; tensors are on the CPU. Raises ValueError for bytes that are no tree."""
    try:
        (length,) = _HEAD.unpack_from(data)
        start = _HEAD.size + length
        return unflatten(json.loads(data[_HEAD.size : start]), load_tensors(data[start:]))
    except (struct.error, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(f"these {len(data)} bytes are no tree: {error}") from error


def _plain(node: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    """`node` with {"$tensor": name} or {"$array": name} for what went into `tensors`."""
    if isinstance(node, Tensor | np.ndarray):
        name = str(len(tensors))
        # a copy of its own: safetensors refuses tensors that share memory (views of one flat buffer do)
        tensor = (
            torch.from_numpy(np.array(node)) if isinstance(node, np.ndarray) else node.detach().to("cpu", copy=True)
        )
        tensors[name] = tensor.contiguous()
        return {"$array" if isinstance(node, np.ndarray) else "$tensor": name}
    if isinstance(node, dict):
        for key in node:
            if not isinstance(key, str) or key in _MARKS:
                raise TypeError(f"key {key!r} at {path or 'the top'} cannot be sent: use another string")
        return {key: _plain(value, f"{path}/{key}" if path else key, tensors) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value, f"{path}/{i}", tensors) for i, value in enumerate(node)]
    if node is None or type(node) in (bool, int, float, str):
        return node
    raise TypeError(f"{path or 'the top'} is a {type(node).__name__}, which cannot be sent")
