"""Worlds without a horizon."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from test_power_solve import killed

from apportion.power.accelerate import Found, fixed_point
from apportion.power.enumerate import enumerate_world
from apportion.power.fixed_point import Ends, Limits, solve_stationary, statement
from apportion.power.kernel import make_kernel
from apportion.power.params import PowerParams
from apportion.power.planning import solved, uniform
from apportion.power.solution import Solution, Tables
from apportion.power.solve import evaluate, solve
from apportion.types import UserError
from power_table import TableWorld, random_world


def endless(seed, **kwargs):
    return enumerate_world(random_world(seed, horizon=None, **kwargs))


def promises():
    """From `here` the robot brings the human to one of two places, where it gets that goal, and the other one next.

    Being brought to the place is worth more to a human who may count on being brought there again: a robot that will
    do it again is right to do it now, whichever place it is.
    """
    here, a, b, then_b, then_a = range(5)
    moves = {(here, (0, 0)): {a: 1.0}, (here, (0, 1)): {b: 1.0}}
    for r in (0, 1):
        moves |= {(a, (0, r)): {then_b: 1.0}, (b, (0, r)): {then_a: 1.0}}
        moves |= {(then_b, (0, r)): {here: 1.0}, (then_a, (0, r)): {here: 1.0}}
    attains = np.zeros((5, 1, 2), bool)
    attains[[a, then_a], 0, 0] = attains[[b, then_b], 0, 1] = True
    return enumerate_world(TableWorld(moves, attains, (1, 2), (0,), (1,), None, (0, None), np.array([0.5, 0.5])))


PROMISES = PowerParams(gamma_h=0.5, gamma_r=0.5, zeta=1.0, xi=1.0, eta=1.0, beta_r=10.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_it_is_what_ever_longer_horizons_come_to(seed):
    params = PowerParams(gamma_h=0.8, gamma_r=0.8, x_floor=1e-6)
    there = solve(endless(seed), params)
    long = enumerate_world(random_world(seed, horizon=150))
    assert there.record["converged"] and there.record["unique"] and there.record["residual"] <= 1e-10
    limit = solve(long, params).at(0)
    for name in ("v_m", "v_e", "x", "u", "q", "pi", "v"):
        np.testing.assert_allclose(getattr(there.at(7), name)[:1], getattr(limit, name), rtol=1e-7, atol=1e-8)


def test_one_sweep_more_changes_nothing():
    compiled, params = endless(2), PowerParams(x_floor=1e-6)
    solution = solve(compiled, params)
    again = evaluate(compiled, params, solved(solution))
    assert again.record["unique"]
    np.testing.assert_allclose(again.at(0).v, solution.at(0).v, rtol=1e-7)
    np.testing.assert_allclose(again.at(0).v_e, solution.at(0).v_e, atol=1e-8)


def test_values_by_hand_where_the_robot_does_not_matter():
    at = solve(promises(), PROMISES).at(0)
    assert at.pi[0].tolist() == pytest.approx([0.5, 0.5])
    v_here = 0.5 + 0.5 * 0.5  # brought there at once, or at the step after it
    np.testing.assert_allclose(at.v_e[0, 0], v_here)
    np.testing.assert_allclose(at.v_e[1, 0], [0.5 * 0.5 * v_here, 1.0])
    u = -1 / np.array([v_here, (0.25 * v_here + 1) / 2, 0.5 * v_here])  # here, at a place, after it
    v = np.linalg.solve([[1, -0.5, 0], [0, 1, -0.5], [-0.5, 0, 1]], u)
    np.testing.assert_allclose(at.v[[0, 1, 3]], v)


def test_several_solutions_are_said_aloud():
    few = solve(promises(), dataclasses.replace(PROMISES, beta_r=10.0)).record
    many = solve(promises(), dataclasses.replace(PROMISES, beta_r=200.0)).record
    assert few["unique"] and "same solution" in few["statement"]
    assert many["converged"] and many["unique"] is False and many["difference"] == pytest.approx(0.5, abs=0.01)
    assert "NOT UNIQUE" in many["statement"]


def test_no_convergence_is_said_aloud():
    compiled, params = endless(0), PowerParams(x_floor=1e-6)
    tables = Tables()
    told = solve_stationary(compiled, make_kernel(compiled), params, tables, 10, None, None, Limits(sweeps=4))
    assert not told["converged"] and told["residual"] > 1e-10 and told["unique"] is None
    assert "NOT CONVERGED at beta_r 10" in told["statement"]


def test_a_powerless_human_is_refused():
    nothing = np.zeros((5, 1, 2), bool)
    world = dataclasses.replace(random_world(0, horizon=None), attains=nothing)
    with pytest.raises(UserError, match=r"human 0 can reach none of its goals in state 0 without a horizon"):
        solve(enumerate_world(world), PowerParams())


def test_robots_at_beta_zero_are_the_uniform_policy():
    compiled, params = endless(3), PowerParams(beta_r=0.0, x_floor=1e-6)
    solution = solve(compiled, params)
    np.testing.assert_allclose(solution.at(0).v, evaluate(compiled, params, uniform(compiled)).at(0).v, rtol=1e-8)
    assert solution.record["unique"]


def test_the_rules_may_end_what_has_no_horizon():
    world = dataclasses.replace(random_world(1, horizon=None), ends=(3,))
    compiled = enumerate_world(world)
    at = solve(compiled, PowerParams(x_floor=1e-6)).at(0)
    over = compiled.terminal
    assert over.sum() == 1 and not at.v_e[over].any() and not at.u[over].any()
    assert np.isfinite(at.v).all()


def test_a_killed_search_goes_on_where_it_was(tmp_path):
    killed(tmp_path, "beta_r 10,", at=3, horizon=None)
    assert {"prior.npy", "beta_r_5.npy"} <= {path.name for path in (tmp_path / "searches").iterdir()}
    with pytest.raises(UserError, match="not finished"):
        Solution.load(tmp_path)
    compiled, params = endless(0), PowerParams(x_floor=1e-6)
    again, whole = solve(compiled, params, folder=tmp_path), solve(compiled, params)
    assert again.record["sweeps"] < whole.record["sweeps"] and again.record["converged"]
    np.testing.assert_allclose(again.at(0).v, whole.at(0).v, rtol=1e-7)


def contraction(z):
    return torch.tensor([[0.0, 0.99], [0.99, 0.0]], dtype=torch.float64) @ z + 1


def anywhere(z):
    return z


def test_a_slow_contraction_takes_few_steps():
    found = fixed_point(contraction, torch.zeros(2, dtype=torch.float64), 1e-10, 50, anywhere)
    assert found.converged and found.sweeps < 10  # plain iteration needs 2,500
    np.testing.assert_allclose(found.z, 100, rtol=1e-7)


def test_a_search_that_cannot_end_says_so_with_its_best():
    found = fixed_point(lambda z: z + 1, torch.zeros(1, dtype=torch.float64), 1e-10, 30, anywhere)
    assert not found.converged and found.residual == 1 and found.sweeps == 30


def test_a_search_goes_back_from_where_f_is_not_defined():
    def root(z):  # of 2, by Newton's method, where 0 is a bad place
        return torch.where(z < 1, math.nan, (z + 2 / z) / 2)

    found = fixed_point(root, torch.tensor([100.0], dtype=torch.float64), 1e-12, 200, anywhere)
    assert found.converged and float(found.z) == pytest.approx(math.sqrt(2))


def ended(z=0.0, converged=True):
    return Found(torch.tensor([z], dtype=torch.float64), 0.5 if not converged else 1e-11, 7, converged)


def said(**more):
    """The statement where all searches converged and agreed, but for what is given."""
    found = {"main": ended(), "prior": ended(), "prior_above": ended(), "above": ended(), "apart": 0.0}
    return statement(Ends(**{**found, "beta_r": 10.0, "given": False, **more}), 20)


def test_what_is_said_names_the_search_that_it_is_about():
    policy = {"given": True, "above": None}
    assert "a search from elsewhere ends in the same solution" in said()
    assert "a given policy has no other solution" in said(**policy)
    assert "the uniform policy, which is that of beta_r = 0, has no other" in said(above=None, beta_r=0.0)
    assert "a second search did not converge" in said(above=ended(converged=False))
    assert "a second search for V_h^m did not converge" in said(prior_above=ended(converged=False), **policy)


def test_other_solutions_are_told_apart_by_what_differs():
    robots = said(apart=0.25)
    assert "NOT UNIQUE" in robots and "0.25 away in total variation" in robots and "grows out of beta_r = 0" in robots
    assert "V_h^m" not in robots
    for of_policy in ({}, {"given": True, "above": None}):
        people = said(prior_above=ended(0.125), **of_policy)
        assert "NOT UNIQUE: V_h^m, what humans expect, has another solution, up to 0.12 away" in people
        assert "beta_r" not in people and "total variation" not in people and "longer horizons" in people
    both = said(prior_above=ended(0.125), apart=0.25)
    assert "up to 0.12 away" in both and "up to 0.25 away" in both


def test_what_did_not_converge_is_named():
    failed = ended(converged=False)
    assert "NOT CONVERGED at beta_r 10" in said(main=failed) and "a smaller beta_r" in said(main=failed)
    given = said(main=failed, given=True, above=None)
    assert "NOT CONVERGED for the given policy" in given and "beta_r" not in given
    people = said(prior=failed)
    assert "NOT CONVERGED in V_h^m" in people and "a smaller beta_h" in people and "beta_r" not in people


def test_a_policy_that_was_not_settled_is_not_said_to_be_at_a_beta_r():
    compiled, params = endless(0), PowerParams(x_floor=1e-6)
    even = uniform(compiled)(0, len(compiled.states))
    kernel = make_kernel(compiled)
    told = solve_stationary(compiled, kernel, params, Tables(), 10, even, None, Limits(sweeps=4))
    assert "NOT CONVERGED for the given policy" in told["statement"] and told["unique"] is None
