"""The objectives of return decomposition, on bare tensors (Ren et al., ICLR 2022, arXiv 2111.13485)."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from apportion.types import Metrics


def rrd_loss(
    pred: Float[Tensor, "*e m k"],
    episode_return: Float[Tensor, "m"],
    length: Int[Tensor, "m"],
    *,
    target: Literal["mean", "sum"] = "mean",
    bias_correction: bool = False,
    mask: Bool[Tensor, "m k"] | None = None,
) -> tuple[Float[Tensor, ""], Metrics]:
    """Randomized return decomposition of m episodes, k distinct steps of each (L_Rand-RD; where k = T it is L_RD).

    `pred` holds the rewards r of a uniformly drawn subset I of each episode's T = `length` steps; R = `episode_return`.
    "mean": (R/T - mean_I r)^2, the released code's form; "sum": (R - T mean_I r)^2, the paper's, T^2 times as large.
    `bias_correction` subtracts the variance that the subset adds to the square, (1 - K/T) s^2 / K in the mean form,
    s^2 with divisor K - 1: the expectation over subsets is then exactly L_RD (the paper's RRD-L(RD)). Single draws
    may be negative; do not clamp. `mask` marks the drawn steps where an episode has fewer than k: those k_eff = T steps
    are the whole episode, the correction is 0 and the loss exact.
    Leading dimensions of `pred` are ensemble members: their losses are added up, their metrics averaged.

    Returns the mean over episodes and the metrics R_loss (before the correction), R_var (the variance term, subtracted
    or not) and R_rmse (error of the predicted return T mean_I r, in return units).
    Raises ValueError for a correction with a single step of a longer episode: it has no sample variance.
    """
    if pred.shape[-1] < 2 and bias_correction:
        raise ValueError("bias_correction needs at least 2 steps per subset: one step has no sample variance")
    pred = pred.to(torch.promote_types(pred.dtype, torch.float32))
    total = length.to(pred.dtype)
    seen = torch.ones_like(pred[(0,) * (pred.ndim - 2)]) if mask is None else mask.to(pred.dtype)
    k = seen.sum(-1)
    mean = (pred * seen).sum(-1) / k
    square = ((pred - mean[..., None]) * seen).square().sum(-1) / (k - 1).clamp(min=1)
    unit = torch.ones_like(total) if target == "mean" else total
    error = (unit * (episode_return / total - mean)).square()
    variance = unit.square() * (1 - k / total) * square / k
    per_member = (error - variance if bias_correction else error).mean(-1)
    metrics = {
        "R_loss": error.detach().mean(),
        "R_var": variance.detach().mean(),
        "R_rmse": (episode_return - total * mean.detach()).square().mean().sqrt(),
    }
    return per_member.sum(), metrics
