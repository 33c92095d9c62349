"""Human priors: exact, by shortest paths, learned, and the user's own."""

import dataclasses
import json
import math
import sys
from collections import deque
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch

from apportion.power.enumerate import enumerate_world
from apportion.power.grid.ensemble import Ensemble
from apportion.power.grid.world import GridWorld
from apportion.power.learn.prior_exact import ExactPrior
from apportion.power.learn.prior_learned import LearnedPrior
from apportion.power.learn.prior_path import PathPrior
from apportion.power.learn.priors import make_prior
from apportion.power.params import PowerParams
from apportion.power.pettingzoo import ParallelWorld
from apportion.power.reach import states_at
from apportion.power.solve import solve
from apportion.run import checkpoint
from apportion.run.tree import put_together
from apportion.types import UserError
from power_table import TableWorld, random_world

PARAMS = PowerParams(x_floor=1e-4)
TEAMS = [((0,), (1,)), ((1,), (0,)), ((0, 2), (1,)), ((2, 0), (1, 3)), ((0,), ())]


def drawn(seed, team=((0,), (1,)), horizon: int | None = 3, states=5):
    humans, robots = team
    return random_world(seed, states, (2, 3, 2, 2)[: len(humans + robots)], humans, robots, horizon=horizon)


def ring(horizon: int | None):
    """Six places in a ring, goals at 2 and 5. The human waits, or goes on either way; the robot may hold it back."""
    moves = {}
    for s in range(6):
        for action, step in ((1, 1), (2, -1)):
            moves[s, (action, 0)] = {(s + step) % 6: 1.0}
            moves[s, (action, 1)] = {(s + step) % 6: 0.6, s: 0.4}
    attains = np.zeros((6, 1, 2), bool)
    attains[2, 0, 0] = attains[5, 0, 1] = True
    return TableWorld(moves, attains, (3, 2), (0,), (1,), horizon, (0, 0), np.array([0.5, 0.5]))


def made(name, world, params=PARAMS, steps=0, seed=0):
    return make_prior(name, world, params, steps=steps, seed=seed, say=lambda line: None)


def rows(*numbers):
    return np.array(numbers, np.int16)[:, None]


def clock(*times):
    return np.array(times, np.int64)


def chain(length, horizon: int | None, blocks=False):
    """States 0, 1, ..., the last of them the goal. The human waits or goes on; the robot can stop it if it `blocks`."""
    moves = {}
    for s in range(length - 1):
        for robot in range(2 if blocks else 1):
            moves[s, (1, robot)] = {s + 1 - robot: 1.0}
    attains = np.zeros((length, 1, 1), bool)
    attains[-1] = True
    sizes = (2, 2 if blocks else 1)
    return TableWorld(moves, attains, sizes, (0,), (1,), horizon, (0, 0), np.ones(1))


# -------------------------------------------------------------------- exact


@pytest.mark.unchecked
@pytest.mark.parametrize("team", TEAMS)
@pytest.mark.parametrize(("belief", "horizon"), [("min", 3), ("max", 3), ("mean", 3), ("max", None)])
def test_exact_prior_is_that_of_the_solution_at_every_state_and_time(team, belief, horizon):
    params = dataclasses.replace(PARAMS, robot_belief=belief, beta_h=20.0, nu_h=0.1, gamma_h=0.5)
    spread = 0.0
    for seed in range(3):
        world = drawn(seed, team, horizon)
        compiled = enumerate_world(world)
        solution, prior = solve(compiled, params), ExactPrior(world, params)
        assert prior.state() == {}
        for t in range(horizon or 1):
            numbers = np.arange(solution.at(t).n)
            wanted = solution.human_policy(t, numbers)
            found = prior(compiled.states[numbers], np.full(len(numbers), t))
            assert found.dtype == np.float32 and found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
            shared = found[..., : min(compiled.n_actions)][~compiled.attained[numbers]]  # actions that all have
            spread = max(spread, float(np.ptp(shared, -1).max(initial=0)))
    assert spread > 0.3, "nothing was told apart"


def test_exact_prior_of_one_step_and_of_two_by_hand():
    """beta_h = ln 9: at the last step going on is worth 1 and waiting 0, so the odds are 9 to 1."""
    prior = ExactPrior(chain(2, 2), PowerParams(beta_h=math.log(9), gamma_h=0.5))
    last, first = prior(rows(0, 0), clock(1, 0))[:, 0, 0]
    np.testing.assert_allclose(last, [0.1, 0.9], rtol=1e-6)
    waiting = 0.5 * 0.9  # worth of a second chance
    np.testing.assert_allclose(first, [9**waiting / (9**waiting + 9), 9 / (9**waiting + 9)], rtol=1e-6)


