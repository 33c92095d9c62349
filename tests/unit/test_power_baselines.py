"""Baselines: what a human can bring about, the policies that maximise it, and the comparison of policies."""

from __future__ import annotations

import gc
import itertools
import math
import weakref
from dataclasses import replace

import numpy as np
import pytest

from apportion.power.baselines import OBJECTIVES, Rewards, chosen
from apportion.power.channels import CAPACITY, COUNT, ENTROPY, capacity, influence, meanwhile, observations
from apportion.power.compare import NOTHING, OURS, UNIFORM, as_json, compare
from apportion.power.compiled import Compiled
from apportion.power.grid.world import GridWorld
from apportion.power.memory import allowed, kept_states, needed
from apportion.power.params import PowerParams
from apportion.power.planning import do_nothing, make_crowd, plan, returns, uniform
from apportion.power.solution import Tables
from apportion.power.solve import CHUNK_BYTES, solve
from apportion.power.sweeps import shape_of
from apportion.types import UserError
from power_worlds_for_tests import by_hand

NAMES = [objective.name for objective in OBJECTIVES]


def line(cells: int, horizon: int | None, slip: float = 0.0, start: int = 2) -> Compiled:
    """A human (still, left, right) on a line, its steps failing with probability `slip`, and an idle robot."""

    def step(state: int, joint: tuple[int, ...]) -> dict[int, float]:
        now = (state + start) % cells  # states are counted from the start
        then = min(max(now + (0, -1, 1)[joint[0]], 0), cells - 1)
        to = (then - start) % cells
        return {to: 1.0} if slip == 0 or to == state else {to: 1 - slip, state: slip}

    return by_hand(step, (3, 2), (0,), lambda s, h: np.eye(cells, dtype=bool)[(s + start) % cells], horizon=horizon)


def gate(horizon: int | None = 4) -> Compiled:
    """User 0 and bystander 1 stand before one room each; the robot opens one room (action 1: user's, 2: bystander's).

    state = door (0 none, 1 user's, 2 bystander's) + 3 * (user inside) + 6 * (bystander inside); goals: out, in.
    """

    def step(state: int, joint: tuple[int, ...]) -> dict[int, float]:
        door, inside = state % 3, [state // 3 % 2, state // 6]
        for human in (0, 1):
            if joint[human] == 1 and door == human + 1:
                inside[human] = 1 - inside[human]
        return {(joint[2] or door) + 3 * inside[0] + 6 * inside[1]: 1.0}

    def goals(state: int, human: int) -> tuple[bool, bool]:
        inside = (state // 3 % 2, state // 6)[human]
        return inside == 0, inside == 1

    return by_hand(step, (2, 2, 3), (0, 1), goals, horizon=horizon)


def by_enumeration(compiled: Compiled, s: int, column: int, k: int) -> np.ndarray:
    """The channel p(observation | sequence) of one human, from dictionaries."""
    human, seen = compiled.humans[column], observations(compiled)[:, column]
    joints, weights = meanwhile(compiled, human)
    channel = np.zeros((compiled.n_actions[human] ** k, seen.max() + 1))
    for w, sequence in enumerate(itertools.product(range(compiled.n_actions[human]), repeat=k)):
        now = {s: 1.0}
        for action in sequence:
            after: dict[int, float] = {}
            for state, p in now.items():
                for joint, weight in zip(joints[action], weights, strict=True):
                    row = state * compiled.joint_actions + joint
                    for e in range(compiled.indptr[row], compiled.indptr[row + 1]):
                        to = int(compiled.indices[e])
                        after[to] = after.get(to, 0.0) + p * weight * compiled.probs[e]
            now = after
        for state, p in now.items():
            channel[w, seen[state]] += p
    return channel


# ---------------------------------------------------------------- channels


def test_capacity_of_the_binary_symmetric_channel() -> None:
    noise = -0.9 * math.log2(0.9) - 0.1 * math.log2(0.1)
    assert capacity(np.array([[0.9, 0.1], [0.1, 0.9]])) == pytest.approx(1 - noise)


def test_capacity_of_the_z_channel_is_log2_of_five_quarters() -> None:
    assert capacity(np.array([[1.0, 0.0], [0.5, 0.5]])) == pytest.approx(math.log2(5 / 4), abs=2e-6)


def test_capacity_does_not_count_inputs_that_do_the_same() -> None:
    assert capacity(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])) == 1.0
    assert capacity(np.array([[0.3, 0.7], [0.3, 0.7]])) == 0.0


