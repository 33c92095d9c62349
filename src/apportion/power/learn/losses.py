"""What each estimator is to come near to, and how far off it is: pure functions of tensors.

Source: Heitzig & Potham, arXiv 2508.00159, by the equations of equations.py. Letters as there; n batch, m successors.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from apportion.power.learn.networks import BOUND, to_z


def squared(
    prediction: Float[Tensor, "n *k"], target: Float[Tensor, "n *k"], weight: Float[Tensor, "n *k"] | None = None
) -> Float[Tensor, ""]:
    """Mean squared error; with importance weights, of the weighted squares. Not Huber's: the mean is what is wanted."""
    squares = (prediction - target).square()
    return squares.mean() if weight is None else (weight * squares).mean()


def share_loss(
    prediction: Float[Tensor, "n *k"],
    target: Float[Tensor, "n *k"],
    weight: Float[Tensor, "n *k"] | None,
    form: Literal["mse", "cross-entropy"],
) -> Float[Tensor, ""]:
    """Of values in [0, 1]. The cross entropy is least at the mean too, and its gradient does not fade near 0 and 1.

    What the target's own entropy adds to it is taken off: 0 is a perfect fit.
    """
    if form == "mse":
        return squared(prediction, target, weight)
    target = target.clamp(0, 1)  # beyond by rounding
    each = F.binary_cross_entropy(prediction, target, reduction="none")
    each = each - F.binary_cross_entropy(target, target, reduction="none")
    return each.mean() if weight is None else (weight * each).mean()


def q_loss(
    prediction: Float[Tensor, "n R"],
    target: Float[Tensor, "n R"],
    weight: Float[Tensor, "n R"] | None,
    output: Literal["softplus", "z", "log"],
    z_power: float,
    difference_weight: float = 1.0,
    sampled: bool = False,
) -> Float[Tensor, ""]:
    """The squared error of Q_r (softplus), of z, or of log(-Q_r): pi_r depends on differences of the last alone.

    `difference_weight`: of log(-Q_r), how much more than its mean over actions what is left counts. `sampled`: targets
    are no expectations, and the mean of their logarithms is not wanted; `log` then takes the gamma deviance, which is
    least at the mean of what it is given, at any scale.
    """
    if output == "log":
        target = target.clamp(max=-math.exp(-BOUND))  # nearer to 0, as at the end, no prediction comes
        if sampled:
            ratio = target / prediction
            each = ratio - 1 - torch.log(ratio)
            return each.mean() if weight is None else (weight * each).mean()
        error = torch.log(-prediction) - torch.log(-target)
        mean = error.mean(1, keepdim=True)
        squares = mean.square() + difference_weight * (error - mean).square()
        return squares.mean() if weight is None else (weight * squares).mean()
    if output == "z":
        return squared(to_z(prediction, z_power), to_z(target, z_power), weight)
    return squared(prediction, target, weight)


def y_of(
    x: Float[Tensor, "n H"], xi: float, aggregate: Literal["mean", "sum"], chosen: Tensor | None = None
) -> Float[Tensor, "n"]:
    """y of U_r = -y^eta: E_h X_h^(-xi), at least 1. `chosen` (n, k): numbers of the humans that stand for all of them.

    A random subset's mean is unbiased for that of all; for `sum` it is scaled up.
    """
    inverse = x**-xi
    of = inverse if chosen is None else torch.gather(inverse, 1, chosen)
    return of.mean(1) if aggregate == "mean" else of.mean(1) * x.shape[1]


def importance(actions: Float[Tensor, "n *k"], behaviour: Float[Tensor, "n *#k"], clip: float) -> Float[Tensor, "n *k"]:
    """Probability wanted over probability given, at most `clip`."""
    return (actions / behaviour.clamp(min=1e-8)).clamp(max=clip)
