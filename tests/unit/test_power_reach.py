"""Which states exactly t steps lead to, where agents cannot wait."""

import numpy as np
import pytest

from apportion.power import reach
from apportion.power.enumerate import enumerate_world
from apportion.power.params import PowerParams
from apportion.power.solve import solve
from apportion.types import UserError
from power_table import TableWorld, random_world


def after_each_step(world, horizon):
    """By sets, from the tables as they are written."""
    now, out = {0}, [{0}]
    for _ in range(horizon):
        now = {to for (state, _), found in world.moves.items() if state in now for to in found}
        out.append(now)
    return out


@pytest.mark.parametrize("at_once", [1, 7, 1 << 22])
@pytest.mark.parametrize("seed", range(4))
def test_states_at_each_time_are_those_of_plain_sets(seed, at_once, monkeypatch):
    monkeypatch.setattr(reach, "_AT_ONCE", at_once)
    world = random_world(seed, states=12, horizon=6)
    compiled = enumerate_world(world)
    assert not reach._can_wait(compiled)
    found = [{int(compiled.states[s, 0]) for s in states} for states in reach.states_at(compiled)]
    assert found == after_each_step(world, 6)
    assert [mask.sum() for mask in reach.masks_at(compiled)] == [len(states) for states in found]
    assert reach.time_states(compiled) == sum(map(len, found))


def to_and_fro(horizon):
    """A human goes from left to right and back at each step, whatever it does, and wants to be on the left."""
    left, right = 0, 1
    moves = {(left, (a,)): {right: 1.0} for a in (0, 1)} | {(right, (a,)): {left: 1.0} for a in (0, 1)}
    attains = np.zeros((2, 1, 1), bool)
    attains[left, 0, 0] = True
    return TableWorld(moves, attains, (2,), (0,), (), horizon, (None,), np.ones(1))


def test_states_that_cannot_be_at_a_time_are_worked_out_once_for_all_times(monkeypatch):
    """One step before the end, on the left, X is 0; by then the human is on the right. So it is at each step before."""
    steps, own = [], reach._after
    monkeypatch.setattr(reach, "_after", lambda compiled, now: steps.append(len(now)) or own(compiled, now))
    horizon = 40
    solution = solve(enumerate_world(to_and_fro(horizon)), PowerParams())
    for t in range(1, horizon):
        here = t % 2  # 0 is left, where it starts
        assert np.isfinite(solution.at(t).v).tolist() == [here == 0, here == 1]
    assert steps == [1] * horizon  # not again for each of the times


def test_a_powerless_human_is_refused_where_it_can_be():
    with pytest.raises(UserError, match=r"human 0 can reach none of its goals in state 0 at time 40"):
        solve(enumerate_world(to_and_fro(41)), PowerParams())