def test_on_a_line_three_steps_reach_seven_cells() -> None:
    tables = influence(line(9, 6, start=4), 3)
    assert [2 ** table[0, 0, COUNT] for table in tables] == pytest.approx([3, 5, 7])
    assert tables[2][0, 0, CAPACITY] == tables[2][0, 0, COUNT]
    p = np.array([1, 3, 6, 7, 6, 3, 1]) / 27  # of the sum of three uniform steps
    assert tables[2][0, 0, ENTROPY] == pytest.approx(-(p * np.log2(p)).sum())
    assert 2 ** tables[0][:, 0, COUNT].min() == pytest.approx(2)  # at the end of the line


@pytest.mark.parametrize("world", [line(5, 5, 0.25), gate(5), line(4, None, 0.5)], ids=["line", "gate", "for ever"])
def test_influence_equals_plain_enumeration(world: Compiled) -> None:
    for k, table in enumerate(influence(world, 3), start=1):
        for s, column in itertools.product(range(len(table)), range(len(world.humans))):
            channel = by_enumeration(world, s, column, k)
            p = channel.mean(0)[channel.mean(0) > 0]
            assert table[s, column, COUNT] == pytest.approx(math.log2(len(p)), abs=1e-12)
            assert table[s, column, ENTROPY] == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-12)
            assert table[s, column, CAPACITY] == pytest.approx(capacity(channel), abs=3e-6)
            assert -1e-12 <= table[s, column, CAPACITY] <= table[s, column, COUNT] + 2e-6


def test_other_humans_noise_is_no_empowerment() -> None:
    """Whoever moves the token at random gives the other many outcomes, and no influence."""

    def step(state: int, joint: tuple[int, ...]) -> dict[int, float]:
        return {joint[1]: 1.0}

    world = by_hand(step, (2, 4), (0, 1), lambda s, h: np.eye(4, dtype=bool)[s], horizon=2)
    mine, theirs = influence(world, 1)[0][0]
    assert (mine[COUNT], mine[CAPACITY]) == (2.0, 0.0)
    assert theirs[CAPACITY] == 2.0


def test_too_many_sequences_are_refused_with_their_number() -> None:
    with pytest.raises(UserError, match="in 30 steps has 205,891,132,094,649 sequences"):
        influence(line(5, None), 30)


# ---------------------------------------------------------------- objectives


def test_humans_look_no_further_than_the_end() -> None:
    rewards = Rewards(line(9, 4, start=4), chosen(["discrete-choice", "ave"]), user=0, steps=3)
    assert [rewards.at(t)[0, 0] for t in range(5)] == pytest.approx([7, 7, 5, 3, 0])
    assert rewards.at(0)[0, 1] == pytest.approx(math.log2(7))


def test_joint_empowerment_adds_up_the_humans() -> None:
    world = gate()
    both = Rewards(world, chosen(["joint-empowerment"]), 0, 2).at(1)
    each = [Rewards(world, chosen(["empowerment"]), user, 2).at(1) for user in (0, 1)]
    assert both == pytest.approx(each[0] + each[1])


def test_slips_are_told_in_one_line() -> None:
    with pytest.raises(UserError, match="no baseline 'empowermnt'; did you mean empowerment"):
        chosen(["empowermnt"])
    with pytest.raises(UserError, match="user 2: by hand has humans 0 to 1"):
        Rewards(gate(), OBJECTIVES, 2)
    with pytest.raises(UserError, match="0 steps of empowerment"):
        Rewards(gate(), OBJECTIVES, 0, 0)