def test_who_expects_the_worst_of_a_robot_that_can_block_does_anything():
    params = PowerParams(beta_h=math.log(9))
    np.testing.assert_allclose(ExactPrior(chain(2, 1, blocks=True), params)(rows(0), clock(0))[0, 0, 0], 0.5)
    hopeful = dataclasses.replace(params, robot_belief="max")
    np.testing.assert_allclose(ExactPrior(chain(2, 1, blocks=True), hopeful)(rows(0), clock(0))[0, 0, 0], [0.1, 0.9])


def test_states_of_different_times_may_be_asked_for_at_once():
    world = chain(4, 4)
    prior, states = ExactPrior(world, PARAMS), enumerate_world(world).states
    t = clock(*range(5))
    at_once = prior(np.repeat(states[:1], 5, 0), t)
    one_by_one = np.concatenate([prior(states[:1], t[i : i + 1]) for i in range(5)])
    np.testing.assert_array_equal(at_once, one_by_one)
    assert len(np.unique(at_once[:, 0, 0, 0])) == 3, "the policy depends on the time"


def test_from_the_horizon_on_and_where_a_goal_holds_nobody_chooses():
    world = chain(2, 2)
    prior = ExactPrior(world, PARAMS)
    found = prior(rows(0, 1, 1, 0), clock(2, 2, 1, 9))[:, 0, 0]
    np.testing.assert_array_equal(found, [[0.5, 0.5], [1, 0], [1, 0], [0.5, 0.5]])


def test_exact_prior_names_a_state_that_it_does_not_know():
    prior = ExactPrior(chain(4, 3), PARAMS)
    with pytest.raises(ValueError, match=r"state \[7\] cannot be reached from the initial state"):
        prior(rows(0, 7), clock(0, 0))
    with pytest.raises(ValueError, match=r"state \[3\] cannot be reached within 1 steps"):
        prior(rows(1, 3), clock(1, 1))


def test_exact_prior_that_is_too_large_is_refused_with_the_number_and_a_way_out():
    with pytest.raises(UserError, match=r"takes .* GiB, and .* are free.*shortest-path or learned"):
        ExactPrior(chain(4, 3), PARAMS, memory_limit=1000)
    with pytest.raises(UserError, match="can only be sampled"):
        ExactPrior(dataclasses.replace(chain(4, 3), enumerable=False), PARAMS)


def grid(last):
    config = {"map": f"We We We We We\nWe Ay .. {last} We\nWe Ae .. .. We\nWe We We We We\n", "max_steps": 4}
    return GridWorld.from_config({**config, "orientations": ["e", "e"], "possible_goals": ["1,1,2,2", "3,1,3,2"]}, last)


def test_in_several_worlds_humans_follow_the_prior_of_the_one_that_they_are_in():
    worlds = [grid(".."), grid("We")]
    ensemble = Ensemble("two", worlds)
    for name in ("exact", "shortest-path"):
        found = made(name, ensemble)(ensemble.starts(np.array([0.1, 0.9])), clock(0, 0))
        for m, world in enumerate(worlds):
            np.testing.assert_array_equal(found[m], made(name, world)(world.initial()[None], clock(0))[0])
        assert np.abs(found[0] - found[1]).max() > 1e-4


# -------------------------------------------------------------------- shortest paths


def test_path_policy_by_hand():
    """From state 1 of 4 the goal is 2 steps away: waiting is worth gamma^2, going on gamma."""
    prior = PathPrior(chain(4, None), PowerParams(beta_h=3.0, gamma_h=0.5))
    np.testing.assert_array_equal(prior.distances(rows(0, 1, 2, 3), 0)[:, 0], [3, 2, 1, 0])
    ratio = math.exp(3 * (0.5 - 0.25))
    np.testing.assert_allclose(prior(rows(1), clock(5))[0, 0, 0], [1 / (1 + ratio), ratio / (1 + ratio)], rtol=1e-6)
    np.testing.assert_array_equal(prior(rows(3), clock(0))[0, 0, 0], [1, 0])


