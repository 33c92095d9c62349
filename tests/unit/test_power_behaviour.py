"""What the objective makes a robot do: situations of the paper (arXiv 2508.00159), small enough to work out by hand."""

import math

import numpy as np
import pytest

from apportion.power.enumerate import enumerate_world
from apportion.power.grid.world import load_world
from apportion.power.params import PowerParams
from apportion.power.solve import solve
from power_table import TableWorld


def table(moves, attains, actions, horizon):
    """Humans first, one robot last. moves[state](joint) -> successor; attains[state]: the goals held, per human."""
    humans = tuple(range(len(actions) - 1))
    joints = list(np.ndindex(*actions))
    return TableWorld(
        moves={(state, joint): {move(joint): 1.0} for state, move in moves.items() for joint in joints},
        attains=np.array(attains, bool),
        sizes=actions,
        humans=humans,
        robots=(len(actions) - 1,),
        horizon=horizon,
        still=(0,) * len(actions),
        goal_weights=np.full(len(attains[0][0]), 1 / len(attains[0][0])),
    )


def first_choice(world, **params):
    """pi_r and X_h at the start, and X_h of each state at time 1 by its number."""
    compiled = enumerate_world(world)
    solution = solve(compiled, PowerParams(**params))
    later = {int(row[0]): solution.at(1).x[i] for i, row in enumerate(compiled.states[: compiled.reached(1)])}
    return solution.at(0).pi[0], later


# ---------------------------------------------------------------- inequality


def help_the_strong_or_the_weak():
    """Of 20 goals the strong human can have 10 or, with help, 20; the weak one 5 or, with help, 6."""

    def holds(strong, weak):
        return [[g < strong for g in range(20)], [g < weak for g in range(20)]]

    moves = {0: lambda joint: 1 + joint[2], 1: lambda _: 1, 2: lambda _: 2}
    return table(moves, [holds(10, 5), holds(20, 5), holds(10, 6)], (1, 1, 2), 2)


def test_a_larger_xi_protects_the_weaker_human():
    world = help_the_strong_or_the_weak()
    pi, x = first_choice(world, xi=1.0, eta=1.0)
    assert x[1] == pytest.approx([1.0, 0.25])
    assert x[2] == pytest.approx([0.5, 0.3])
    # Q_r is proportional to the mean of 1/X: (1 + 4) / 2 against (2 + 10/3) / 2
    assert pi[0] / pi[1] == pytest.approx(((2 + 10 / 3) / (1 + 4)) ** 10)
    for_the_weak = [first_choice(world, xi=xi)[0][1] for xi in (1.0, 1.5, 2.0, 4.0)]
    assert for_the_weak == sorted(for_the_weak)
    assert for_the_weak[0] < 0.4
    assert for_the_weak[-1] > 0.99


def test_a_larger_zeta_prefers_the_reliable_to_the_merely_likely():
    """One goal for sure, or either of two with probability 0.7 each: zeta decides."""
    moves = {
        (0, (0, 0)): {1: 1.0}, (0, (0, 1)): {2: 1.0}, (1, (0, 0)): {3: 1.0}, (1, (0, 1)): {3: 1.0},
        (2, (0, 0)): {4: 0.7, 5: 0.3}, (2, (0, 1)): {4: 0.7, 5: 0.3},
    }  # fmt: skip
    attains = np.array([[[s == 3, False]] if s != 4 else [[True, True]] for s in range(6)])
    world = TableWorld(moves, attains, (1, 2), (0,), (1,), 2, (0, 0), np.array([0.5, 0.5]))
    _, linear = first_choice(world, zeta=1.0, x_floor=1e-9)
    _, convex = first_choice(world, zeta=2.0, x_floor=1e-9)
    assert (linear[1][0], linear[2][0]) == pytest.approx((0.5, 0.7))
    assert (convex[1][0], convex[2][0]) == pytest.approx((0.5, 0.49))


# ---------------------------------------------------------------- asking, waiting, committing

DO_A, DO_B, ASK, ASK_AND_OBEY = range(4)
START, ASKED, BOUND, GOAL_A, GOAL_B = range(5)


def question():
    """A robot can do A or B at once; ask, and then do as it likes; or ask in a way that the answer decides."""
    moves = {
        START: lambda joint: {DO_A: GOAL_A, DO_B: GOAL_B, ASK: ASKED, ASK_AND_OBEY: BOUND}[joint[1]],
        ASKED: lambda joint: GOAL_A if joint[1] in (DO_A, ASK) else GOAL_B,
        BOUND: lambda joint: GOAL_A if joint[0] == 0 else GOAL_B,
        GOAL_A: lambda _: GOAL_A,
        GOAL_B: lambda _: GOAL_B,
    }
    attains = [[[False, False]]] * 3 + [[[True, False]], [[False, True]]]
    return table(moves, attains, (2, 4), 4)


def test_a_robot_asks_when_the_answer_decides():
    pi, x = first_choice(question())
    assert x[BOUND][0] == pytest.approx(1 / (1 + math.exp(-10)) ** 2)  # either goal, by the human's own choice
    assert x[GOAL_A][0] == pytest.approx(0.5)  # one of two goals
    assert pi.argmax() == ASK_AND_OBEY
    assert pi[DO_A] == pytest.approx(pi[DO_B])


def test_a_question_without_commitment_is_worth_less_than_none():
    """The robot's liberty after the answer is what the human cannot count on: X = .5^2."""
    pi, x = first_choice(question())
    assert x[ASKED][0] == pytest.approx(0.25)
    assert pi.argmin() == ASK
    assert pi[ASK_AND_OBEY] / pi[ASK] > 50