# ---------------------------------------------------------------- policies


def best_by_recursion(world: Compiled, rewards: Rewards, column: int, marginals: list, gamma: float) -> float:
    """V at the start, by recursion over every future."""
    assert world.horizon is not None
    digits = np.indices(world.n_actions).reshape(len(world.n_actions), -1)

    def value(s: int, t: int) -> float:
        now = float(rewards.at(t)[s, column])
        if t == world.horizon or world.terminal[s]:
            return now
        by_robot: dict[tuple[int, ...], float] = {}
        for joint in range(world.joint_actions):
            weight = 1.0
            for i, human in enumerate(world.humans):
                weight *= float(marginals[t][i][s, digits[human, joint]])
            row = s * world.joint_actions + joint
            ahead = sum(
                world.probs[e] * value(int(world.indices[e]), t + 1)
                for e in range(world.indptr[row], world.indptr[row + 1])
            )
            mine = tuple(digits[robot, joint] for robot in world.robots)
            by_robot[mine] = by_robot.get(mine, 0.0) + weight * ahead
        return now + gamma * max(by_robot.values())

    return value(0, 0)


def test_plans_are_the_best_there_are() -> None:
    world = gate(3)
    crowd = make_crowd(solve(world, PowerParams(gamma_r=0.9)))
    rewards = Rewards(world, OBJECTIVES, user=1, steps=2)
    planned = plan(crowd, rewards)
    for column in range(len(OBJECTIVES)):
        best = best_by_recursion(world, rewards, column, crowd.marginals, 0.9)
        assert planned.start[column] == pytest.approx(best, rel=1e-12)
        assert returns(crowd, rewards, planned.policy(column))[column] == pytest.approx(best, rel=1e-12)
        assert returns(crowd, rewards, uniform(world))[column] <= best + 1e-12


def test_the_user_s_empowerment_opens_the_user_s_room() -> None:
    world = gate()
    crowd = make_crowd(solve(world, PowerParams()))
    for user in (0, 1):
        planned = plan(crowd, Rewards(world, chosen(["empowerment"]), user, 1))
        assert planned.policy(0)(0, 1)[0].tolist() == np.eye(3)[user + 1].tolist()


def test_at_the_last_step_nothing_is_better_than_anything() -> None:
    world = gate(3)
    planned = plan(make_crowd(solve(world, PowerParams())), Rewards(world, OBJECTIVES, 0, 2))
    assert planned.policy(0)(2, 1)[0] == pytest.approx([1 / 3] * 3)


def test_without_an_end_values_solve_their_equation() -> None:
    world = gate(None)
    assert world.expanded == len(world.states) == 9
    crowd = make_crowd(solve(world, PowerParams(gamma_r=0.8)))
    rewards = Rewards(world, OBJECTIVES, 0, 2)
    planned = plan(crowd, rewards)
    for column in range(len(OBJECTIVES)):
        followed = returns(crowd, rewards, planned.policy(column))[column]
        assert planned.start[column] == pytest.approx(followed, rel=1e-7)
        assert followed >= returns(crowd, rewards, do_nothing(world))[column]


def test_do_nothing_is_still_where_it_can_be() -> None:
    world = gate()
    assert do_nothing(world)(0, 2).tolist() == [[1, 0, 0]] * 2
    assert do_nothing(replace(world, still=(0, 0, None)))(0, 1)[0] == pytest.approx([1 / 3] * 3)
    assert do_nothing(replace(world, humans=(0,), robots=(1, 2)))(0, 1)[0].tolist() == [1, 0, 0, 0, 0, 0]


# ---------------------------------------------------------------- comparison


def test_each_policy_is_best_by_its_own_measure() -> None:
    compared = compare(gate(), PowerParams(), user=1, steps=2)
    assert [row.policy for row in compared.rows] == [OURS, *NAMES, NOTHING, UNIFORM]
    for name in NAMES:
        best = compared.row(name).returns[name]
        assert all(row.returns[name] <= best + 1e-9 for row in compared.rows)
    assert compared.row(OURS).share == 1.0
    assert compared.row(UNIFORM).share == 0.0
    row = compared.row(OURS)
    assert row.bits == pytest.approx([math.log2(x) for x in row.x])


