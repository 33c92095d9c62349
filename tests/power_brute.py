"""Human power by brute force: dictionaries over (step, state), plain floats, the specification's formulas one by one.

Works on anything with `start`, `horizon`, `humans`, `robots`, `n_actions` and `still` (per agent), `goals`,
`successors(state, joint)` and `attained(state, human, goal)`: the oracle's grid worlds, or a table of transitions.
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

END = -1e-10  # V_r at the horizon: 0-, so that the power law stays defined


class Values(NamedTuple):
    """What holds in one state with some steps to go. Keys: human, (human, goal), robot joint action."""

    v_m: dict
    pi_h: dict  # (human, goal): probabilities of actions
    v_e: dict
    x: dict
    u: float
    q: list
    pi: list
    v: float


class Params(NamedTuple):
    gamma_h: float = 0.99
    gamma_r: float = 0.99
    beta_h: float = 10.0
    beta_r: float = 10.0
    zeta: float = 2.0
    xi: float = 1.0
    eta: float = 1.1
    nu_h: float = 0.0
    robot_belief: str = "min"
    aggregate: str = "mean"
    x_floor: float = 0.0


def all_joints(world):
    """The joint actions, the last agent's fastest."""
    return list(product(*(range(n) for n in world.n_actions)))


def profiles(world):
    """The robots' joint actions, the first robot's slowest."""
    return list(product(*(range(world.n_actions[r]) for r in world.robots)))


def reachable(world, horizon):
    """For t = 0 .. horizon, the set of states that t steps can lead to; and all transitions on the way."""
    layers, moves = [{world.start}], {}
    for _ in range(horizon):
        following = set()
        for state in layers[-1]:
            if state not in moves:
                moves[state] = {joint: world.successors(state, joint) for joint in all_joints(world)}
            following.update(after for outcomes in moves[state].values() for after in outcomes)
        layers.append(following)
    return layers, moves


def solve(world, params=None, horizon=None, weights=None, policy=None):
    """[{state: Values}] for t = 0 .. horizon - 1. policy(t, state): the robots' probabilities, instead of (5)."""
    params = params or Params()
    horizon = world.horizon if horizon is None else horizon
    goals = range(len(world.goals))
    weights = weights or [1 / len(world.goals)] * len(world.goals)
    layers, moves = reachable(world, horizon)
    answer, later = [], None
    for t in reversed(range(horizon)):
        here = {}
        for state in layers[t]:
            given = None if policy is None else policy(t, state)
            here[state] = values_at(world, params, goals, weights, state, moves[state], later, given)
        answer.append(here)
        later = here
    return answer[::-1]


def values_at(world, params, goals, weights, state, moves, later, policy):
    """Phase 1 and Phase 2 at one state, in the order Q_r, pi_r, V_h^e, X_h, U_r, V_r."""
    v_m, pi_h = {}, {}
    for h in world.humans:
        for g in goals:
            v_m[h, g], pi_h[h, g] = prior(world, params, h, g, state, moves, later)
    pibar = {}
    for h in world.humans:
        pibar[h] = [sum(weights[g] * pi_h[h, g][a] for g in goals) for a in range(world.n_actions[h])]
    q = [params.gamma_r * expected_v(world, pibar, profile, moves, later) for profile in profiles(world)]
    if later is None:
        q = [params.gamma_r * END] * len(q)
    pi = policy or softmax([-math.log(-value) for value in q], params.beta_r)
    pi_r, v_e = dict(zip(profiles(world), pi, strict=True)), {}
    for h in world.humans:
        for g in goals:
            v_e[h, g] = effective(world, params, h, g, pibar, pi_h[h, g], pi_r, moves, later)
    x = {h: max(params.x_floor, sum(weights[g] * v_e[h, g] ** params.zeta for g in goals)) for h in world.humans}
    total = sum(value**-params.xi for value in x.values())
    u = -((total if params.aggregate == "sum" else total / len(x)) ** params.eta)
    return Values(v_m, pi_h, v_e, x, u, q, pi, u + sum(p * value for p, value in zip(pi, q, strict=True)))


def joints(world, given):
    """All joint actions in which agent i does given[i], for the agents in `given`."""
    for joint in all_joints(world):
        if all(joint[i] == a for i, a in given.items()):
            yield joint


def prior(world, params, h, g, state, moves, later):
    """Phase 1: V_h^m and pi_h of one human and goal."""
    n = world.n_actions[h]
    if world.attained(state, h, g):
        stays = world.still[h] is not None
        return 0.0, [float(a == world.still[h]) if stays else 1 / n for a in range(n)]
    others = [j for j in world.humans if j != h]
    belief = {"min": min, "max": max, "mean": lambda values: sum(values) / len(values)}[params.robot_belief]
    q = []
    for a in range(n):
        over_others = []
        for theirs in product(*(range(world.n_actions[j]) for j in others)):
            given = dict(zip(others, theirs, strict=True)) | {h: a}
            over_others.append(
                belief([first_attainment(world, params, h, g, "v_m", moves[j], later) for j in joints(world, given)])
            )
        q.append(sum(over_others) / len(over_others))
    pi = [params.nu_h / n + (1 - params.nu_h) * p for p in softmax(q, params.beta_h)]
    return sum(p * value for p, value in zip(pi, q, strict=True)), pi


def first_attainment(world, params, h, g, field, outcomes, later):
    """E_{s'} (1 if the goal holds in s', else gamma_h V(s')); nothing after the horizon."""
    total = 0.0
    for after, p in outcomes.items():
        if world.attained(after, h, g):
            total += p
        elif later is not None:
            total += p * params.gamma_h * getattr(later[after], field)[h, g]
    return total


def expected_v(world, pibar, profile, moves, later):
    """E_{a_H ~ prod pibar} E_{s'} V_r(s') under one robot joint action."""
    total = 0.0
    for joint in joints(world, dict(zip(world.robots, profile, strict=True))):
        p_humans = math.prod(pibar[h][joint[h]] for h in world.humans)
        for after, p in moves[joint].items():
            total += p_humans * p * (END if later is None else later[after].v)
    return total


def effective(world, params, h, g, pibar, pi_h, pi_r, moves, later):
    """(6): human h pursues goal g, the others do what they do on average, the robots follow pi_r."""
    total = 0.0
    for joint, outcomes in moves.items():
        p = pi_h[joint[h]] * pi_r[tuple(joint[r] for r in world.robots)]
        p *= math.prod(pibar[j][joint[j]] for j in world.humans if j != h)
        if p > 0:
            total += p * first_attainment(world, params, h, g, "v_e", outcomes, later)
    return total


def softmax(values, beta):
    """exp(beta v), normalised; beta = inf: uniform over the largest."""
    top = max(values)
    if beta == math.inf:
        best = [float(value >= top - 1e-12) for value in values]
        return [b / sum(best) for b in best]
    weights = [math.exp(beta * (value - top)) for value in values]
    return [w / sum(weights) for w in weights]
