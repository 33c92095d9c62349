"""What rewards from demonstrations are learned by, beside `apportion.rewards.losses`, on bare tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apportion.types import Metrics


def progress_loss(phi: Float[Tensor, "m k"], label: Float[Tensor, "m k"]) -> tuple[Float[Tensor, ""], Metrics]:
    """Mean of (phi - t/T)^2; metrics: loss, and its root, in shares of an episode."""
    loss = (phi - label).square().mean()
    return loss, {"loss": loss.detach(), "progress_rmse": loss.detach().sqrt()}


def success_loss(logit: Float[Tensor, "m k"], label: Float[Tensor, "m k"]) -> tuple[Float[Tensor, ""], Metrics]:
    """Binary cross-entropy of P(success | s) = sigmoid(logit); metrics: loss, and the share on the right side of .5."""
    loss = F.binary_cross_entropy_with_logits(logit, label)
    right = ((logit > 0) == (label > 0.5)).to(torch.float32).mean()
    return loss, {"loss": loss.detach(), "accuracy": right.detach()}


def potential_difference(phi: Float[Tensor, "*n"], next_phi: Float[Tensor, "*n"], gamma: float) -> Float[Tensor, "*n"]:
    """gamma phi(s') - phi(s): added to any reward, it leaves the best policy as it is (Ng, Harada & Russell 1999)."""
    return gamma * next_phi - phi
