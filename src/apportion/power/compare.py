"""Our objective beside others on the same world: what each policy leaves the humans, by our measures and by theirs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from apportion.power.baselines import OBJECTIVES, STEPS, Objective, Rewards
from apportion.power.compiled import Compiled
from apportion.power.evaluate import UNIFORM, share_of
from apportion.power.memory import kept_states, refuse_too_large
from apportion.power.params import PowerParams
from apportion.power.planning import Policy, do_nothing, make_crowd, plan, returns, solved, uniform
from apportion.power.solution import Solution
from apportion.power.solve import CHUNK_BYTES, Progress, evaluate, solve
from apportion.types import UserError

OURS, NOTHING = "power", "do-nothing"
MARGIN = 1e-3  # bits: what counts as a loss, or a gain


@dataclass(frozen=True)
class Row:
    """One policy, judged at the start."""

    policy: str
    x: tuple[float, ...]  # X_h of each human, [0, 1]
    bits: tuple[float, ...]  # log2 X_h
    u: float  # U_r
    v: float  # V_r
    share: float | None  # (V_r - uniform's) / (the solution's - uniform's); None where these are equal
    returns: dict[str, float]  # of each baseline's objective, the expected discounted sum from the start on


@dataclass(frozen=True)
class Comparison:
    """All policies on one world, judged under one set of parameters."""

    world: str
    params: PowerParams
    user: int  # which human the single-user objectives mean
    steps: int  # that empowerment looks ahead
    rows: tuple[Row, ...]

    def row(self, policy: str) -> Row:
        return next(row for row in self.rows if row.policy == policy)

    def gains(self, policy: str) -> tuple[float, ...]:
        """Each human's power in bits, less that beside a robot that does nothing."""
        nothing = self.row(NOTHING).bits
        return tuple(a - b for a, b in zip(self.row(policy).bits, nothing, strict=True))

    def at_whose_cost(self, policy: str, margin: float = MARGIN) -> tuple[int, ...]:
        """The other humans whose power falls, by more than `margin` bits, while the user's rises by more."""
        gains = self.gains(policy)
        if not gains[self.user] > margin:
            return ()
        return tuple(h for h, gain in enumerate(gains) if h != self.user and gain < -margin)


def compare(
    compiled: Compiled,
    params: PowerParams,
    *,
    user: int = 0,
    steps: int = STEPS,
    objectives: Sequence[Objective] = OBJECTIVES,
    also: Mapping[str, PowerParams] | None = None,
    device: str = "cpu",
    memory_limit: int | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Every objective's best policy, ours, doing nothing and acting uniformly, each judged under `params`.

    `also`: more of our own solutions, by name, under other parameters of the robot (xi, eta, zeta, beta_r, gamma_r,
    aggregate). Raises UserError where one of them changes the humans, for all policies are to be among the same people,
    and as `solve` and `Rewards` do.
    """
    same_humans(params, (also or {}).values())
    # held at once: one solution to be judged by another, or ours alone, beside the crowd and the plan
    beside = _beside(compiled, len(objectives), steps)
    refuse_too_large(compiled, CHUNK_BYTES, None, memory_limit, solutions=2 if also else 1, beside=beside)

    def solved_under(own: PowerParams) -> Solution:
        return solve(compiled, own, device=device, memory_limit=memory_limit, progress=progress)

    def judged(name: str, policy: Policy) -> Row:
        limit = memory_limit
        found = evaluate(compiled, params, policy, name=name, device=device, memory_limit=limit, progress=progress)
        return _row(name, found, returns(crowd, rewards, policy), rewards)

    rewards = Rewards(compiled, objectives, user, steps)
    ours = solved_under(params)
    crowd = make_crowd(ours)
    rows = [_row(OURS, ours, returns(crowd, rewards, solved(ours)), rewards)]
    del ours  # its tables make room for the next ones
    for name, other in (also or {}).items():
        rows.append(judged(name, solved(solved_under(other))))
    planned = plan(crowd, rewards)
    rows += [judged(objective.name, planned.policy(i)) for i, objective in enumerate(rewards.objectives)]
    rows += [judged(NOTHING, do_nothing(compiled)), judged(UNIFORM, uniform(compiled))]
    best, worst = rows[0].v, rows[-1].v
    rows = [replace(row, share=share_of(row.v, worst, best)) for row in rows]
    return Comparison(compiled.name, params, user, steps, tuple(rows))


def _row(name: str, solution: Solution, earned: Float[np.ndarray, "O"], rewards: Rewards) -> Row:
    """What is kept of a policy's values; its share follows when the uniform policy has been judged too."""
    layer = solution.at(0)
    return Row(
        policy=name,
        x=tuple(map(float, layer.x[0])),
        bits=tuple(map(float, layer.bits[0])),
        u=float(layer.u[0]),
        v=float(layer.v[0]),
        share=None,
        returns={o.name: float(r) for o, r in zip(rewards.objectives, earned, strict=True)},
    )


def _beside(compiled: Compiled, objectives: int, steps: int) -> int:
    """Bytes of what is held beside solutions: the crowd's marginals, the plan, the objectives' numbers and values."""
    people = sum(compiled.n_actions[human] for human in compiled.humans)
    of_times = kept_states(compiled) * (8 * people + objectives * compiled.robot_actions)
    return of_times + len(compiled.states) * 8 * (steps * (3 * len(compiled.humans) + objectives) + 4 * objectives)


def same_humans(params: PowerParams, others: Iterable[PowerParams]) -> None:
    """Raises UserError where one of the others changes what humans do."""
    for name, other in itertools.product(("gamma_h", "beta_h", "nu_h", "robot_belief"), others):
        if getattr(params, name) != getattr(other, name):
            raise UserError(
                f"{name} changes the humans: policies are compared among the same people, so set it for all"
            )


def as_json(comparison: Comparison, compiled: Compiled) -> dict[str, Any]:
    """The comparison as JSON values."""
    from apportion.power.files import params_json

    return {
        "world": comparison.world,
        "digest": compiled.digest,
        "horizon": compiled.horizon,
        "params": params_json(comparison.params),
        "user": comparison.user,
        "steps": comparison.steps,
        "policies": [
            {
                "policy": row.policy,
                "X_h": list(row.x),
                "bits": list(row.bits),
                "gain_bits": list(comparison.gains(row.policy)),
                "U_r": row.u,
                "V_r": row.v,
                "share": row.share,
                "at_whose_cost": list(comparison.at_whose_cost(row.policy)),
                "returns": row.returns,
            }
            for row in comparison.rows
        ],
    }
