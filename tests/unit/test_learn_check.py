"""Errors of learned values against the exact solution, held against loops in plain Python."""

import dataclasses
import math

import numpy as np
import pytest

from apportion.power.enumerate import enumerate_world
from apportion.power.learn.check import ExactCheck, Learned, occupancy
from apportion.power.params import PowerParams
from apportion.power.solve import evaluate, solve
from apportion.types import UserError
from power_table import TableWorld, random_world

PARAMS = PowerParams(gamma_h=0.9, gamma_r=0.9, beta_r=3.0, x_floor=1e-3)


def drawn(seed=0, horizon: int | None = 4, humans=(0, 2), robots=(1,)):
    world = random_world(seed, 6, (2, 3, 2), humans, robots, horizon=horizon)
    world.ends = (5,)
    return world


def numbers_of(check, states):
    return [int(np.flatnonzero(check.compiled.states[:, 0] == row[0])[0]) for row in states]


def exactly(check, change=lambda t, s, values: values):
    """A learner that knows the solution, each state's values changed by `change(t, s, Learned)`."""

    def values(states, t):
        found = []
        for s, time in zip(numbers_of(check, states), t, strict=True):
            at = check.solution.at(int(time))
            found.append(change(int(time), s, Learned(at.v_e[s], at.x[s], at.q[s], at.pi[s])))
        return Learned(*(np.stack(each) for each in zip(*found, strict=True)))

    return values


def noisy(t, s, values):
    """Other values for each state and time, the same whenever one asks."""
    rng = np.random.default_rng(1000 * t + s)
    pi = values.pi + rng.random(values.pi.shape)
    q = values.q * (1 + rng.random(values.q.shape))
    return Learned(values.v_e + rng.random(values.v_e.shape), values.x * 0.5, q, pi / pi.sum())


def pairs(world, compiled):
    """[(t, state)] that can be with the time still running and the episode not over, by hand."""
    now, out = {0}, []
    place = {int(row[0]): s for s, row in enumerate(compiled.states)}
    name = {s: n for n, s in place.items()}
    for t in range(world.horizon):
        now = {s for s in now if name[s] not in world.ends}
        out += [(t, s) for s in sorted(now)]
        joints = list(np.ndindex(*world.sizes))
        now = {place[after] for s in now for joint in joints for after in world.moves[name[s], joint]}
    return out


def forward(world, solution):
    """[(S,)] probabilities at each time under the solution, by loops over everything."""
    compiled = solution.compiled
    place = {int(row[0]): s for s, row in enumerate(compiled.states)}
    now, out = np.zeros(len(compiled.states)), []
    now[0] = 1.0
    for t in range(world.horizon):
        out.append(now)
        following = np.zeros(len(now))
        for number, s in place.items():
            if now[s] == 0 or number in world.ends:
                continue
            prior = solution.human_policy(t, np.array([s]))[0]
            marginals = np.einsum("hga,g->ha", prior, world.goal_weights)
            for joint in np.ndindex(*world.sizes):
                p = now[s] * solution.at(t).pi[s, joint[1]]
                for h, agent in enumerate(world.humans):
                    p *= marginals[h, joint[agent]]
                for after, q in world.moves[number, joint].items():
                    following[place[after]] += p * q
        now = following
    return [*out, now]


def test_the_solution_itself_has_no_errors_and_the_whole_share():
    check = ExactCheck(drawn(), PARAMS)
    errors = check.errors(exactly(check))
    assert errors.pop("share") == pytest.approx(1, abs=1e-9)
    assert errors.pop("v_r/start") == pytest.approx(check.v_solved, abs=1e-12)
    assert len(errors) == 12
    assert all(value == pytest.approx(0, abs=1e-12) for value in errors.values()), errors


@pytest.mark.parametrize("seed", range(3))
def test_every_error_is_that_of_plain_loops(seed):
    world = drawn(seed)
    check = ExactCheck(world, PARAMS)
    solution, occupied = check.solution, forward(world, check.solution)
    mine = {name: [] for name in ("v", "v exact", "x", "x exact", "log q", "q", "q exact", "tv", "weight")}
    for t, s in pairs(world, check.compiled):
        at = solution.at(t)
        exact = Learned(at.v_e[s], at.x[s], at.q[s], at.pi[s])
        found = noisy(t, s, exact)
        mine["v"] += np.abs(found.v_e - exact.v_e).ravel().tolist()
        mine["v exact"] += exact.v_e.ravel().tolist()
        mine["x"] += np.abs(found.x - exact.x).tolist()
        mine["x exact"] += exact.x.tolist()
        if t < world.horizon - 1:
            mine["log q"] += [abs(math.log(-a) - math.log(-b)) for a, b in zip(found.q, exact.q, strict=True)]
            mine["q"] += np.abs(found.q - exact.q).tolist()
            mine["q exact"] += (-exact.q).tolist()
            mine["tv"].append(0.5 * sum(abs(a - b) for a, b in zip(found.pi, exact.pi, strict=True)))
            mine["weight"].append(occupied[t][s])
    errors = check.errors(exactly(check, noisy))
    mean = {name: sum(values) / len(values) for name, values in mine.items()}
    wanted = {
        "v_h_e/mean": mean["v"],
        "v_h_e/max": max(mine["v"]),
        "v_h_e/relative_mean": mean["v"] / mean["v exact"],
        "x_h/mean": mean["x"],
        "x_h/max": max(mine["x"]),
        "x_h/relative_mean": mean["x"] / mean["x exact"],
        "log_q_r/mean": mean["log q"],
        "log_q_r/max": max(mine["log q"]),
        "q_r/relative_mean": mean["q"] / mean["q exact"],
        "pi_r/tv_mean": mean["tv"],
        "pi_r/tv_max": max(mine["tv"]),
        "pi_r/tv_occupancy": np.dot(mine["tv"], mine["weight"]) / sum(mine["weight"]),
    }
    assert errors.keys() == wanted.keys() | {"share", "v_r/start"}
    for name, value in wanted.items():
        assert value > 1e-3 and errors[name] == pytest.approx(value, rel=1e-9), name


