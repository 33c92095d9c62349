"""The finite-horizon solver against brute force in plain Python, on worlds of tables; stops, limits, refusals."""

import dataclasses
import math
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import power_brute
from apportion.power.enumerate import enumerate_world
from apportion.power.equations import END
from apportion.power.evaluate import policy_of, share
from apportion.power.params import PowerParams
from apportion.power.planning import do_nothing, solved, uniform
from apportion.power.solution import Solution
from apportion.power.solve import evaluate, solve
from apportion.types import UserError
from power_table import TableWorld, random_world

SLOW = settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])


class Dictionaries:
    """A TableWorld as the brute-force solver wants it."""

    def __init__(self, world):
        self.world, self.start, self.horizon = world, 0, world.horizon
        self.humans, self.robots, self.goals = world.humans, world.robots, world.goals
        self.n_actions, self.still = world.sizes, world.still

    def successors(self, state, joint):
        return self.world.moves[state, joint]

    def attained(self, state, human, goal):
        return bool(self.world.attains[state, self.world.humans.index(human), goal])


TEAMS = st.sampled_from([((0,), (1,)), ((1,), (0,)), ((0, 2), (1,)), ((1,), (2, 0)), ((0,), ()), ((2, 0), (1, 3))])
NUMBERS = st.builds(
    PowerParams,
    gamma_h=st.sampled_from([0.5, 0.99, 1.0]),
    gamma_r=st.sampled_from([0.5, 0.99, 1.0]),
    beta_h=st.sampled_from([0.0, 3.0, 10.0, math.inf]),
    beta_r=st.sampled_from([0.0, 1.0, 10.0, 50.0]),
    zeta=st.sampled_from([1.0, 2.5]),
    xi=st.sampled_from([1.0, 3.0]),
    eta=st.sampled_from([1.0, 1.1]),
    nu_h=st.sampled_from([0.0, 0.3]),
    robot_belief=st.sampled_from(["min", "max", "mean"]),
    aggregate=st.sampled_from(["mean", "sum"]),
    x_floor=st.just(1e-4),
)


def drawn(seed, team, horizon=3):
    humans, robots = team
    return random_world(seed, 4, (2, 3, 2, 2)[: len(humans + robots)], humans, robots, horizon=horizon)


@SLOW
@given(seed=st.integers(0, 10**6), team=TEAMS, params=NUMBERS, chunk_bytes=st.sampled_from([1, 1 << 24]))
def test_every_value_equals_brute_force(seed, team, params, chunk_bytes):
    world = drawn(seed, team)
    compiled = enumerate_world(world)
    solution = solve(compiled, params, chunk_bytes=chunk_bytes)
    plain = {k: v for k, v in dataclasses.asdict(params).items() if k != "duration_weight"}
    truth = power_brute.solve(Dictionaries(world), power_brute.Params(**plain), weights=list(world.goal_weights))
    for t, of_states in enumerate(truth):
        at = solution.at(t)
        for state, values in of_states.items():
            s = int(np.flatnonzero(compiled.states[:, 0] == state)[0])
            policies = solution.human_policy(t, np.array([s]))[0]
            pairs = [(at.q[s], values.q), (at.pi[s], values.pi), ([at.u[s], at.v[s]], [values.u, values.v])]
            for i, h in enumerate(world.humans):
                pairs.append(([at.x[s, i]], [values.x[h]]))
                for g in range(len(world.goals)):
                    pairs.append(([at.v_m[s, i, g], at.v_e[s, i, g]], [values.v_m[h, g], values.v_e[h, g]]))
                    pairs.append((policies[i, g], values.pi_h[h, g]))
            for ours, theirs in pairs:
                np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-12)


@SLOW
@given(seed=st.integers(0, 10**6), team=TEAMS, params=NUMBERS)
def test_values_stay_in_their_ranges(seed, team, params):
    solution = solve(enumerate_world(drawn(seed, team)), params)
    for t in range(3):
        at = solution.at(t)
        for values in (at.v_m, at.v_e, at.x):
            assert values.min() >= 0 and values.max() <= 1 + 1e-12
        assert at.u.max() <= -1 + 1e-12 and at.q.max() < 0 and at.v.max() < 0
        np.testing.assert_allclose(at.pi.sum(1), 1)


