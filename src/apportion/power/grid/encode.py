"""States of a grid world as features for a network."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Float32, Shaped

from apportion.power.grid import layout as L


def _one_hot(values: np.ndarray, size: int) -> np.ndarray:
    """(n,) integers -> (n, size); what is outside 0 to size - 1 has no 1."""
    return (values[:, None] == np.arange(size)).astype(np.float32)


def encode(layout: L.Layout, rules: L.Rules, states: Shaped[np.ndarray, "n F"]) -> Float32[np.ndarray, "n E"]:
    """Per agent: which cell, x and y in [-1, 1], dir, dead, paused, what it carries, what it is forced to do. Then, per
    cell, how many blocks, rocks and portables of each kind are there; then the devices. Wall cells are left out.

    Equal for states that differ only in which of several identical objects is where (they are one state).
    """
    n, inner = len(states), np.flatnonzero(rules.cells[:, L.GROUND] != L.WALL)
    number = np.full(len(rules.cells), -1)
    number[inner] = np.arange(len(inner))
    columns: list[np.ndarray] = []
    for i in range(len(rules.who)):
        cell, direction, status, carry, forced = states[:, i * L.PER_AGENT : (i + 1) * L.PER_AGENT].T.astype(np.int64)
        y, x = np.divmod(cell, layout.width + 2)
        columns.append(_one_hot(number[cell], len(inner)))
        scaled = [(2 * v - size - 1) / max(size - 1, 1) for v, size in ((x, layout.width), (y, layout.height))]
        columns.append(np.stack(scaled, 1))
        columns.append(_one_hot(direction, 4))
        columns.append(np.stack([status & L.DEAD > 0, status & L.PAUSED > 0], 1))
        columns.append(_one_hot(carry - 1, len(layout.kinds)))
        if (rules.cells[:, L.GROUND] == L.CONTROL).any():
            columns.append(_one_hot(forced - 1, len(L.OPERATIONS)))
    kinds = list(itertools.pairwise(rules.kinds[:, L.KIND_FIRST]))
    for first, last in [(rules.first_block, rules.first_rock), (rules.first_rock, rules.first_portable), *kinds]:
        if last > first:
            there = np.zeros((n, len(inner)), np.float32)
            for field in range(first, last):
                lies = states[:, field] >= 0
                there[np.flatnonzero(lies), number[states[lies, field]]] += 1
            columns.append(there)
    for d, cell in enumerate(rules.device_cell):
        columns.append(
            _device(rules, int(rules.cells[cell, L.GROUND]), states[:, rules.first_device + d].astype(np.int64))
        )
    return np.ascontiguousarray(np.concatenate(columns, 1), np.float32)


def _device(rules: L.Rules, terrain: int, value: np.ndarray) -> np.ndarray:
    if terrain == L.DOOR:
        return _one_hot(value, 3)
    if terrain == L.PAUSE:
        return np.stack([value & 1, value >> 1], 1)
    if terrain != L.CONTROL:
        return value[:, None]
    agent, recorded = _one_hot((value >> 6) - 1, len(rules.who)), _one_hot((value >> 2 & 15) - 1, len(L.OPERATIONS))
    return np.concatenate([np.stack([value & 1, value >> 1 & 1], 1), agent, recorded], 1)