def test_the_policy_is_judged_by_its_exact_value():
    """Uniform: share 0. A policy of its own: V_r as `evaluate` has it."""
    world = drawn(1)
    check = ExactCheck(world, PARAMS)
    errors = check.errors(exactly(check, lambda t, s, found: found._replace(pi=np.full(3, 1 / 3))))
    assert errors["share"] == pytest.approx(0, abs=1e-9)
    assert errors["v_r/start"] == pytest.approx(check.v_uniform)

    def second(t, n):
        return np.tile([0.0, 1.0, 0.0], (n, 1))

    wanted = float(evaluate(enumerate_world(world), PARAMS, second).at(0).v[0])
    errors = check.errors(exactly(check, lambda t, s, found: found._replace(pi=np.array([0.0, 1.0, 0.0]))))
    assert errors["v_r/start"] == pytest.approx(wanted) and wanted != pytest.approx(check.v_uniform)
    assert errors["share"] == pytest.approx((wanted - check.v_uniform) / (check.v_solved - check.v_uniform))


def test_it_asks_only_about_what_can_be_at_that_very_time_and_goes_on():
    """States 0, 1, 2, 3 in a row, nobody can wait, the last one ends the episode."""
    moves = {(s, (a, 0)): {s + 1: 1.0} for s in range(3) for a in range(2)}
    attains = np.ones((4, 1, 1), bool)
    world = TableWorld(moves, attains, (2, 1), (0,), (1,), 6, (0, 0), np.ones(1), ends=(3,))
    check, asked = ExactCheck(world, PowerParams(x_floor=0.1)), []
    learned = exactly(check)

    def values(states, t):
        asked.extend(zip(t.tolist(), states[:, 0].tolist(), strict=True))
        return learned(states, t)

    errors = check.errors(values)
    assert asked == [(0, 0), (1, 1), (2, 2)]
    assert math.isnan(errors["share"]), "one robot action: nothing to gain"


def test_occupancy_is_that_of_plain_loops():
    for seed in range(3):
        world = drawn(seed)
        solution = solve(enumerate_world(world), PARAMS)
        for found, wanted in zip(occupancy(solution), forward(world, solution), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_without_a_horizon_errors_are_weighted_by_discounted_occupancy():
    """Two states in turn, each known for sure: a policy that errs in the second alone is off gamma / (1 + gamma)."""
    moves = {(s, (a, r)): {1 - s: 1.0} for s in range(2) for a in range(2) for r in range(2)}
    moves[1, (0, 0)] = moves[1, (1, 0)] = {0: 0.5, 1: 0.5}
    attains = np.array([[[True, False]], [[False, True]]])
    world = TableWorld(moves, attains, (2, 2), (0,), (1,), None, (0, 0), np.array([0.5, 0.5]))
    check = ExactCheck(world, dataclasses.replace(PARAMS, beta_r=0.0))  # the solved policy is uniform
    errors = check.errors(exactly(check, lambda t, s, found: found._replace(pi=np.eye(2)[0] if s else found.pi)))
    # d = (1 - g) e0 + g P'd, with P = [[0, 1], [3/4, 1/4]]
    g = PARAMS.gamma_r
    second = np.linalg.solve(np.eye(2) - g * np.array([[0, 0.75], [1, 0.25]]), [1 - g, 0])[1]
    assert errors["pi_r/tv_max"] == pytest.approx(0.5)
    assert errors["pi_r/tv_mean"] == pytest.approx(0.25)
    assert errors["pi_r/tv_occupancy"] == pytest.approx(0.5 * second, rel=1e-5)
    assert errors["v_h_e/max"] == 0


def test_a_value_that_rounds_to_0_or_is_not_a_number_is_told():
    check = ExactCheck(drawn(), PARAMS)
    errors = check.errors(exactly(check, lambda t, s, found: found._replace(q=found.q * 0)))
    assert 20 < errors["log_q_r/max"] < 40
    spoilt = check.errors(
        exactly(check, lambda t, s, found: found._replace(x=found.x * math.nan if t == 1 else found.x))
    )
    assert math.isnan(spoilt["x_h/max"]) and math.isnan(spoilt["x_h/mean"])


@pytest.mark.parametrize("pi", [[0.5, 0.2, 0.2], [1.5, -0.5, 0.0], [math.nan, 0.5, 0.5]])
def test_what_is_no_policy_is_refused(pi):
    check = ExactCheck(drawn(), PARAMS)
    with pytest.raises(ValueError, match="to be probabilities"):
        check.errors(exactly(check, lambda t, s, found: found._replace(pi=np.array(pi))))
    with pytest.raises(ValueError, match=r"x has shape \(1, 1\), wanted is \(1, 2\)"):
        check.errors(exactly(check, lambda t, s, found: found._replace(x=found.x[:1])))


def test_a_world_without_a_model_or_too_large_is_refused():
    with pytest.raises(UserError, match="can only be sampled"):
        ExactCheck(dataclasses.replace(drawn(), enumerable=False), PARAMS)
    with pytest.raises(UserError, match="GiB"):
        ExactCheck(drawn(), PARAMS, memory_limit=1000)