def test_a_goal_farther_than_the_steps_left_is_out_of_reach():
    """Of 5 steps, state 1 of 4 needs 2: at t = 3 going on is worth gamma and waiting nothing, at t = 4 neither is."""
    prior = PathPrior(chain(4, 5), PowerParams(beta_h=3.0, gamma_h=0.5))
    for t, (wait, go) in {0: (0.25, 0.5), 2: (0.25, 0.5), 3: (0.0, 0.5), 4: (0.0, 0.0)}.items():
        odds = math.exp(3 * (go - wait))
        np.testing.assert_allclose(prior(rows(1), clock(t))[0, 0, 0], [1 / (1 + odds), odds / (1 + odds)], rtol=1e-6)


def test_a_goal_that_the_human_alone_cannot_reach_leaves_it_undecided():
    """The robot opens the way by its action 1, but it is taken to stay as it is."""
    moves = {(0, (a, 1)): {1: 1.0} for a in (0, 1)} | {(1, (1, r)): {2: 1.0} for r in (0, 1)}
    attains = np.array([[[False]], [[False]], [[True]]])
    world = TableWorld(moves, attains, (2, 2), (0,), (1,), 5, (0, 0), np.ones(1))
    prior = PathPrior(world, PARAMS)
    np.testing.assert_array_equal(prior.distances(rows(0, 1), 0)[:, 0], [np.inf, 1])
    np.testing.assert_array_equal(prior(rows(0), clock(0))[0, 0, 0], [0.5, 0.5])


def test_another_agent_without_a_still_action_is_taken_to_act_uniformly():
    """Going on works if the robot does 1 of its 4 actions: worth 1/4 + 3/4 gamma, against gamma of waiting."""
    moves = {(0, (1, 3)): {1: 1.0}}
    world = TableWorld(moves, np.array([[[False]], [[True]]]), (2, 4), (0,), (1,), 5, (0, None), np.ones(1))
    prior = PathPrior(world, PowerParams(beta_h=8.0, gamma_h=0.5))
    odds = math.exp(8 * (0.25 + 0.75 * 0.5 - 0.5))
    np.testing.assert_allclose(prior(rows(0), clock(0))[0, 0, 0], [1 / (1 + odds), odds / (1 + odds)], rtol=1e-6)


def plain_distances(world, human, goal):
    """{state: fewest steps} by breadth-first search from each state, in plain Python; for worlds where all can wait."""
    agent, out = world.humans[human], {}
    for start in range(len(world.attains)):
        seen, queue = {start: 0}, deque([start])
        while queue:
            s = queue.popleft()
            if world.attains[s, human, goal]:
                out[start] = seen[s]
                break
            if s in world.ends:
                continue
            for a in range(world.sizes[agent]):
                joint = tuple(a if i == agent else 0 for i in range(len(world.sizes)))
                for after in world.moves[s, joint]:
                    if after not in seen:
                        seen[after] = seen[s] + 1
                        queue.append(after)
    return out


def within(distance, horizon):
    return distance if horizon is None or distance <= horizon else np.inf


@pytest.mark.parametrize("seed", range(6))
def test_distances_are_those_of_a_plain_search_however_one_asks(seed):
    world = drawn(seed, ((0, 2), (1,)), states=12)
    world.still, world.ends = (0, 0, 0), (4,)
    at_once, one_by_one = PathPrior(world, PARAMS), PathPrior(world, PARAMS)
    every = np.arange(12, dtype=np.int16)[:, None]
    for h in range(2):
        found = at_once.distances(every, h)
        for g in range(2):
            plain = plain_distances(world, h, g)
            np.testing.assert_array_equal(found[:, g], [within(plain.get(s, np.inf), world.horizon) for s in range(12)])
        np.testing.assert_array_equal(found, np.concatenate([one_by_one.distances(row[None], h) for row in every]))
        assert np.isfinite(found).any() and (found > 1).any()
    t = np.zeros(12, np.int64)
    np.testing.assert_array_equal(at_once(every, t), np.concatenate([one_by_one(row[None], t[:1]) for row in every]))
    np.testing.assert_allclose(at_once(every, t).sum(-1), 1, atol=1e-6)


def test_what_is_forgotten_is_found_again_and_a_way_too_long_is_refused():
    world = chain(9, None)
    small, large = PathPrior(world, PARAMS, most_rows=9), PathPrior(world, PARAMS)
    for order in ((8, 7), (3,), (6,), (0,), (5,)):
        np.testing.assert_array_equal(small(rows(*order), clock(*order)), large(rows(*order), clock(*order)))
    with pytest.raises(UserError, match="agent0 alone can reach more than 5 states"):
        PathPrior(world, PARAMS, most_rows=5)(rows(0), clock(0))


