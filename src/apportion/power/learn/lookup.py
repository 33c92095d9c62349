"""The five estimators as tables: exact on small worlds, behind the same interface as the networks.

A state (with its time) is known by a hash of its features, so that a table takes what a network takes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from apportion.power.learn.networks import LARGEST, Noise, Sizes

START = {"v_h_e": 0.5, "x_h": 0.25, "u_r": 2.0, "q_r": -10.0, "v_r": -10.0}  # of states that were never learned
_LOW = {"v_h_e": 0.0, "x_h": 0.0, "u_r": 1.0, "q_r": -LARGEST, "v_r": -LARGEST}
_HIGH = {"v_h_e": 1.0, "x_h": 1.0, "u_r": LARGEST, "q_r": -1e-10, "v_r": -1e-10}


class Index:
    """Rows of tables by the hash of a state's features; row 0 stands for everything unknown."""

    def __init__(self, features: int):
        rng = np.random.default_rng(20_250_801)  # any odd multipliers will do; always the same ones, so that runs agree
        self._multipliers = rng.integers(0, 2**63, size=(features, 2), dtype=np.int64) | 1
        self.rows: dict[int, int] = {}

    def keys(self, features: Float[Tensor, "n E"]) -> list[int]:
        """64-bit hashes: equal for equal features, and for others in one of 2^64 cases."""
        bits = np.ascontiguousarray(features.detach().cpu().numpy()).view(np.int32).astype(np.int64)
        with np.errstate(over="ignore"):
            two = bits @ self._multipliers
            mixed = two[:, 0] ^ ((two[:, 1] >> 29) * np.int64(-7046029254386353131))
        return mixed.tolist()

    def find(self, features: Float[Tensor, "n E"], grow: bool) -> Int[Tensor, "n"]:
        """The row of each state; with `grow`, new ones are given rows."""
        keys = self.keys(features)
        if grow:
            for key in keys:
                self.rows.setdefault(key, len(self.rows) + 1)
        return torch.tensor([self.rows.get(key, 0) for key in keys], device=features.device)


class Lookup:
    """Tables of V_h^e, X_h, y of U_r, Q_r, V_r. `encode` gives rows."""

    def __init__(self, sizes: Sizes, device: torch.device | str = "cpu"):
        self.sizes, self.index = sizes, Index(sizes.features)
        self.widths = {
            "v_h_e": sizes.humans * sizes.goals,
            "x_h": sizes.humans,
            "u_r": 1,
            "q_r": sizes.robot_actions,
            "v_r": 1,
        }
        self.tables = {name: torch.full((64, width), START[name], device=device) for name, width in self.widths.items()}

    def encode(self, features: Float[Tensor, "n E"], noise: Noise = None) -> Int[Tensor, "n"]:
        rows = self.index.find(features, grow=noise is not None)
        self._grow(len(self.index.rows) + 1)
        return rows

    def _grow(self, rows: int) -> None:
        have = len(self.tables["q_r"])
        if rows > have:
            for name, table in self.tables.items():
                more = torch.full((max(have, rows - have), table.shape[1]), START[name], device=table.device)
                self.tables[name] = torch.cat([table, more])

    def v_h_e(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n H G"]:
        return self.tables["v_h_e"][code].view(-1, self.sizes.humans, self.sizes.goals)

    def x_h(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n H"]:
        return self.tables["x_h"][code]

    def u_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n"]:
        return self.tables["u_r"][code][:, 0]

    def q_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n R"]:
        return self.tables["q_r"][code]

    def v_r(self, code: Tensor, noise: Noise = None) -> Float[Tensor, "n"]:
        return self.tables["v_r"][code][:, 0]

    def learn(
        self, name: str, code: Int[Tensor, "n"], target: Tensor, weight: Tensor | None, rate: float
    ) -> Float[Tensor, ""]:
        """Moves each entry by `rate` times the mean of what its rows of the batch ask for.

        `weight` (shape of target): importance weights, which scale what a row asks for. Returns the squared error.
        """
        table, want = self.tables[name], target.reshape(len(code), -1)
        error = want - table[code]
        asked = error if weight is None else error * weight.reshape(want.shape)
        rows, of_row, count = torch.unique(code, return_inverse=True, return_counts=True)
        total = torch.zeros(len(rows), table.shape[1], device=table.device).index_add_(0, of_row, asked)
        table[rows] = (table[rows] + rate * total / count[:, None]).clamp(_LOW[name], _HIGH[name])
        return (error * asked).mean()

    def copy_from(self, other: Lookup) -> None:
        """Becomes a copy, with the index in common."""
        self.index = other.index
        self.tables = {name: table.clone() for name, table in other.tables.items()}

    def state(self) -> dict[str, Any]:
        used = len(self.index.rows) + 1
        keys = torch.tensor(list(self.index.rows), dtype=torch.int64)
        return {"keys": keys, **{name: table[:used].clone() for name, table in self.tables.items()}}

    def load_state(self, state: dict[str, Any]) -> None:
        self.index.rows = {key: row for row, key in enumerate(state["keys"].tolist(), 1)}
        device = self.tables["q_r"].device
        self.tables = {name: state[name].to(device, copy=True) for name in self.widths}
