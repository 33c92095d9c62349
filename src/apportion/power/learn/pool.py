"""Batches and what they are to be fitted to. Working that out costs more than a training step: it may serve several."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from apportion.power.learn.targets import Nodes, Targets, Values


@dataclass(frozen=True)
class Material:
    """n states, what the target networks say of them, and what they are to be fitted to."""

    nodes: Nodes
    here: Values
    targets: Targets

    def rows(self, at: Int[Tensor, "k"]) -> Material:
        """Some of them."""
        parts = (_picked(part, at) for part in (self.nodes, self.here, self.targets))
        return Material(*parts)  # type: ignore[arg-type]


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
        return self._material.rows(at.to(self._material.nodes.last.device))

    def state(self) -> dict[str, Any]:
        """What is left of it; {} where nothing is."""
        if self._material is None or len(self._order) == 0:
            return {}
        m = self._material
        return {
            "stage": self.stage,
            "order": self._order,
            **{f.name: _tree(getattr(m, f.name)) for f in fields(m)},
        }

    def load_state(self, state: dict[str, Any], device: torch.device) -> None:
        if state:
            parts = (_made(cls, state[name], device) for cls, name in _PARTS)
            self.fill(Material(*parts), state["order"], int(state["stage"]))


_PARTS = ((Nodes, "nodes"), (Values, "here"), (Targets, "targets"))


def _tree(part: Any) -> dict[str, Any]:
    return {f.name: getattr(part, f.name) for f in fields(part)}


def _made(cls: type, tree: dict[str, Any], device: torch.device) -> Any:
    return cls(**{name: None if value is None else value.to(device) for name, value in tree.items()})


def _picked(part: Any, at: Int[Tensor, "k"]) -> Any:
    return type(part)(**{name: None if value is None else value[at] for name, value in _tree(part).items()})
