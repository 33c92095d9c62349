"""A compiled world on the device that solves it, and expectations over successors, for a run of states at a time."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.power.compiled import Compiled


@dataclass(frozen=True)
class Kernel:
    """Successors in rows of (state, humans' joint action, robots' joint action), the last fastest.

    Letters as in equations.py, and S states in all, M successors.
    """

    indptr: Tensor  # (expanded * B * R + 1,) int64, on the CPU: where each row begins
    indices: Tensor  # (M,) int32 or int64
    probs: Tensor  # (M,) float64
    attained: Bool[Tensor, "S H G"]
    terminal: Bool[Tensor, "S"]
    weights: Float[Tensor, "G"]
    sizes: tuple[int, ...]  # actions of each human
    still: tuple[int | None, ...]  # of each human
    robot_actions: int  # R

    @property
    def human_actions(self) -> int:
        return math.prod(self.sizes)

    @property
    def device(self) -> torch.device:
        return self.probs.device

    def expected(self, a: int, b: int, values: Float[Tensor, "m K"]) -> Float[Tensor, "n B R K"]:
        """E of `values` in the successor, of states a to b, under each joint action."""
        rows = self.human_actions * self.robot_actions
        product = self._product(self.indptr[a * rows : b * rows + 1], None, values)
        return product.view(b - a, self.human_actions, self.robot_actions, values.shape[1])

    def expected_under(
        self, a: int, b: int, values: Float[Tensor, "m K"], policy: Float[Tensor, "n R"]
    ) -> Float[Tensor, "n B K"]:
        """The same if the robots act by `policy`, whose rows are states a to b. R times smaller than `expected`."""
        rows = self.human_actions * self.robot_actions
        bounds = self.indptr[a * rows : b * rows + 1]
        each = policy[:, None, :].expand(-1, self.human_actions, -1).reshape(-1)
        counts = (bounds[1:] - bounds[:-1]).to(self.device)
        weights = torch.repeat_interleave(each, counts)
        product = self._product(bounds[:: self.robot_actions], weights, values)
        return product.view(b - a, self.human_actions, values.shape[1])

    def _product(self, bounds: Tensor, weights: Tensor | None, values: Float[Tensor, "m K"]) -> Float[Tensor, "r K"]:
        first, last = int(bounds[0]), int(bounds[-1])
        probs = self.probs[first:last]
        matrix = torch.sparse_csr_tensor(
            (bounds - first).to(self.device, self.indices.dtype),
            self.indices[first:last],
            probs if weights is None else probs * weights,
            size=(len(bounds) - 1, len(values)),
            check_invariants=False,
        )
        return matrix @ values


def warn_no_more() -> None:
    """Of sparse matrices, PyTorch warns once in a process: here, where nobody hears it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        torch.eye(1).to_sparse_csr()


def make_kernel(compiled: Compiled, device: str | torch.device = "cpu") -> Kernel:
    """`compiled` with its rows in the order of `Kernel`, on `device`."""
    warn_no_more()
    indptr, indices, probs = _humans_first(compiled)
    return Kernel(
        indptr=torch.from_numpy(indptr),
        indices=torch.from_numpy(indices).to(device),
        probs=torch.from_numpy(probs).to(device),
        attained=torch.from_numpy(compiled.attained).to(device),
        terminal=torch.from_numpy(compiled.terminal).to(device),
        weights=torch.from_numpy(np.asarray(compiled.goal_weights, np.float64)).to(device),
        sizes=tuple(compiled.n_actions[h] for h in compiled.humans),
        still=tuple(compiled.still[h] for h in compiled.humans),
        robot_actions=compiled.robot_actions,
    )


def _humans_first(compiled: Compiled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(indptr, indices, probs) with the humans' joint action before the robots' in the order of rows."""
    small = np.int32 if len(compiled.states) < 2**31 else np.int64
    indptr = np.asarray(compiled.indptr, np.int64)
    indices = np.asarray(compiled.indices, small)
    probs = np.asarray(compiled.probs, np.float64)
    agents = (*compiled.humans, *compiled.robots)
    if agents == tuple(range(len(compiled.n_actions))):
        return indptr, indices, probs
    order = np.arange(compiled.joint_actions).reshape(compiled.n_actions).transpose(agents).ravel()
    rows = (np.arange(compiled.expanded)[:, None] * compiled.joint_actions + order).ravel()
    counts = np.diff(indptr)[rows]
    ordered = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    # entry k of new row i is entry k of old row rows[i]
    take = np.repeat(indptr[:-1][rows] - ordered[:-1], counts) + np.arange(len(indices))
    return ordered, indices[take], probs[take]
