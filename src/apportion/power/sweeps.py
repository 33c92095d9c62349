"""One sweep: the values of states [0, n) from those of their successors, in chunks, so that memory stays bounded.

Letters as in equations.py; here K = H * G, and m states follow on n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.power import equations as eq
from apportion.power.compiled import Compiled
from apportion.power.kernel import Kernel
from apportion.power.params import PowerParams
from apportion.types import UserError


class Shape(NamedTuple):
    """Columns of a layer kept as one table: v_m, v_e (H * G each), x (H), u, q, pi (R each), v."""

    humans: int
    goals: int
    robot_actions: int

    @property
    def columns(self) -> int:
        return 2 * self.humans * self.goals + self.humans + 2 * self.robot_actions + 2


def shape_of(compiled: Compiled) -> Shape:
    return Shape(len(compiled.humans), len(compiled.goal_weights), compiled.robot_actions)


@dataclass(frozen=True)
class Layer:
    """The values of states [0, n) at one time."""

    v_m: Float[np.ndarray, "n H G"]  # V_h^m, what the human prior expects, [0, 1]
    v_e: Float[np.ndarray, "n H G"]  # V_h^e, what the robot's policy makes of it, [0, 1]
    x: Float[np.ndarray, "n H"]  # X_h, [0, 1]; power in bits is log2 of it
    u: Float[np.ndarray, "n"]  # U_r, at most -1; 0 at the end
    q: Float[np.ndarray, "n R"]  # Q_r of each joint action of the robots, below 0
    pi: Float[np.ndarray, "n R"]  # pi_r, or the policy that was evaluated
    v: Float[np.ndarray, "n"]  # V_r, below 0

    @property
    def n(self) -> int:
        return len(self.v)

    @property
    def bits(self) -> Float[np.ndarray, "n H"]:
        """Power in bits, log2 X_h; -inf where X_h is 0."""
        with np.errstate(divide="ignore"):
            return np.log2(self.x)


def layer(table: np.ndarray, shape: Shape) -> Layer:
    """Views of a table (n, shape.columns)."""
    h, g, r = shape
    edges = np.cumsum([h * g, h * g, h, 1, r, r, 1])[:-1]
    v_m, v_e, x, u, q, pi, v = np.split(table, edges, axis=1)
    per_goal = (len(table), h, g)
    return Layer(v_m.reshape(per_goal), v_e.reshape(per_goal), x, u[:, 0], q, pi, v[:, 0])


def end_table(n: int, shape: Shape) -> np.ndarray:
    """At the horizon: nothing is reached any more, V_r is just below 0, and nobody acts (pi_r uniform)."""
    table = np.zeros((n, shape.columns))
    end = layer(table, shape)
    end.q[:] = eq.END
    end.pi[:] = 1 / shape.robot_actions
    end.v[:] = eq.END
    return table


def chunk_states(kernel: Kernel, chunk_bytes: int) -> int:
    """How many states a chunk may hold: about three numbers per joint action, human and goal are alive at once."""
    _, humans, goals = kernel.attained.shape
    each = 3 * 8 * kernel.human_actions * kernel.robot_actions * (humans * goals + 1)
    return max(1, chunk_bytes // each)


class Arrival(NamedTuple):
    """What arriving in each of m states is worth to the humans."""

    prior: Float[Tensor, "m K"]
    effective: Float[Tensor, "m K"]
    robot: Float[Tensor, "m 1"]


def arrival(kernel: Kernel, params: PowerParams, following: Layer) -> Arrival:
    """From the layer of the time after, whose states are [0, m)."""
    attained = kernel.attained[: following.n]
    prior, effective = (
        eq.first_attainment(attained, on(kernel, values), params.gamma_h).flatten(1)
        for values in (following.v_m, following.v_e)
    )
    return Arrival(prior, effective, on(kernel, following.v)[:, None])


def on(kernel: Kernel, values: np.ndarray) -> Tensor:
    """float64 values, contiguous, on the kernel's device."""
    return torch.tensor(np.ascontiguousarray(values, np.float64), device=kernel.device)