def test_shortest_paths_need_a_model():
    with pytest.raises(UserError, match="can only be sampled"):
        made("shortest-path", dataclasses.replace(chain(3, 2), enumerable=False))


# -------------------------------------------------------------------- learned


def variation(world, prior, exact):
    """Mean total variation between two priors over all (state, time) that can be, and goals that do not hold yet."""
    compiled, found = enumerate_world(world), []
    times = enumerate(states_at(compiled)) if world.horizon else [(0, np.arange(len(compiled.states)))]
    for t, numbers in times:
        if world.horizon is None or t < world.horizon:
            ask = compiled.states[numbers], np.full(len(numbers), t)
            difference = np.abs(prior(*ask) - exact(*ask)).sum(-1) / 2
            found.append(difference[~compiled.attained[numbers]])
    return float(np.concatenate(found).mean())


def uniform(states, t):
    return np.full((len(states), 1, 2, 3), 1 / 3)


LONG = pytest.mark.long


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("horizon", "belief", "steps"),
    [(5, "min", 400), pytest.param(5, "max", 1000, marks=LONG), pytest.param(None, "min", 2000, marks=LONG)],
)
def test_learned_prior_comes_near_the_exact_one(horizon, belief, steps):
    params = dataclasses.replace(PARAMS, robot_belief=belief, gamma_h=0.9)
    world = ring(horizon)
    exact = ExactPrior(world, params)
    assert variation(world, uniform, exact) > 0.1
    assert variation(world, made("learned", world, params, steps=steps), exact) < 0.01


@pytest.mark.unchecked
@pytest.mark.parametrize(("steps", "bound"), [(400, 0.06), pytest.param(4000, 0.02, marks=LONG)])
def test_of_samples_alone_it_learns_what_is_believed_of_a_robot_that_does_anything(steps, bound):
    params = dataclasses.replace(PARAMS, robot_belief="mean", gamma_h=0.9)
    world = ring(5)
    exact = ExactPrior(world, params)
    assert variation(world, uniform, exact) > 0.2
    sampled = dataclasses.replace(world, enumerable=False)
    assert variation(world, made("learned", sampled, params, steps=steps), exact) < bound


@LONG
@pytest.mark.unchecked
def test_learned_prior_comes_near_the_exact_one_on_a_grid():
    from apportion.power.runs import open_world

    world, params = open_world("trivial"), PowerParams()
    exact = ExactPrior(world, params)
    learned = made("learned", world, params, steps=2000)
    assert variation(world, learned, exact) < 0.005 < variation(world, LearnedPrior(world, params, 0), exact) / 4


class Line:
    """A PettingZoo parallel environment, as far as it is asked: one human on four places, who waits or goes on."""

    possible_agents = ("human", "robot")
    metadata: ClassVar = {"name": "line"}

    def action_space(self, agent):
        return SimpleNamespace(n=2 if agent == "human" else 1)

    def reset(self, seed=None):
        self.agents, self.at = list(self.possible_agents), 0

    def state(self):
        return np.array([self.at])

    def step(self, actions):
        self.at = min(self.at + actions["human"], 3)
        return {}, {}, {}, {}, {}


@pytest.mark.unchecked
def test_an_environment_that_only_goes_on_from_where_it_is_teaches_as_well():
    params = PowerParams(robot_belief="mean", gamma_h=0.5)
    goals = {"end": lambda states, human: states[:, 0] == 3}
    about = {"humans": ["human"], "robots": ["robot"], "goals": goals, "still": {"human": 0}}
    learned = made("learned", ParallelWorld(Line(), horizon=3, **about), params, steps=200)
    exact = ExactPrior(chain(4, 3), params)
    for s, t in ((0, 0), (1, 1), (2, 2), (3, 3)):  # the goal is only just in reach, or there
        wanted = exact(rows(s), clock(t))[0, 0, 0]
        np.testing.assert_allclose(learned(np.array([[s]]), clock(t))[0, 0, 0], wanted, atol=0.1)
        assert s == 3 or abs(wanted[0] - 0.5) > 0.2, "a goal worth going for"


def test_the_same_seed_learns_the_same_numbers_and_another_seed_others():
    world = drawn(2, ((0, 2), (1,)), horizon=4)
    states, t = world.initial()[None], clock(0)
    once, again, other = (made("learned", world, steps=30, seed=seed) for seed in (5, 5, 6))
    for key, value in once.state()["network"].items():
        assert torch.equal(value, again.state()["network"][key])
    assert not np.array_equal(once(states, t), other(states, t))


