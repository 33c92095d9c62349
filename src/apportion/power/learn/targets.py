"""What the estimators learn towards, worked out from the world, the human prior and the target networks.

With the model: the exact solver's equations, on a batch of states. With samples: the successor that was seen, weighted
by how likely everybody's actions are under the policies that the equations mean, not those that were explored with.
Letters as in equations.py: n states of the batch, m successors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from apportion.power import equations as eq
from apportion.power.kernel import Kernel
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.losses import importance, y_of
from apportion.power.learn.networks import Estimators
from apportion.power.params import PowerParams


@dataclass(frozen=True)
class Nodes:
    """States at times, as the estimators take them. `last`: nobody acts after this step; `over`: nobody acts at all."""

    features: Float[Tensor, "n E"]
    attained: Bool[Tensor, "n H G"]
    last: Bool[Tensor, "n"]
    over: Bool[Tensor, "n"]


@dataclass(frozen=True)
class Values:
    """What the estimators say of n states, with what is known for sure in its place."""

    v_e: Float[Tensor, "n H G"]
    x: Float[Tensor, "n H"]
    y: Float[Tensor, "n"]
    q: Float[Tensor, "n R"]
    pi: Float[Tensor, "n R"]
    v: Float[Tensor, "n"]

    def u(self, eta: float) -> Float[Tensor, "n"]:
        """(8)."""
        return -(self.y**eta)


@dataclass(frozen=True)
class How:
    """Which values are estimated, and which follow directly from others."""

    params: PowerParams
    x_network: bool
    u_network: bool
    v_network: bool

    @classmethod
    def of(cls, config: Phase2Config) -> How:
        return cls(config.params, config.x_h_use_network, config.u_r_use_network, config.v_r_use_network)


@dataclass(frozen=True)
class Targets:
    """Of V_h^e and Q_r; a weight of 0 or more for each (None: all alike)."""

    v_e: Float[Tensor, "n H G"]
    q: Float[Tensor, "n R"]
    v_e_weight: Float[Tensor, "n H G"] | None
    q_weight: Float[Tensor, "n R"] | None


def values(
    nets: Estimators, nodes: Nodes, how: How, weights: Float[Tensor, "G"], beta_r: float, robots: bool = True
) -> Values:
    """V_h^e, X_h, U_r, Q_r, pi_r, V_r of n states. `robots` False: V_h^e and X_h alone; pi_r is uniform, the rest 0."""
    params = how.params
    code = nets.encode(nodes.features)
    over = nodes.over[:, None]
    v_e = torch.where(over[..., None], 0.0, nets.v_h_e(code))
    x = (nets.x_h(code) if how.x_network else eq.power(v_e, weights, params.zeta)).clamp(min=max(params.x_floor, 1e-6))
    if not robots:
        n, actions = len(x), nets.sizes.robot_actions
        nothing, q = torch.zeros(n, device=x.device), torch.zeros(n, actions, device=x.device)
        return Values(v_e, x, nothing, q, torch.full_like(q, 1 / actions), nothing)
    y = nets.u_r(code) if how.u_network else y_of(x, params.xi, params.aggregate)
    q = torch.where((nodes.last | nodes.over)[:, None], eq.END, nets.q_r(code))
    pi = eq.robot_policy(q, beta_r)
    if how.v_network:
        v = nets.v_r(code)
    else:
        weight = eq.duration_weight(params.gamma_r) if params.duration_weight else 1.0
        v = eq.robot_value(-(y**params.eta), pi, q, weight)
    return Values(v_e, x, y, q, pi, torch.where(nodes.over, eq.END, v))


def policy(nets: Estimators, nodes: Nodes, beta_r: float) -> Float[Tensor, "n R"]:
    """(5); uniform while beta_r is 0, and where the end comes next."""
    if beta_r == 0:
        actions = nets.sizes.robot_actions
        return torch.full((len(nodes.last), actions), 1 / actions, device=nodes.last.device)
    q = nets.q_r(nets.encode(nodes.features))
    return eq.robot_policy(torch.where((nodes.last | nodes.over)[:, None], eq.END, q), beta_r)


def from_model(
    kernel: Kernel,
    following: Nodes,
    ahead: Values,
    pi: Float[Tensor, "n R"],
    prior: list[Float[Tensor, "n G A"]],
    params: PowerParams,
    robots: bool,
) -> Targets:
    """(4) and (6), for all robot actions, over all successors. `kernel`: the batch's, its states 0 to n, columns m."""
    n = len(pi)
    marginals = [eq.marginal(each, kernel.weights) for each in prior]
    arriving = eq.first_attainment(following.attained, ahead.v_e, params.gamma_h).flatten(1)
    expected = kernel.expected_under(0, n, arriving, pi)
    v_e = eq.attainments(expected, prior, marginals, kernel.sizes)
    q = pi
    if robots:
        expected_v = kernel.expected(0, n, ahead.v[:, None])[..., 0]
        q = eq.robot_q(expected_v, eq.joint(marginals), params.gamma_r)
    return Targets(v_e, q, None, None)


def from_samples(
    following: Nodes,
    ahead: Values,
    pi: Float[Tensor, "n R"],
    prior: list[Float[Tensor, "n G A"]],
    weights: Float[Tensor, "G"],
    taken: Taken,
    params: PowerParams,
    clip: float,
) -> Targets:
    """(4) and (6) by the one successor of each state, whose importance weights make its mean the expectation wanted."""
    arriving = eq.first_attainment(following.attained, ahead.v_e, params.gamma_h)
    rows = torch.arange(len(pi), device=pi.device)
    by_goal = [each[rows, :, taken.humans[:, h]] for h, each in enumerate(prior)]  # (n, G)
    unknown = [(each * weights).sum(1) for each in by_goal]  # pibar_h
    robot = importance(pi[rows, taken.robots], taken.robot_prob, clip)
    others = [importance(of, taken.human_prob[:, h], clip) for h, of in enumerate(unknown)]
    v_e_weight = []
    for human, each in enumerate(by_goal):
        own = importance(each, taken.human_prob[:, human, None], clip)
        rest = robot
        for other, factor in enumerate(others):
            rest = rest if other == human else rest * factor
        v_e_weight.append((own * rest[:, None]).clamp(max=clip))
    humans = torch.stack(others).prod(0).clamp(max=clip)
    q_weight = torch.zeros_like(pi)
    q_weight[rows, taken.robots] = humans
    q = (params.gamma_r * ahead.v)[:, None].expand_as(pi)
    return Targets(arriving, q, torch.stack(v_e_weight, 1), q_weight)


@dataclass(frozen=True)
class Taken:
    """What was done, and how likely that was: each human's action and the robots' joint action."""

    humans: Int[Tensor, "n H"]
    human_prob: Float[Tensor, "n H"]
    robots: Int[Tensor, "n"]
    robot_prob: Float[Tensor, "n"]