def phase_one(
    kernel: Kernel, params: PowerParams, a: int, b: int, prior: Float[Tensor, "m K"]
) -> tuple[list[Tensor], Float[Tensor, "n H G"]]:
    """pi_h of each human, (n, G, A) each, and V_h^m, for states a to b."""
    goals = len(kernel.weights)
    believed = eq.over_robots(kernel.expected(a, b, prior), params.robot_belief)
    policies, values = [], []
    for human, still in enumerate(kernel.still):
        q = eq.human_q(believed[:, :, human * goals : (human + 1) * goals], kernel.sizes, human)
        attained = kernel.attained[a:b, human]
        policies.append(eq.human_policy(q, attained, params.beta_h, still, params.nu_h))
        values.append(eq.human_value(policies[-1], q, attained))
    value = torch.stack(values, 1)
    return policies, torch.where(kernel.terminal[a:b, None, None], 0.0, value)


class Outcome(NamedTuple):
    """Phase 2 of n states."""

    v_e: Float[Tensor, "n H G"]
    x: Float[Tensor, "n H"]
    u: Float[Tensor, "n"]
    q: Float[Tensor, "n R"]
    pi: Float[Tensor, "n R"]
    v: Float[Tensor, "n"]


def phase_two(
    kernel: Kernel,
    params: PowerParams,
    a: int,
    b: int,
    policies: list[Tensor],
    arriving: Arrival,
    pi: Float[Tensor, "n R"] | None = None,
    last: bool = False,
) -> Outcome:
    """Q_r, pi_r (or a given `pi`), V_h^e, X_h, U_r, V_r of states a to b, in this order. `last`: the end comes next."""
    over = kernel.terminal[a:b]
    marginals = [eq.marginal(policy, kernel.weights) for policy in policies]
    q = eq.robot_q(kernel.expected(a, b, arriving.robot)[..., 0], eq.joint(marginals), params.gamma_r)
    q = torch.full_like(q, params.gamma_r * eq.END) if last else torch.where(over[:, None], eq.END, q)
    pi = eq.robot_policy(q, params.beta_r) if pi is None else pi
    expected = kernel.expected_under(a, b, arriving.effective, pi)
    attained = eq.attainments(expected, policies, marginals, kernel.sizes)
    v_e = torch.where(over[:, None, None], 0.0, attained)
    x = eq.power(v_e, kernel.weights, params.zeta).clamp(min=params.x_floor)
    u = torch.where(over, 0.0, eq.robot_reward(x, params.xi, params.eta, params.aggregate))
    weight = eq.duration_weight(params.gamma_r) if params.duration_weight else 1.0
    v = torch.where(over, eq.END, eq.robot_value(u, pi, q, weight))
    return Outcome(v_e, x, u, q, pi, v)


def sweep(
    kernel: Kernel,
    params: PowerParams,
    following: Layer,
    n: int,
    chunk: int,
    policy: np.ndarray | None = None,
    last: bool = False,
) -> np.ndarray:
    """The table (n, columns) of states [0, n), from the layer of the time after; `policy` (n, R): evaluate it."""
    arriving = arrival(kernel, params, following)
    _, humans, goals = kernel.attained.shape
    table = np.empty((n, Shape(humans, goals, kernel.robot_actions).columns))
    for a in range(0, n, chunk):
        b = min(a + chunk, n)
        policies, v_m = phase_one(kernel, params, a, b, arriving.prior)
        pi = None if policy is None else on(kernel, policy[a:b])
        done = phase_two(kernel, params, a, b, policies, arriving, pi, last)
        parts = (v_m.flatten(1), done.v_e.flatten(1), done.x, done.u[:, None], done.q, done.pi, done.v[:, None])
        torch.from_numpy(table[a:b]).copy_(torch.cat(parts, 1))
    return table


def check_power(solved: Layer, when: str, possible: Bool[np.ndarray, "n"] | None = None) -> None:
    """Raises UserError where U_r is infinite: a human can reach nothing there. `possible`: which states matter."""
    bad = np.flatnonzero(~np.isfinite(solved.v))
    bad = bad if possible is None else bad[possible[bad]]
    if len(bad):
        human = int(np.argmin(solved.x[bad[0]]))
        raise UserError(
            f"human {human} can reach none of its goals in state {bad[0]} {when} ({len(bad)} such states), so U_r is "
            "minus infinity: let the goals cover every cell where a human can be, or give a floor, like x_floor=1e-6"
        )
