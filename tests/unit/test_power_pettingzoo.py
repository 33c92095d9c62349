"""A real PettingZoo environment as a world: sampled, counted, solved."""

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv

from apportion.power.enumerate import enumerate_world
from apportion.power.params import PowerParams
from apportion.power.pettingzoo import ParallelWorld
from apportion.power.solve import solve
from apportion.types import UserError


class Gate(ParallelEnv):
    """A human walks on cells 0 to 3 (stay, left, right); beyond cell 1 there is a gate that a robot holds open.

    It opens when the robot pulls, and sticks every fourth time. The state: the human's cell, whether it is open.
    """

    metadata = {"name": "gate"}  # noqa: RUF012

    def __init__(self, sticks=0.0):
        self.possible_agents = ["robot", "human"]
        self.sticks, self.where, self.open = sticks, 0, 0

    def observation_space(self, agent):
        return Box(0, 3, (2,), np.int64)

    def action_space(self, agent):
        return Discrete(2) if agent == "robot" else Discrete(3, start=1)

    def reset(self, seed=None, options=None):
        self.rng, self.agents = np.random.default_rng(seed), list(self.possible_agents)
        self.where, self.open = 0, 0
        return self._seen(), {agent: {} for agent in self.agents}

    def _seen(self):
        return {agent: self.state() for agent in self.agents}

    def state(self):
        return np.array([self.where, self.open])

    def step(self, actions):
        to = self.where + (0, -1, 1)[actions["human"] - 1]
        if 0 <= to <= 3 and (to < 2 or self.open):
            self.where = to
        self.open = int(actions["robot"] == 1 and self.rng.random() >= self.sticks)
        over = self.where == 3
        ends = dict.fromkeys(self.agents, over)
        seen = self._seen()
        self.agents = [] if over else self.agents
        return seen, dict.fromkeys(ends, 0.0), ends, dict.fromkeys(ends, False), {agent: {} for agent in ends}


def restore(env, state, seed):
    env.reset(seed=seed)
    env.where, env.open = (int(x) for x in state)


def at(cell):
    return lambda states, human: states[:, 0] == cell


def world(env=None, **kwargs):
    goals = {f"cell {c}": at(c) for c in range(4)}
    given = {"humans": ["human"], "robots": ["robot"], "goals": goals, "horizon": 4, "still": {"human": 0, "robot": 0}}
    return ParallelWorld(env or Gate(), **(given | kwargs))


def test_names_actions_and_goals_come_over():
    w = world()
    assert (w.name, w.agents, w.humans, w.robots) == ("gate", ("robot", "human"), (1,), (0,))
    assert w.actions == (("0", "1"), ("0", "1", "2")) and w.goals[2] == "cell 2" and not w.enumerable
    assert w.attained(np.array([[2, 0], [3, 1]])).tolist() == [[[False, False, True, False]], [[False] * 3 + [True]]]
    assert w.parse(w.describe(np.array([2, 1]))).tolist() == [2, 1]


def test_an_episode_can_be_sampled_step_by_step_and_nothing_else():
    w = world()
    state, noise = w.initial()[None], np.array([0.5])
    for joint, then in (([1, 2], [1, 1]), ([0, 2], [2, 0]), ([1, 0], [2, 1])):
        state = w.sample(state, np.array([joint]), noise)
        assert state[0].tolist() == then
    with pytest.raises(UserError, match="only the episode at hand can go on: --num-envs 1"):
        w.sample(np.array([[1, 1]]), np.array([[0, 0]]), noise)
    assert w.sample(w.initial()[None], np.array([[0, 2]]), noise).tolist() == [[1, 0]]  # a new episode
    with pytest.raises(UserError, match="can only be sampled"):
        enumerate_world(w)


def test_a_restored_environment_is_counted_and_solved():
    w = world(restore=restore, samples=1)
    compiled = enumerate_world(w)
    assert sorted(map(tuple, compiled.states.tolist())) == [(c, o) for c in range(4) for o in (0, 1)]
    assert {tuple(s) for s in compiled.states[compiled.terminal].tolist()} == {(3, 0), (3, 1)}
    solution = solve(compiled, PowerParams())
    assert solution.at(0).pi[0, 1] > 0.55  # pull: what is beyond the gate can be reached only then
    assert solution.at(0).v_e[0, 0].tolist() == sorted(solution.at(0).v_e[0, 0], reverse=True)


def test_frequencies_stand_for_probabilities():
    w = world(Gate(sticks=0.25), restore=restore, samples=4000)
    rows, probs = w.transitions(np.array([0, 0]), np.array([1, 2]))
    assert rows.tolist() == [[1, 0], [1, 1]] and probs.sum() == 1
    np.testing.assert_allclose(probs, [0.25, 0.75], atol=0.03)


def test_what_does_not_fit_is_one_line():
    with pytest.raises(UserError, match=r"no agent 'man'; its agents are robot, human"):
        world(humans=["man"])
    with pytest.raises(UserError, match=r"every agent is to be a human or a robot"):
        world(robots=[])
    with pytest.raises(UserError, match=r"2 numbers are wanted, not 3"):
        world().parse({"state": [1, 2, 3]})

    class Continuous(Gate):
        def action_space(self, agent):
            return Box(0, 1)

    with pytest.raises(UserError, match=r"the actions of robot are not discrete"):
        world(Continuous())
