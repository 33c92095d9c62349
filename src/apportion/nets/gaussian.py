"""The tanh-squashed Gaussian of soft actor-critic."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LOG_STD_MIN, LOG_STD_MAX = math.log(1e-2), 2.0  # the RRD release floors the deviation at 0.01


def sample(
    params: Float[Tensor, "n params"], noise: Float[Tensor, "n a"]
) -> tuple[Float[Tensor, "n a"], Float[Tensor, "n"]]:
    """Action tanh(mean + std * noise) and its log-density (appendix C of Haarnoja et al. 2018, arXiv 1801.01290).

    The log of tanh's derivative is taken as 2 (log 2 - u - softplus(-2u)), exact where 1 - tanh(u)^2 rounds to 0. The
    deviation is floored once, for the sample and the density alike.
    """
    mean, log_std = params.chunk(2, dim=-1)
    log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
    pre = mean + log_std.exp() * noise
    normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    squash = 2 * (math.log(2) - pre - F.softplus(-2 * pre))
    return torch.tanh(pre), (normal - squash).sum(-1)


def mode(params: Float[Tensor, "n params"]) -> Float[Tensor, "n a"]:
    """The deterministic action."""
    return torch.tanh(params.chunk(2, dim=-1)[0])