def test_a_robot_does_not_leave_the_choice_to_somebody_who_chooses_at_random():
    pi, x = first_choice(question(), beta_h=0.0)
    assert x[BOUND][0] == pytest.approx(0.25)
    assert pi[DO_A] > pi[ASK_AND_OBEY]
    choosing = [first_choice(question(), beta_h=beta)[0][ASK_AND_OBEY] for beta in (0.0, 0.5, 1.0, 3.0, 10.0)]
    assert choosing == sorted(choosing)


@pytest.mark.parametrize("belief", ["min", "mean", "max"])
def test_a_robot_waits_where_a_human_can_still_choose(belief):
    """The human goes to and fro between A and B; the robot can wait, or fix for good where the human is now."""
    at_a, at_b, fixed_a, fixed_b = range(4)
    moves = {
        at_a: lambda joint: fixed_a if joint[1] else (at_b if joint[0] else at_a),
        at_b: lambda joint: fixed_b if joint[1] else (at_a if joint[0] else at_b),
        fixed_a: lambda _: fixed_a,
        fixed_b: lambda _: fixed_b,
    }
    world = table(moves, [[[True, False]], [[False, True]]] * 2, (2, 2), 6)
    betas = (0.0, 2.0, 5.0, 10.0, 40.0)
    waits, x = zip(*(first_choice(world, robot_belief=belief, beta_r=beta) for beta in betas), strict=True)
    patience = [pi[0] for pi in waits]
    assert patience == sorted(patience)
    assert patience[3] > 0.8
    assert all(later[fixed_a][0] == pytest.approx(0.5) for later in x)
    freedom = [later[at_a][0] for later in x]
    assert freedom == sorted(freedom)  # the human's power rests on the robot's restraint
    assert freedom[0] > 0.5


def test_a_robot_makes_itself_predictable():
    """It can throw away its own freedom to shut a door later; it does, since the human's power counts on it."""
    moves = {
        0: lambda joint: 1 + joint[1],  # 1: free to shut; 2: cannot shut any more
        1: lambda joint: 3 if joint[1] else (4 if joint[0] else 1),
        2: lambda joint: 4 if joint[0] else 2,
        3: lambda _: 3,
        4: lambda joint: 5 if joint[0] else 4,
        5: lambda joint: 4 if joint[0] else 5,
    }
    attains = [[[s in (0, 1, 2, 3), s == 4, s == 5]] for s in range(6)]
    pi, x = first_choice(table(moves, attains, (2, 2), 4))
    assert pi[1] > pi[0]
    assert x[2][0] > x[1][0]


# ---------------------------------------------------------------- worlds that are shipped


def greedy(name, **params):
    """[(description, X_h)] while the robot does what it most prefers and every human stays where it is."""
    world = load_world(name)
    compiled = world.compile()
    solution = solve(compiled, PowerParams(**params))
    number = {row.tobytes(): i for i, row in enumerate(compiled.states)}
    state, seen = world.initial(), []
    [robot] = world.robots
    for t in range(world.horizon):
        i = number[state.tobytes()]
        seen.append((world.describe(state), solution.at(t).x[i]))
        joint = np.zeros(len(world.agents), np.int64)  # 0: still
        joint[robot] = solution.at(t).pi[i].argmax()
        [state], _ = world.transitions(state, joint)
    return seen


def when(seen, holds):
    return next(t for t, (words, _) in enumerate(seen) if holds(words))


def cell(words, agent):
    return words["agents"][agent]["x"], words["agents"][agent]["y"]


@pytest.mark.parametrize("beta_r", [5.0, 10.0])  # the paper's experiment; the default
def test_the_robot_fetches_the_key_opens_the_door_and_steps_aside(beta_r):
    seen = greedy("key-door-step-aside", beta_r=beta_r)
    fetched = when(seen, lambda words: words["agents"][1]["carrying"] == "key")
    opened = when(seen, lambda words: words["mutable_objects"][0][3])
    in_front = cell(seen[opened][0], 1)
    aside = when(seen[opened:], lambda words: cell(words, 1) not in (in_front, (2, 1))) + opened
    assert 0 < fetched < opened < aside
    for words, _ in seen[aside:]:
        assert words["mutable_objects"][0][3]  # it stays open
        assert cell(words, 1) not in (in_front, (2, 1))  # and free
    assert seen[aside][1][0] > 2 * seen[0][1][0]  # a bit of power, and more


def test_the_robot_pushes_the_rock_through_the_gateway_and_leaves_it():
    seen = greedy("rock-gateway")
    [rock] = seen[-1][0]["mobile_objects"]
    assert (rock["x"], rock["y"]) == (5, 2)
    assert cell(seen[-1][0], 1) not in ((3, 2), (4, 2))


def test_the_robot_in_the_corridor_withdraws_to_the_end():
    seen = greedy("corridor")
    assert cell(seen[-1][0], 1) == (7, 1)
    assert max(x[0] for _, x in seen) > 1.4 * seen[0][1][0]


def test_a_larger_xi_leaves_the_weaker_human_stronger_at_a_cost_to_the_stronger():
    world = load_world("bystander-push")
    compiled = world.compile()
    mild, strict = (solve(compiled, PowerParams(xi=xi)).at(0).x[0] for xi in (1.0, 4.0))
    assert strict.min() > 1.05 * mild.min()
    assert strict.max() < 0.98 * mild.max()