@SLOW
@given(seed=st.integers(0, 10**6), team=TEAMS)
def test_cautious_humans_expect_no_more_than_trusting_ones(seed, team):
    compiled = enumerate_world(drawn(seed, team, horizon=1))  # with more steps, softmax humans differ in what they do
    v = {
        b: solve(compiled, PowerParams(robot_belief=b, beta_h=0.0, x_floor=1e-3)).at(0).v_m
        for b in ("min", "mean", "max")
    }
    assert (v["min"] <= v["mean"] + 1e-12).all() and (v["mean"] <= v["max"] + 1e-12).all()


@SLOW
@given(seed=st.integers(0, 10**6), team=TEAMS, params=NUMBERS)
def test_the_order_of_goals_changes_nothing(seed, team, params):
    world = drawn(seed, team)
    turned = dataclasses.replace(
        world, attains=world.attains[:, :, ::-1].copy(), goal_weights=world.goal_weights[::-1].copy()
    )
    a, b = (solve(enumerate_world(each), params).at(0) for each in (world, turned))
    np.testing.assert_allclose(a.v_e, b.v_e[:, :, ::-1], rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(a.pi, b.pi, rtol=1e-9)
    np.testing.assert_allclose(a.v, b.v, rtol=1e-12)


def test_one_step_before_the_end_the_robot_is_exactly_uniform():
    at = solve(enumerate_world(random_world(3)), PowerParams(x_floor=1e-6)).at(3)
    assert (at.pi == 1 / 3).all() and (at.q == 0.99 * END).all()


def test_at_the_end_nothing_can_be_reached_any_more():
    end = solve(enumerate_world(random_world(3)), PowerParams(x_floor=1e-6)).at(4)
    assert not end.v_e.any() and not end.v_m.any() and not end.u.any() and (end.v == END).all()


def test_the_robot_grows_more_decided_with_beta_r():
    compiled = enumerate_world(random_world(0))
    entropy = [
        float(-np.sum(pi * np.log(pi)))
        for beta in (0.0, 2.0, 10.0, 50.0)
        for pi in (solve(compiled, PowerParams(beta_r=beta, x_floor=1e-6)).at(0).pi[0],)
    ]
    assert entropy[0] == pytest.approx(math.log(3)) and entropy == sorted(entropy, reverse=True)


def two_ways():
    """From state 0 the robot opens one of two rooms for good, in which the human can have one or both of two goals."""
    moves = {(0, (0, r)): {1 + r: 1.0} for r in (0, 1)} | {(0, (1, r)): {1 + r: 1.0} for r in (0, 1)}
    for r in (0, 1):
        moves |= {(1, (0, r)): {3: 1.0}, (1, (1, r)): {3: 1.0}}  # one goal, whatever the human does
        moves |= {(2, (0, r)): {3: 1.0}, (2, (1, r)): {4: 1.0}}  # the human chooses
        moves |= {(s, (a, r)): {s: 1.0} for s in (3, 4) for a in (0, 1)}
    attains = np.zeros((5, 1, 2), bool)
    attains[3, 0, 0] = attains[4, 0, 1] = True
    return TableWorld(moves, attains, (2, 2), (0,), (1,), 2, (0, None), np.array([0.5, 0.5]))


def test_two_steps_by_hand():
    params = PowerParams(gamma_h=0.9, gamma_r=0.8, beta_h=math.inf, beta_r=2.0, zeta=1.0, xi=1.0, eta=1.0)
    with pytest.raises(UserError, match=r"floor"):  # in states 3 and 4, were they asked, nothing but staying is left
        solve(enumerate_world(dataclasses.replace(two_ways(), attains=np.zeros((5, 1, 2), bool))), params)
    solution = solve(enumerate_world(two_ways()), params)
    later, start = solution.at(1), solution.at(0)
    np.testing.assert_allclose(later.v_e[1:, 0], [[1, 0], [1, 1]])  # the human who wants the second goal in room 1
    np.testing.assert_allclose(later.x[1:, 0], [0.5, 1.0])
    np.testing.assert_allclose(later.u[1:], [-2.0, -1.0])
    np.testing.assert_allclose(later.v[1:], [-2.0, -1.0], rtol=1e-9)
    np.testing.assert_allclose(start.q[0], [-1.6, -0.8], rtol=1e-9)
    np.testing.assert_allclose(start.pi[0], [0.2, 0.8], rtol=1e-9)  # (1/2)^2 to 1
    np.testing.assert_allclose(start.v_e[0, 0], [0.9, 0.9 * 0.8], rtol=1e-9)
    np.testing.assert_allclose(start.x[0], [0.81], rtol=1e-9)
    np.testing.assert_allclose(start.v[0], -1 / 0.81 - 0.2 * 1.6 - 0.8 * 0.8, rtol=1e-9)


def test_where_the_rules_end_the_episode_nothing_follows():
    world = dataclasses.replace(two_ways(), ends=(2,), horizon=3)
    compiled = enumerate_world(world)
    at = solve(compiled, PowerParams(x_floor=1e-6)).at(1)
    assert compiled.terminal[2] and not at.v_e[2].any() and at.u[2] == 0 and at.v[2] == END
    np.testing.assert_allclose(at.pi[2], 0.5)


def test_a_policy_is_worth_what_the_solver_says_it_is_and_no_other_is_worth_more_in_one_step():
    compiled = enumerate_world(random_world(5))
    params = PowerParams(x_floor=1e-6)
    solution = solve(compiled, params)
    again = evaluate(compiled, params, solved(solution))
    for t in range(4):
        for name in ("v_m", "v_e", "x", "u", "q", "pi", "v"):
            np.testing.assert_array_equal(getattr(again.at(t), name), getattr(solution.at(t), name))
    anything = evaluate(compiled, params, uniform(compiled))
    assert (anything.at(0).pi == 1 / 3).all()
    assert share(solution, anything, solution) == 1 and share(anything, anything, solution) == 0
    assert share(anything, anything, anything) is None


def test_who_stands_still_stands_still():
    world = dataclasses.replace(random_world(5, sizes=(2, 3, 2), robots=(1, 2)), still=(None, 2, 1))
    compiled = enumerate_world(world)
    at = evaluate(compiled, PowerParams(x_floor=1e-6), do_nothing(compiled)).at(0)
    assert at.pi[0].tolist() == [0, 0, 0, 0, 0, 1]


def test_policies_that_are_none_are_refused():
    compiled = enumerate_world(random_world(5))
    with pytest.raises(ValueError, match="sum 1"):
        evaluate(compiled, PowerParams(), lambda t, n: np.ones((n, 3)))
    with pytest.raises(ValueError, match="shape"):
        evaluate(compiled, PowerParams(), lambda t, n: np.ones((n, 2)) / 2)
    with pytest.raises(UserError, match=r"unifrm.*did you mean uniform"):
        policy_of("unifrm", compiled)


def test_a_world_without_humans_is_refused():
    world = dataclasses.replace(random_world(0), humans=(), attains=np.zeros((5, 0, 2), bool))
    with pytest.raises(UserError, match="no human"):
        solve(enumerate_world(world), PowerParams())


def test_powerless_humans_are_named_and_a_floor_helps():
    world = dataclasses.replace(random_world(0), attains=np.zeros((5, 1, 2), bool))
    with pytest.raises(UserError, match=r"human 0 can reach none of its goals in state 0 at time 3 .*x_floor"):
        solve(enumerate_world(world), PowerParams())
    assert solve(enumerate_world(world), PowerParams(x_floor=0.5, eta=1.0)).at(0).u[0] == -2


def test_too_little_memory_is_refused_with_the_number_and_what_to_do():
    with pytest.raises(UserError, match=r"5 states need about 0\.0\d+ GiB, and 9\.31e-10 are free .*--memory"):
        solve(enumerate_world(random_world(0)), PowerParams(), memory_limit=1)


def same(a, b):
    for t in range(a.compiled.horizon):
        for name in ("v_m", "v_e", "x", "u", "q", "pi", "v"):
            np.testing.assert_array_equal(getattr(a.at(t), name), getattr(b.at(t), name))


def test_a_folder_holds_the_solution_and_refuses_another(tmp_path):
    compiled, params = enumerate_world(random_world(0)), PowerParams(x_floor=1e-6)
    solution = solve(compiled, params, folder=tmp_path / "run")
    same(solution, solve(compiled, params))
    loaded = Solution.load(tmp_path / "run")
    same(loaded, solution)
    assert loaded.compiled.digest == compiled.digest and loaded.params == params
    np.testing.assert_array_equal(loaded.human_policy(1, np.array([0, 2])), solution.human_policy(1, np.array([0, 2])))
    with pytest.raises(
        UserError, match=r"something else \(xi 1 there, 2 here\): give another --name, like --name run-xi2"
    ):
        solve(compiled, PowerParams(x_floor=1e-6, xi=2.0), folder=tmp_path / "run")
    with pytest.raises(UserError, match=r"no solution"):
        Solution.load(tmp_path)


def test_damaged_files_are_one_line(tmp_path):
    compiled, params = enumerate_world(random_world(0)), PowerParams(x_floor=1e-6)
    solve(compiled, params, folder=tmp_path)
    for name, words in (("sweeps/t_00002.npy", "damaged"), ("compiled.npz", "damaged"), ("solution.json", "damaged")):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 3])
        with pytest.raises(UserError, match=words):
            Solution.load(tmp_path).at(2)
        (tmp_path / name).write_bytes(whole)
    (tmp_path / "sweeps/t_00002.npy").unlink()
    with pytest.raises(UserError, match=r"t_00002.npy is missing"):
        Solution.load(tmp_path).at(2)


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from power_table import random_world
from apportion.power.enumerate import enumerate_world
from apportion.power.params import PowerParams
from apportion.power.solve import solve

