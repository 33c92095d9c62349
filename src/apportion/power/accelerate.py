"""Search for a fixed point z = F(z): damped iteration, accelerated by looking back on the last few steps.

Anderson's method (Walker & Ni, SIAM J. Numer. Anal. 49, 2011): of an affine F it is GMRES in disguise, so that a
discount of .99 costs tens of sweeps, not thousands. Where it comes to nothing, the search goes back and takes smaller
steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

MEMORY = 6  # steps that are looked back on
WORSE = 10.0  # times the best residual: what was learnt from earlier steps holds no more, and is forgotten
PATIENCE = 40  # steps without a better residual, after which the search goes back and takes smaller ones
SMALLEST = 1 / 64  # damping
REST = 64  # most plain steps after going back, before the search is accelerated again


@dataclass(frozen=True)
class Found:
    """Where a search ended. `residual`: the largest |F(z) - z|."""

    z: Float[Tensor, "N"]
    residual: float
    sweeps: int
    converged: bool


def fixed_point(
    f: Callable[[Tensor], Tensor],
    start: Float[Tensor, "N"],
    tolerance: float,
    most: int,
    inside: Callable[[Tensor], Tensor],
    watch: Callable[[Float[Tensor, "N"], float, int], None] | None = None,
) -> Found:
    """A z with |f(z) - z| <= tolerance, or the best of `most` evaluations of f.

    `inside(z)` moves a z back to where f is defined, which accelerated steps may leave.
    `watch(z, residual, sweeps)` is told of every step: the best z so far and its residual.
    """
    z, damping, steps, changes = start, 1.0, list[Tensor](), list[Tensor]()
    best, best_residual, best_at = start, float("inf"), 0
    rest, resumes = 2, 0  # plain steps after going back; when the search is accelerated again
    before: tuple[Tensor, Tensor] | None = None
    for sweeps in range(1, most + 1):
        change = f(z) - z
        residual = float(change.abs().max())
        if residual < best_residual:
            best, best_residual, best_at = z, residual, sweeps
            damping = min(1.0, 1.5 * damping)
        if watch is not None:
            watch(best, best_residual, sweeps)
        if best_residual <= tolerance:
            return Found(best, best_residual, sweeps, True)
        if residual != residual or sweeps - best_at >= PATIENCE:  # not a number, or nowhere
            rest, damping = min(2 * rest, REST), max(damping / 2, SMALLEST)
            z, best_at, resumes, before, steps, changes = best, sweeps, sweeps + rest, None, [], []
            continue
        if before is None or sweeps < resumes or residual > WORSE * best_residual:
            steps, changes = [], []
        else:
            steps, changes = [*steps, z - before[0]][-MEMORY:], [*changes, change - before[1]][-MEMORY:]
        before = (z, change)
        z = inside(z + damping * change - _look_back(change, steps, changes, damping))
    return Found(best, best_residual, most, False)


def _look_back(change: Tensor, steps: list[Tensor], changes: list[Tensor], damping: float) -> Tensor:
    """What to take off the damped step so that, were F affine, the next change would be smallest."""
    if not steps:
        return torch.zeros_like(change)
    s, c = torch.stack(steps), torch.stack(changes)
    gram = c @ c.T
    ridge = 1e-14 * gram.diagonal().max() * torch.eye(len(c), dtype=c.dtype, device=c.device)
    share = torch.linalg.lstsq((gram + ridge).cpu(), (c @ change)[:, None].cpu(), driver="gelsd").solution.to(c.device)
    return (share.T @ (s + damping * c))[0]
