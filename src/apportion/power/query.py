"""Exact values of described states, in the format of the published reference values, and a comparison with those."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from apportion.power import equations as eq
from apportion.power.asked import SUMS, asked_states, joint_action, parsed, sample_time, step_count
from apportion.power.compiled import Compiled
from apportion.power.reach import states_at
from apportion.power.solution import Solution
from apportion.power.world import World
from apportion.types import UserError

TOLERANCE = 1e-6  # relative: what --compare allows
SMALL = 1e-9  # numbers below this are compared as they are, not relatively


class Difference(NamedTuple):
    """The largest difference in all numbers of one field."""

    field: str
    absolute: float
    relative: float
    where: str


class Finder:
    """Which compiled state a row of numbers is."""

    def __init__(self, compiled: Compiled):
        self._compiled = compiled
        rows = np.ascontiguousarray(compiled.states)
        self._known = {row.tobytes(): i for i, row in enumerate(rows)}

    def find(self, state: np.ndarray, t: int, what: str) -> int:
        """Raises UserError if t steps from the start cannot lead there. `what` names the state in the message."""
        number = self._known.get(np.ascontiguousarray(state, self._compiled.states.dtype).tobytes())
        if number is None:
            raise UserError(f"{what}: the start does not lead to this state")
        horizon = self._compiled.horizon
        if horizon is not None and not 0 <= t <= horizon:
            raise UserError(f"{what}: step_count {t} is not in [0, {horizon}]")
        if number >= self._compiled.reached(t):
            raise UserError(f"{what}: {t} steps from the start do not lead to this state")
        return number


def describe(world: World, solution: Solution, t: int, number: int) -> dict[str, Any]:
    """Everything about one state at one time, in the reference's fields."""
    compiled, params = solution.compiled, solution.params
    at, over = solution.at(t), t == compiled.horizon or bool(compiled.terminal[number])
    head: dict[str, Any] = {} if compiled.horizon is None else {"step_count": t}
    head |= {**world.describe(compiled.states[number]), "terminal": over}
    names = [str(h) for h in compiled.humans]
    goals = world.goals

    def per_goal(values: np.ndarray) -> dict[str, dict[str, Any]]:
        return {h: dict(zip(goals, row.tolist(), strict=True)) for h, row in zip(names, values, strict=True)}

    if over:
        return {**head, "V_r": float(at.v[number])}
    policies = solution.human_policy(t, np.array([number]))[0]
    weight = eq.duration_weight(params.gamma_r) if params.duration_weight else 1.0
    own = [policies[i, :, : compiled.n_actions[h]] for i, h in enumerate(compiled.humans)]
    return {
        **head,
        "V_r": float(at.v[number]),
        "robot_action_profiles": robot_profiles(compiled),
        "Q_r": at.q[number].tolist(),
        "pi_r": at.pi[number].tolist(),
        "V_h_e": per_goal(at.v_e[number]),
        "V_h_m": per_goal(at.v_m[number]),
        "pi_h_goal": {h: dict(zip(goals, pi.tolist(), strict=True)) for h, pi in zip(names, own, strict=True)},
        "pi_h_marginal": {h: (compiled.goal_weights @ pi).tolist() for h, pi in zip(names, own, strict=True)},
        "X_h": dict(zip(names, at.x[number].tolist(), strict=True)),
        "U_r": float(at.u[number]),
        "V_r_check": float(weight * at.u[number] + at.pi[number] @ at.q[number]),
    }


def robot_profiles(compiled: Compiled) -> list[list[int]]:
    """The robots' joint actions in the order of Q_r and pi_r: the first robot's changes slowest."""
    return [list(p) for p in itertools.product(*(range(compiled.n_actions[r]) for r in compiled.robots))]


