"""The equations of human power (Heitzig & Potham, arXiv 2508.00159), once, as pure functions of tensors.

They know no world, no solver and no network: the leading dimension n is any batch of states. Letters: n states,
H humans, G goals, A actions of one human, B joint actions of all humans (the last one's fastest), R joint actions of
the robots, K columns of any kind. Numbers in brackets are the paper's equations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

TIE = 1e-12  # action values in [0, 1] nearer than this are equal: they differ by rounding only
END = -1e-10  # V_r at the end: 0, but negative, so that the power law of (5) is defined


def first_attainment(
    attained: Bool[Tensor, "n H G"], value: Float[Tensor, "n H G"], gamma_h: float
) -> Float[Tensor, "n H G"]:
    """What arriving in a state is worth: 1 if the goal holds there, else the discounted value, in [0, 1]."""
    return torch.where(attained, 1.0, gamma_h * value)


def over_robots(expected: Float[Tensor, "n B R K"], belief: Literal["min", "max", "mean"]) -> Float[Tensor, "n B K"]:
    """What humans expect if the robots do their worst, their best, or act uniformly."""
    if belief == "min":
        return expected.amin(2)
    return expected.amax(2) if belief == "max" else expected.mean(2)


def human_q(expected: Float[Tensor, "n B G"], sizes: Sequence[int], human: int) -> Float[Tensor, "n G A"]:
    """Q_h^m: the value of each action of one human, the other humans' actions uniform.

    `sizes`: how many actions each human has, their product is B; `human`: which of them.
    """
    n, _, goals = expected.shape
    others = tuple(1 + i for i in range(len(sizes)) if i != human)
    split = expected.reshape(n, *sizes, goals)
    return (split.mean(others) if others else split).transpose(1, 2)


def human_policy(
    q: Float[Tensor, "n G A"],
    attained: Bool[Tensor, "n G"],
    beta_h: float,
    still: int | None,
    nu_h: float = 0.0,
    habit: Float[Tensor, "A"] | None = None,
) -> Float[Tensor, "n G A"]:
    """pi_h(. | s, g) = nu_h pi_h^0 + (1 - nu_h) softmax(beta_h Q_h^m); who has the goal does `still`, or anything.

    `beta_h` inf: uniform over the best actions; `habit`: pi_h^0, uniform if None.
    """
    best = q.amax(-1, keepdim=True)
    if math.isinf(beta_h):
        chosen = (q >= best - TIE).to(q.dtype)
        policy = chosen / chosen.sum(-1, keepdim=True)
    else:
        policy = torch.softmax(beta_h * (q - best), -1)
    if nu_h > 0:
        usual = torch.full_like(q[0, 0], 1 / q.shape[-1]) if habit is None else habit
        policy = nu_h * usual + (1 - nu_h) * policy
    stays = torch.full_like(q[0, 0], 1 / q.shape[-1])
    if still is not None:
        stays = torch.zeros_like(stays)
        stays[still] = 1.0
    return torch.where(attained[..., None], stays, policy)


def human_value(
    policy: Float[Tensor, "n G A"], q: Float[Tensor, "n G A"], attained: Bool[Tensor, "n G"]
) -> Float[Tensor, "n G"]:
    """V_h^m(s, g) = sum_a pi_h(a | s, g) Q_h^m(s, g, a), in [0, 1]; 0 where the goal holds already."""
    return torch.where(attained, 0.0, (policy * q).sum(-1))


def marginal(policy: Float[Tensor, "n G A"], weights: Float[Tensor, "G"]) -> Float[Tensor, "n A"]:
    """What a human does if nobody knows the goal: sum_g w_g pi_h(. | s, g)."""
    return torch.einsum("nga,g->na", policy, weights)


def joint(marginals: Sequence[Float[Tensor, "n _"]], known: int | None = None) -> Float[Tensor, "n B"]:
    """Probabilities of the humans' joint actions: they act independently, given the state.

    With `known`, that human's action is given, not random: its factor is 1.
    """
    product = torch.ones_like(marginals[0][:, :1])
    for human, policy in enumerate(marginals):
        factor = torch.ones_like(policy) if human == known else policy
        product = (product[:, :, None] * factor[:, None, :]).flatten(1)
    return product


def robot_q(expected: Float[Tensor, "n B R"], humans: Float[Tensor, "n B"], gamma_r: float) -> Float[Tensor, "n R"]:
    """(4): Q_r(s, a_r) = gamma_r E V_r(s'), below 0. No reward here: it comes on arrival, inside V_r."""
    return gamma_r * torch.einsum("nbr,nb->nr", expected, humans)


def robot_policy(q: Float[Tensor, "n R"], beta_r: float) -> Float[Tensor, "n R"]:
    """(5): pi_r proportional to (-Q_r)^(-beta_r). The scale of Q_r, which is below 0, does not matter."""
    return torch.softmax(-beta_r * torch.log(-q), -1)


def attainment(
    expected: Float[Tensor, "n B G"],
    policy: Float[Tensor, "n G A"],
    others: Float[Tensor, "n B"],
    sizes: Sequence[int],
    human: int,
) -> Float[Tensor, "n G"]:
    """(6): V_h^e(s, g), the discounted chance that one human reaches each goal, in [0, 1].

    `expected`: of `first_attainment` in the successor, the robots following pi_r; `others`: `joint(..., known=human)`.
    """
    n, _, goals = expected.shape
    before, after = math.prod(sizes[:human]), math.prod(sizes[human + 1 :])
    by_action = (expected * others[:, :, None]).reshape(n, before, sizes[human], after, goals).sum((1, 3))
    return torch.einsum("nag,nga->ng", by_action, policy)


def attainments(
    expected: Float[Tensor, "n B K"],
    policies: Sequence[Float[Tensor, "n G _"]],
    marginals: Sequence[Float[Tensor, "n _"]],
    sizes: Sequence[int],
) -> Float[Tensor, "n H G"]:
    """(6) of every human: `expected` has their goals one human after the other, K = H * G."""
    goals = expected.shape[2] // len(policies)
    each = [
        attainment(
            expected[:, :, human * goals : (human + 1) * goals], policy, joint(marginals, known=human), sizes, human
        )
        for human, policy in enumerate(policies)
    ]
    return torch.stack(each, 1)


def power(value: Float[Tensor, "n H G"], weights: Float[Tensor, "G"], zeta: float) -> Float[Tensor, "n H"]:
    """(7): X_h(s) = sum_g w_g V_h^e(s, g)^zeta, in [0, 1]. In bits: log2 X_h."""
    return torch.einsum("nhg,g->nh", value**zeta, weights)


def robot_reward(
    x: Float[Tensor, "n H"], xi: float, eta: float, aggregate: Literal["mean", "sum"] = "mean"
) -> Float[Tensor, "n"]:
    """(8): U_r(s) = -(mean_h X_h^(-xi))^eta, at most -1; -inf where a human can reach nothing. Paper: the sum."""
    inverse = x**-xi
    return -((inverse.mean(-1) if aggregate == "mean" else inverse.sum(-1)) ** eta)


def robot_value(
    reward: Float[Tensor, "n"], policy: Float[Tensor, "n R"], q: Float[Tensor, "n R"], weight: float = 1.0
) -> Float[Tensor, "n"]:
    """(9): V_r(s) = U_r(s) + sum_{a_r} pi_r(a_r | s) Q_r(s, a_r), below 0. `weight` multiplies U_r."""
    return weight * reward + (policy * q).sum(-1)


def duration_weight(gamma_r: float) -> float:
    """(1 - gamma_r) / -ln gamma_r: U_r's weight over a step of continuous time; 1 if gamma_r is 1."""
    return 1.0 if gamma_r == 1 else (1 - gamma_r) / -math.log(gamma_r)
