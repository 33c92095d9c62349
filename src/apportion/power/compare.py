"""Our objective beside others on the same world: what each policy leaves the humans, by our measures and by theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apportion.power.baselines import OBJECTIVES, STEPS, Objective, Rewards
from apportion.power.compiled import Compiled
from apportion.power.evaluate import share
from apportion.power.params import PowerParams
from apportion.power.planning import Policy, do_nothing, make_crowd, plan, returns, solved, uniform
from apportion.power.solution import Solution
from apportion.power.solve import Progress, evaluate, solve
from apportion.types import UserError

OURS, UNIFORM, NOTHING = "power", "uniform", "do-nothing"


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

    def at_whose_cost(self, policy: str, margin: float = 1e-3) -> tuple[int, ...]:
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
    for other in (also or {}).values():
        _same_humans(params, other)
    machine: Any = {"device": device, "memory_limit": memory_limit, "progress": progress}
    ours = solve(compiled, params, **machine)
    crowd, rewards = make_crowd(ours), Rewards(compiled, objectives, user, steps)
    planned = plan(crowd, rewards)
    policies: dict[str, Policy] = {}
    for name, other in (also or {}).items():
        policies[name] = solved(solve(compiled, other, **machine))
    policies |= {objective.name: planned.policy(i) for i, objective in enumerate(rewards.objectives)}
    policies |= {NOTHING: do_nothing(compiled), UNIFORM: uniform(compiled)}
    judged: dict[str, Solution] = {OURS: ours}
    for name, policy in policies.items():
        judged[name] = evaluate(compiled, params, policy, name=name, **machine)
    rows = []
    for name, solution in judged.items():
        layer = solution.at(0)
        earned = returns(crowd, rewards, policies.get(name, solved(ours)))
        rows.append(
            Row(
                policy=name,
                x=tuple(map(float, layer.x[0])),
                bits=tuple(map(float, layer.bits[0])),
                u=float(layer.u[0]),
                v=float(layer.v[0]),
                share=share(solution, judged[UNIFORM], ours),
                returns={o.name: float(r) for o, r in zip(rewards.objectives, earned, strict=True)},
            )
        )
    return Comparison(compiled.name, params, user, steps, tuple(rows))


def _same_humans(params: PowerParams, other: PowerParams) -> None:
    for name in ("gamma_h", "beta_h", "nu_h", "robot_belief"):
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