def progress(what, done, total):
    if what.startswith({what!r}) and done == {at}:
        os.kill(os.getpid(), signal.SIGKILL)

world = enumerate_world(random_world(0, horizon={horizon}))
solve(world, PowerParams(x_floor=1e-6), folder=Path({folder!r}), progress=progress)
"""


def killed(folder, what, at, horizon):
    """A process that solves into `folder` and is killed in its search, or sweep, `what`, when `at` of it are done."""
    tests = str(Path(__file__).parents[1])
    script = KILLED.format(tests=tests, what=what, at=at, horizon=horizon, folder=str(folder))
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL


def test_a_killed_solve_goes_on_from_its_last_finished_sweep(tmp_path):
    killed(tmp_path, "sweep", at=3, horizon=5)
    assert sorted(path.name for path in (tmp_path / "sweeps").iterdir()) == [f"t_{t:05d}.npy" for t in (2, 3, 4)]
    with pytest.raises(UserError, match="not finished"):
        Solution.load(tmp_path)
    compiled, params = enumerate_world(random_world(0, horizon=5)), PowerParams(x_floor=1e-6)
    solution = solve(compiled, params, folder=tmp_path)
    assert solution.record["sweeps"] == 2
    same(solution, solve(compiled, params))
    assert solve(compiled, params, folder=tmp_path).record == solution.record  # nothing is left to do


def test_a_full_disk_is_one_line_and_the_sweeps_before_are_kept(tmp_path):
    compiled = enumerate_world(random_world(0, states=60, horizon=4))
    params = PowerParams(x_floor=1e-6)
    solve(compiled, params, folder=tmp_path / "whole")
    room = (tmp_path / "whole/sweeps/t_00001.npy").stat().st_size - 1
    (tmp_path / "whole/sweeps/t_00001.npy").unlink()
    (tmp_path / "whole/solution.json").write_text(
        (tmp_path / "whole/solution.json").read_text().replace('"finished": true', '"finished": false')
    )
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, old[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*t_00001.npy: .*kept; make room"):
            solve(compiled, params, folder=tmp_path / "whole")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert sorted(path.name for path in (tmp_path / "whole/sweeps").iterdir()) == [f"t_{t:05d}.npy" for t in (0, 2, 3)]
    same(solve(compiled, params, folder=tmp_path / "whole"), solve(compiled, params))


def test_sweeps_without_a_record_are_not_trusted(tmp_path):
    compiled = enumerate_world(random_world(0))
    solve(compiled, PowerParams(x_floor=1e-6, xi=3.0), folder=tmp_path)
    (tmp_path / "solution.json").unlink()
    params = PowerParams(x_floor=1e-6)
    same(solve(compiled, params, folder=tmp_path), solve(compiled, params))
