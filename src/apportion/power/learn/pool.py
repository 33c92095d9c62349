"""Batches and what they are to be fitted to. Working that out costs more than a training step: it may serve several."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from apportion.power.learn.targets import Nodes, Targets, Values

MOST_ROWS = 100_000  # of a memo


@dataclass(frozen=True)
class Material:
    """n states, what the target networks say of them, and what they are to be fitted to."""

    nodes: Nodes
    here: Values
    targets: Targets

    def rows(self, at: Int[Tensor, "k"]) -> Material:
        """Some of them."""
        at = at.to(self.nodes.last.device)
        return Material(_picked(self.nodes, at), _picked(self.here, at), _picked(self.targets, at))

    def write(self, at: int, other: Material) -> None:
        """Puts another one's states in the place of those from `at` on."""
        for name in _PARTS:
            for field, column in vars(getattr(self, name)).items():
                if column is not None:
                    new = getattr(getattr(other, name), field)
                    column[at : at + len(new)] = new


class Memo:
    """Material by state and time, worked out once for as long as it stays true.

    It does while the target networks, beta_r and what is asked for stay the same: together they are its `reason`.
    """

    def __init__(self) -> None:
        self.reason: tuple[int | float, ...] = ()
        self._row: dict[int, int] = {}
        self._material: Material | None = None  # with room for more

    def keep(self, reason: tuple[int | float, ...]) -> bool:
        """Forgets everything that was true for another reason, or is too much. Did it?"""
        forgets = reason != self.reason or len(self._row) > MOST_ROWS
        if forgets:
            self.reason, self._row, self._material = reason, {}, None
        return forgets

    def missing(self, keys: Int[np.ndarray, "n"]) -> Int[np.ndarray, "k"]:
        """Those that have no material, each once, ascending."""
        return np.array([key for key in np.unique(keys).tolist() if key not in self._row], np.int64)

    def add(self, keys: Int[np.ndarray, "k"], material: Material) -> None:
        n, rows = len(self._row), len(keys)
        if self._material is None:
            self._material = material
        else:
            if n + rows > len(self._material.nodes.last):
                self._material = self._material.rows(
                    torch.arange(2 * (n + rows), device=material.nodes.last.device) % n
                )
            self._material.write(n, material)
        self._row.update(zip(keys.tolist(), range(n, n + rows), strict=True))

    def find(self, keys: Int[np.ndarray, "n"]) -> tuple[Material, Int[Tensor, "n"]]:
        """All material, and the rows of `keys` in it."""
        assert self._material is not None
        return self._material, torch.tensor([self._row[key] for key in keys.tolist()])

    def state(self) -> dict[str, Any]:
        """{} where it holds nothing."""
        if self._material is None:
            return {}
        keys = np.array(list(self._row), np.int64)
        return {"reason": list(self.reason), "keys": keys, **_tree_of(self._material.rows(torch.arange(len(keys))))}

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        self.keep(())
        if state:
            self.reason = tuple(state["reason"])
            self.add(np.asarray(state["keys"]), _material_of(state, device))


class Pool:
    """Material for several training steps: each row of `order` (steps, k) says which states one of them takes."""

    def __init__(self) -> None:
        self.stage = -1  # in which it was made: another one asks for other targets
        self._material: Material | None = None
        self._order: Int[Tensor, "s k"] = torch.zeros((0, 0), dtype=torch.int64)

    def fill(self, material: Material, order: Int[Tensor, "s k"], stage: int) -> None:
        self._material, self._order, self.stage = material, order, stage

    def empty(self, stage: int) -> bool:
        """Is there nothing left that was made in this stage?"""
        return len(self._order) == 0 or stage != self.stage

    def take(self) -> Material:
        """What the next training step learns from."""
        assert self._material is not None
        at, self._order = self._order[0], self._order[1:]
        return self._material.rows(at)

    def state(self) -> dict[str, Any]:
        """What is left of it; {} where nothing is."""
        if self._material is None or len(self._order) == 0:
            return {}
        used, order = self._order.unique(return_inverse=True)
        return {"stage": self.stage, "order": order, **_tree_of(self._material.rows(used))}

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        if state:
            self.fill(_material_of(state, device), state["order"], int(state["stage"]))


_PARTS = {"nodes": Nodes, "here": Values, "targets": Targets}


def _tree_of(material: Material) -> dict[str, Any]:
    return {name: vars(getattr(material, name)) for name in _PARTS}


def _material_of(tree: dict[str, Any], device: torch.device) -> Material:
    def part(name: str) -> Any:
        return _PARTS[name](**{k: None if v is None else v.to(device) for k, v in tree[name].items()})

    return Material(part("nodes"), part("here"), part("targets"))


def _picked(part: Any, at: Int[Tensor, "k"]) -> Any:
    return type(part)(**{name: None if value is None else value[at] for name, value in vars(part).items()})