def test_a_learned_prior_goes_through_a_checkpoint():
    world = drawn(2, ((0, 2), (1,)), horizon=4)
    learned, empty = made("learned", world, steps=30), made("learned", world, seed=1)
    every, t = np.arange(5, dtype=np.int16)[:, None], np.arange(5)
    assert not np.array_equal(learned(every, t), empty(every, t))
    structure, tensors = checkpoint.flatten("prior", learned.state())
    empty.load_state(put_together(json.loads(json.dumps(structure)), tensors))
    np.testing.assert_array_equal(learned(every, t), empty(every, t))
    with pytest.raises(ValueError, match="no human prior of table"):
        made("learned", chain(3, 2)).load_state(learned.state())


def test_learned_policies_are_probabilities_and_0_beyond_a_humans_own_actions():
    world = drawn(4, ((1, 0), (2,)), horizon=2)  # three actions, and two
    every = np.arange(5, dtype=np.int16)[:, None]
    found = made("learned", world, steps=20)(every, clock(0, 1, 2, 1, 0))
    assert found.shape == (5, 2, 2, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    assert (found[:, 1, :, 2] == 0).all() and (found[:, 0, :, 2] > 0).any()
    over = found[2][~world.attained(every)[2]]
    assert len(over) and all(np.allclose(row[row > 0], 1 / (row > 0).sum()) for row in over)


def test_learned_prior_needs_a_model_for_the_worst_and_the_best():
    world = dataclasses.replace(drawn(2), enumerable=False)
    for belief in ("min", "max"):
        with pytest.raises(UserError, match="--robot-belief mean"):
            made("learned", world, dataclasses.replace(PARAMS, robot_belief=belief))


def test_training_says_how_it_went():
    said = []
    make_prior("learned", drawn(2), PARAMS, steps=20, seed=0, say=said.append)
    assert len(said) == 1 and "20 training steps" in said[0]


# -------------------------------------------------------------------- by name


class Lazy:
    """Humans who do their first action."""

    def __init__(self, world, params):
        self.shape = len(world.humans), len(world.goals), max(len(world.actions[h]) for h in world.humans)

    def __call__(self, states, t):
        out = np.zeros((len(states), *self.shape), np.float32)
        out[..., 0] = 1
        return out

    def state(self):
        return {}

    def load_state(self, state):
        pass


class Doubled(Lazy):
    def __call__(self, states, t):
        return 2 * super().__call__(states, t)


class Flat(Lazy):
    def __call__(self, states, t):
        return np.ones((len(states), 1), np.float32)


class Stateless:
    def __init__(self, world, params):
        pass


class Broken(Lazy):
    def __init__(self, world, params):
        raise RuntimeError("no luck")


@pytest.fixture
def users(monkeypatch):
    module = ModuleType("users_priors")
    for each in (Lazy, Doubled, Flat, Stateless, Broken):
        setattr(module, each.__name__, each)
    monkeypatch.setitem(sys.modules, "users_priors", module)


def test_a_prior_of_ones_own(users):
    prior = made("users_priors:Lazy", drawn(2))
    assert isinstance(prior, Lazy)
    assert (prior(rows(0, 1), clock(0, 0))[..., 0] == 1).all()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shortest", "no such prior.*did you mean shortest-path.*exact, shortest-path, learned, or module:Class"),
        (":Lazy", "give module:Class"),
        ("no_such_module:Lazy", "there is no module no_such_module"),
        ("users_priors:Lasy", "users_priors has no Lasy"),
        ("users_priors:Broken", "fails .RuntimeError: no luck"),
        ("users_priors:Stateless", "it has no __call__, state, load_state"),
        ("users_priors:Doubled", "no probabilities"),
        ("users_priors:Flat", r"shape \(1, 1\).*\(1, 1, 2, 2\)"),
    ],
)
def test_slips_in_naming_a_prior_are_told_in_one_line(users, name, words):
    with pytest.raises(UserError, match=words) as error:
        made(name, drawn(2))
    assert "\n" not in str(error.value)


def test_a_world_without_humans_has_no_prior():
    world = drawn(2)
    world.humans, world.robots = (), (0, 1)
    with pytest.raises(UserError, match="has no human"):
        made("exact", world)