def test_single_user_empowerment_costs_the_bystander_and_ours_does_not() -> None:
    """Of two rooms the robot can keep one open: the user's measure says which; ours shares."""
    fair = {"fair": PowerParams(beta_r=100.0, xi=4.0)}
    compared = compare(gate(6), PowerParams(beta_r=100.0), user=0, steps=1, also=fair)
    gains = compared.gains("empowerment")
    assert gains[0] > 0.1 and abs(gains[1]) < 1e-9  # the bystander's room stays shut, as beside an idle robot
    ours = compared.gains(OURS)
    assert min(ours) > 0.1
    assert compared.at_whose_cost(OURS) == ()
    assert abs(np.subtract(*compared.gains("fair"))) <= abs(np.subtract(*ours)) + 1e-9


def test_at_whose_cost_names_the_human_who_pays() -> None:
    compared = compare(gate(), PowerParams(), user=0, steps=1, objectives=chosen(["empowerment"]))
    one, nothing = compared.row("empowerment"), compared.row(NOTHING)
    rich = replace(nothing, bits=(nothing.bits[0], one.bits[1] + 0.5))
    changed = replace(compared, rows=(compared.row(OURS), one, rich))
    assert changed.at_whose_cost("empowerment") == (1,)
    assert changed.at_whose_cost("empowerment", margin=0.6) == ()


def test_the_comparison_as_json() -> None:
    world = gate()
    alone = compare(world, PowerParams(), steps=1, objectives=chosen(["ave"]))
    text = as_json(alone, world)
    assert text["policies"][0]["gain_bits"] == list(alone.gains(OURS))
    assert text["policies"][-1]["share"] == 0.0


def test_a_comparison_holds_no_more_solutions_than_it_needs_and_asks_for_their_memory(monkeypatch) -> None:
    """Eight policies are judged; held at once are a solution of ours and the values of it, or one alone."""
    world, also = gate(6), {"power xi=2": PowerParams(xi=2.0)}
    most = []
    own = Tables.__init__

    def made(self, *args, **kwargs) -> None:
        own(self, *args, **kwargs)
        alive.add(self)
        gc.collect()
        most.append(len(alive))

    alive: weakref.WeakSet[Tables] = weakref.WeakSet()
    monkeypatch.setattr(Tables, "__init__", made)
    monkeypatch.setattr(Tables, "__hash__", object.__hash__)
    assert len(compare(world, PowerParams(), steps=1).rows) == 8 and max(most) == 1
    most.clear()
    assert len(compare(world, PowerParams(), steps=1, also=also).rows) == 9 and max(most) == 2
    one, two = (needed(world, CHUNK_BYTES, in_folder=False, solutions=n) for n in (1, 2))
    assert one + kept_states(world) * 8 * shape_of(world).columns == two
    most.clear()
    for more, limit in ((None, one), (also, two)):  # what is held beside the solutions does not fit
        with pytest.raises(UserError, match="are free for it"):
            compare(world, PowerParams(), steps=1, also=more, memory_limit=limit)
    assert most == []  # refused before anything was solved
    compare(world, PowerParams(), steps=1, also=also, memory_limit=two + 10**6)


def test_compiling_and_solving_take_the_same_share_of_what_is_free(monkeypatch) -> None:
    monkeypatch.setattr("apportion.power.memory.available_memory", lambda: 10**6)
    assert allowed(None) == 600_000 and allowed(5) == 5
    with pytest.raises(UserError, match=r"and 0\.000559 are free for it"):  # 600,000 bytes
        solve(gate(), PowerParams())
    grid = GridWorld.from_config({"map": "Ay .. .. Ae", "max_steps": 60}, "w")
    monkeypatch.setattr("apportion.power.memory.available_memory", lambda: 10**4)
    with pytest.raises(UserError, match=r"0 MiB may be used"):
        grid.compile()