def answer(world: World, solution: Solution, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is asked for, in the same places, and what a reference file tells of the whole world."""
    compiled, params = solution.compiled, solution.params
    finder = Finder(compiled)
    found: dict[str, Any] = {"mode": "f64"} | ({"config": asked["config"]} if "config" in asked else {})
    found |= {
        "params": {k: v if v != math.inf else "inf" for k, v in asdict(params).items()},
        "duration_weight_on_U_r": eq.duration_weight(params.gamma_r) if params.duration_weight else 1.0,
        "num_agents": len(compiled.n_actions),
        "human_agent_indices": list(compiled.humans),
        "robot_agent_indices": list(compiled.robots),
        "num_actions": compiled.n_actions[0] if len(set(compiled.n_actions)) == 1 else list(compiled.n_actions),
    }
    if compiled.horizon is not None:
        found |= _counts(solution)
    for what, description in asked_states(asked):
        t = step_count(compiled, description, what)
        one = describe(world, solution, t, finder.find(parsed(world, description, what), t, what))
        if what == "initial_state":
            found[what] = one
        else:
            found.setdefault("other_states", []).append(one)
    if "transition_samples" in asked:
        found["transition_samples"] = [
            _sample(world, sample, f"transition_samples[{i}]") for i, sample in enumerate(asked["transition_samples"])
        ]
    return found


def _counts(solution: Solution) -> dict[str, Any]:
    """Sizes and sums over all states with their times, as the reference counts them."""
    compiled, per_step = solution.compiled, list(states_at(solution.compiled))
    joint, counts = compiled.joint_actions, np.diff(compiled.indptr).reshape(compiled.expanded, -1)
    sums = {"sum_V_r_nonterminal": 0.0, "min_V_r": 0.0, "sum_V_h_e": 0.0, "sum_pi_r_squared": 0.0}
    most, alive, edges, stochastic, over = 0.0, 0, 0, 0, len(per_step[-1])
    for t, reached in enumerate(per_step[:-1]):
        states = reached[~compiled.terminal[reached]]
        at = solution.at(t)
        sums["sum_V_r_nonterminal"] += float(at.v[states].sum())
        sums["min_V_r"] = min(sums["min_V_r"], float(at.v[states].min(initial=0.0)))
        sums["sum_V_h_e"] += float(at.v_e[states].sum())
        sums["sum_pi_r_squared"] += float((at.pi[states] ** 2).sum())
        most += float(at.pi[states].max(1).sum())
        alive, over = alive + len(states), over + len(reached) - len(states)
        edges += int(counts[states].sum())
        stochastic += int((counts[states] > 1).sum())
    return {
        "num_states": alive + over,
        "num_terminal_states": over,
        "num_state_action_profiles": alive * joint,
        "num_transition_edges": edges,
        "num_stochastic_profiles": stochastic,
        "states_per_step": {str(t): len(states) for t, states in enumerate(per_step)},
        "aggregates": {**sums, "mean_max_pi_r": most / max(1, alive)},
    }


def _sample(world: World, sample: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Where one joint action leads, the likeliest first; the successors carry the next step count."""
    state, t = parsed(world, sample["state"], f"{what}.state"), sample_time(sample["state"], what)
    later = {} if t is None else {"step_count": t + 1}
    rows, probs = world.transitions(state, joint_action(world, sample["actions"], what))
    outcomes = [{"p": float(p), "state": {**later, **world.describe(row)}} for row, p in zip(rows, probs, strict=True)]
    return {"state": sample["state"], "actions": sample["actions"], "outcomes": outcomes}


def compare(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[Difference]:
    """The largest difference of each field of the reference; infinite where something is missing or no number."""
    worst: dict[str, Difference] = {}
    for field, where, a, b in _pairs(wanted, found):
        if isinstance(a, bool | str) or a is None or not isinstance(b, int | float) or isinstance(b, bool):
            absolute = relative = 0.0 if a == b and isinstance(a, bool) == isinstance(b, bool) else math.inf
        elif not (math.isfinite(a) and math.isfinite(b)):
            absolute = relative = 0.0 if a == b else math.inf
        else:
            absolute = abs(a - b)
            relative = absolute / max(abs(a), SMALL) if absolute > SMALL * TOLERANCE else 0.0
        if field not in worst or relative > worst[field].relative:
            worst[field] = Difference(field, absolute, relative, where)
    return list(worst.values())


def _pairs(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[tuple[str, str, Any, Any]]:
    """(field, where, the reference's value, ours) of every leaf that a reference file and ours should share."""
    for field in (*SUMS, "duration_weight_on_U_r"):
        if field in wanted:
            yield from _leaves(field, field, wanted[field], found.get(field))
    ours = dict(asked_states(found))
    for where, state in asked_states(wanted):
        for field, value in state.items():
            name = field if field not in ("agents", "mobile_objects", "mutable_objects") else "state"
            yield from _leaves(name, f"{where}.{field}", value, ours[where].get(field))
    for i, sample in enumerate(wanted.get("transition_samples", [])):
        theirs, mine = (
            {_key(outcome["state"]): outcome["p"] for outcome in each["outcomes"]}
            for each in (sample, found["transition_samples"][i])
        )
        yield from _leaves("transitions", f"transition_samples[{i}]", theirs, mine)


def _key(state: Mapping[str, Any]) -> str:
    return json.dumps(state, sort_keys=True)


def _leaves(field: str, where: str, a: Any, b: Any) -> Iterator[tuple[str, str, Any, Any]]:
    if isinstance(a, Mapping):
        same = isinstance(b, Mapping) and a.keys() == b.keys()
        pairs = [(f"{where}.{k}", a[k], b[k]) for k in a] if same else []
    elif isinstance(a, list):
        same = isinstance(b, list) and len(a) == len(b)
        pairs = [(f"{where}[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b, strict=False))] if same else []
    else:
        yield field, where, a, b
        return
    if not same:
        yield field, where, "", None  # something is missing
    for deeper, x, y in pairs:
        yield from _leaves(field, deeper, x, y)
