"""Worlds compiled through their own successors, and what may follow upon what."""

import dataclasses

import numpy as np
import pytest

from apportion.power.enumerate import enumerate_world
from apportion.power.files import load_compiled, save_compiled
from apportion.power.kernel import make_kernel
from apportion.power.reach import states_at, time_states
from apportion.types import UserError
from power_table import TableWorld, random_world


def chain(horizon, sizes=(1, 2), waits=False):
    """A walk 0, 1, 2, ..., 9; the second agent's action 1 waits where `waits`."""
    moves = {(s, (0, a)): {s if waits and a else min(s + 1, 9): 1.0} for s in range(10) for a in range(2)}
    attains = np.ones((10, 1, 1), bool)
    return TableWorld(moves, attains, sizes, (0,), (1,), horizon, (None, None), np.ones(1))


def test_states_come_in_the_order_of_the_fewest_steps_that_lead_there():
    compiled = enumerate_world(chain(3))
    assert compiled.states[:, 0].tolist() == [0, 1, 2, 3]
    assert compiled.level_start.tolist() == [0, 1, 2, 3, 4]
    assert [compiled.reached(t) for t in range(5)] == [1, 2, 3, 4, 4]
    assert compiled.expanded == 3  # nobody acts at the horizon
    assert compiled.indptr.tolist() == list(range(7)) and compiled.indices.tolist() == [1, 1, 2, 2, 3, 3]


def test_without_a_horizon_all_states_are_expanded():
    compiled = enumerate_world(chain(None))
    assert len(compiled.states) == compiled.expanded == 10
    assert compiled.indices[-2:].tolist() == [9, 9]


def test_an_early_end_of_new_states_expands_them_all():
    compiled = enumerate_world(chain(50))
    assert len(compiled.states) == compiled.expanded == 10 and compiled.reached(40) == 10


@pytest.mark.parametrize("seed", range(5))
def test_rows_are_the_worlds_transitions(seed):
    world = random_world(seed, sizes=(2, 3, 2), humans=(1,), robots=(0, 2), horizon=3)
    compiled = enumerate_world(world)
    number = {int(row[0]): i for i, row in enumerate(compiled.states)}
    for s in range(compiled.expanded):
        for j, joint in enumerate(np.ndindex(*world.sizes)):
            row = slice(compiled.indptr[s * 12 + j], compiled.indptr[s * 12 + j + 1])
            found = dict(zip(compiled.indices[row].tolist(), compiled.probs[row].tolist(), strict=True))
            assert found == {number[to]: p for to, p in world.moves[int(compiled.states[s, 0]), joint].items()}


@pytest.mark.parametrize(("humans", "robots"), [((0,), (1, 2)), ((2, 0), (1,)), ((1,), (2, 0))])
def test_the_kernel_puts_the_humans_actions_first(humans, robots):
    world = random_world(7, states=4, sizes=(2, 3, 2), humans=humans, robots=robots, horizon=None)
    compiled = enumerate_world(world)
    kernel = make_kernel(compiled)
    values = np.random.default_rng(0).random((len(compiled.states), 2))
    found = kernel.expected(0, compiled.expanded, kernel.weights.new_tensor(values)).numpy()
    number = {int(row[0]): i for i, row in enumerate(compiled.states)}
    for s in range(compiled.expanded):
        for b, theirs in enumerate(np.ndindex(*(world.sizes[h] for h in humans))):
            for r, ours in enumerate(np.ndindex(*(world.sizes[i] for i in robots))):
                given = dict(zip((*humans, *robots), (*theirs, *ours), strict=True))
                moves = world.moves[int(compiled.states[s, 0]), tuple(given[i] for i in range(3))]
                wanted = sum(p * values[number[to]] for to, p in moves.items())
                np.testing.assert_allclose(found[s, b, r], wanted)
    policy = np.random.default_rng(1).dirichlet(np.ones(kernel.robot_actions), compiled.expanded)
    under = kernel.expected_under(
        0, compiled.expanded, kernel.weights.new_tensor(values), kernel.weights.new_tensor(policy)
    )
    np.testing.assert_allclose(under.numpy(), np.einsum("sbrk,sr->sbk", found, policy))


def test_time_counts_the_states_that_so_many_steps_lead_to_exactly():
    assert [s.tolist() for s in states_at(enumerate_world(chain(3)))] == [[0], [1], [2], [3]]
    waiting = enumerate_world(chain(3, waits=True))
    assert [s.tolist() for s in states_at(waiting)] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]
    assert time_states(enumerate_world(chain(3))) == 4 and time_states(waiting) == 10
    assert time_states(enumerate_world(chain(None))) is None


def test_terminal_states_have_no_successors():
    compiled = enumerate_world(dataclasses.replace(chain(None), ends=(4,)))
    assert compiled.states[:, 0].tolist() == [0, 1, 2, 3, 4] and compiled.terminal.tolist() == [False] * 4 + [True]
    assert compiled.indptr[-3:].tolist() == [8, 8, 8]


def test_too_many_states_and_worlds_without_successors_are_refused():
    with pytest.raises(UserError, match=r"table has more than 4 states: give fewer steps"):
        enumerate_world(chain(None), max_states=4)
    with pytest.raises(UserError, match=r"can only be sampled"):
        enumerate_world(dataclasses.replace(chain(3), enumerable=False))


def test_the_digest_knows_the_content_and_not_the_name():
    one = enumerate_world(chain(3)).digest
    assert enumerate_world(dataclasses.replace(chain(3), name="other")).digest == one
    assert enumerate_world(chain(4)).digest != one
    assert enumerate_world(chain(3, waits=True)).digest != one


def test_a_compiled_world_comes_back_from_its_file(tmp_path):
    compiled = enumerate_world(dataclasses.replace(random_world(0), still=(None, 2)))
    save_compiled(tmp_path / "w.npz", compiled)
    found = load_compiled(tmp_path / "w.npz")
    for field in dataclasses.fields(compiled):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(compiled, field.name))
    assert found.n_actions == (2, 3) and found.still == (None, 2) and found.horizon == 4
