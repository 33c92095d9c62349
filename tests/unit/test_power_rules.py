"""Who moves where when all move at once: hand-made cases, each played by the package and by the oracle alike."""

import pytest

from power_for_tests import FORWARD, LEFT, RIGHT, STILL, TOGGLE, chance, only, play, rows


def cells(state):
    return [agent.cell for agent in state.agents]


def things(state, kind):
    return [cell for cell, (what, _) in state.things if what == kind]


def at(i, *cell):
    return lambda state: state.agents[i].cell == cell


# ---------------------------------------------------------------- one agent


def test_turns_and_steps_follow_the_compass():
    config = {"map": rows("We We We", "We Ay ..", "We .. ..")}
    assert only(play(config, [LEFT])).agents[0].dir == 3  # east, then north
    assert only(play(config, [RIGHT])).agents[0].dir == 1  # south: y grows downwards
    assert cells(only(play(config, [FORWARD]))) == [(2, 1)]
    assert cells(only(play(config, [RIGHT], [FORWARD]))) == [(1, 2)]
    assert cells(only(play(config, [LEFT], [FORWARD]))) == [(1, 1)]  # a wall
    assert cells(only(play(config, [FORWARD], [FORWARD]))) == [(2, 1)]  # the edge of the map


def test_orientations_are_given_in_agent_order_and_the_rest_face_east():
    state = only(play({"map": rows("Ae Ay", "Ay Ae"), "orientations": ["n", 2, "s"]}, [STILL] * 4))
    assert [agent.dir for agent in state.agents] == [3, 2, 1, 0]


def test_humans_push_blocks_and_only_robots_push_rocks():
    block, rock = rows("Ay Bl .. ..", "Ae Bl .. .."), rows("Ay Ro .. ..", "Ae Ro .. ..")
    assert cells(only(play({"map": block}, [FORWARD, FORWARD]))) == [(1, 0), (1, 1)]
    state = only(play({"map": rock}, [FORWARD, FORWARD]))
    assert cells(state) == [(0, 0), (1, 1)]
    assert things(state, "rock") == [(1, 0), (2, 1)]
    everybody = {"map": rock, "can_push_rocks": "ye"}
    assert cells(only(play(everybody, [FORWARD, FORWARD]))) == [(1, 0), (1, 1)]


def test_an_unbroken_row_moves_as_one_or_not_at_all():
    state = only(play({"map": rows("Ae Bl Ro Bl .. ..")}, [FORWARD]))
    assert cells(state) == [(1, 0)]
    assert (things(state, "block"), things(state, "rock")) == ([(2, 0), (4, 0)], [(3, 0)])
    assert cells(only(play({"map": rows("Ae Bl Ro Bl Wr ..")}, [FORWARD]))) == [(0, 0)]
    assert cells(only(play({"map": rows("Ay Bl Ro Bl .. ..")}, [FORWARD]))) == [(0, 0)]  # one rock is too many
    assert cells(only(play({"map": rows("Ay Bl")}, [FORWARD]))) == [(0, 0)]  # over the edge


@pytest.mark.parametrize("obstacle", ["Kr", "Br", "Xr", "Cr", "Lr", "Bu", "Kb", "Ps", "dK", "CB", "Ma", "Wr"])
def test_nothing_is_pushed_onto_what_stands_there(obstacle):
    assert cells(only(play({"map": rows(f"Ay Bl {obstacle} ..")}, [FORWARD]))) == [(0, 0)]


@pytest.mark.parametrize("floor", ["La", "Sw", "Un", "Gg", "Or"])
def test_a_block_covers_terrain_which_is_there_again_afterwards(floor):
    state = only(play({"map": rows(f"Ay Bl {floor} .. ..")}, [FORWARD]))
    assert things(state, "block") == [(2, 0)]
    pushed_on = only(play({"map": rows(f"Ay Bl {floor} .. ..")}, [FORWARD], [FORWARD]))
    assert (cells(pushed_on), things(pushed_on, "block")) == ([(2, 0)], [(3, 0)])
    assert not pushed_on.agents[0].dead  # lava under a pushed object does not kill the pusher in that step
    wide = {"map": rows(f"Ay Bl {floor} .. ..", ".. .. .. .. .."), "stumble_probability": 1.0}
    back = play(wide, [FORWARD], [FORWARD], [FORWARD])
    if floor == "Un":
        assert chance(back, at(0, 2, 1)) == 0.5  # it stands on unsteady ground again
    else:
        assert cells(only(back)) == [(3, 0)]


def test_lava_kills_and_the_body_blocks_and_keeps_its_goal():
    config = {"map": rows("Ay La .. Ae"), "orientations": ["e", "w"], "possible_goals": ["1,0"]}
    dead = only(play(config, [FORWARD, STILL]))
    assert (dead.agents[0].cell, dead.agents[0].dead) == ((1, 0), True)
    later = only(play(config, [FORWARD, FORWARD], [FORWARD, FORWARD], [LEFT, FORWARD]))
    assert cells(later) == [(1, 0), (2, 0)]
    assert later.agents[0].dir == 0


def test_a_dead_body_is_not_pushed_and_nothing_is_pushed_onto_it():
    config = {"map": rows("Ay La .. Bl Ae"), "orientations": ["e", "w"]}
    state = only(play(config, [FORWARD, FORWARD], [STILL, FORWARD]))
    assert (cells(state), things(state, "block")) == ([(1, 0), (3, 0)], [(2, 0)])


# ---------------------------------------------------------------- several at once


def test_no_trains_no_swaps_no_entering_a_cell_left_in_this_step():
    assert cells(only(play({"map": rows("Ay Ae ..")}, [FORWARD, FORWARD]))) == [(0, 0), (2, 0)]
    facing = {"map": rows("Ay Ae"), "orientations": ["e", "w"]}
    assert cells(only(play(facing, [FORWARD, FORWARD]))) == [(0, 0), (1, 0)]
    turning = {"map": rows(".. ..", "Ae Ay"), "orientations": ["e", "n"]}
    assert cells(only(play(turning, [FORWARD, FORWARD]))) == [(0, 1), (1, 0)]


def test_no_pushing_onto_a_cell_left_in_this_step():
    config = {"map": rows(".. .. ..", "Ay Bl Ae"), "orientations": ["e", "n"]}
    state = only(play(config, [FORWARD, FORWARD]))
    assert (cells(state), things(state, "block")) == ([(0, 1), (2, 0)], [(1, 1)])


def test_two_who_want_one_cell_draw_and_three_draw_evenly():
    two = {"map": rows("Ay .. Ae"), "orientations": ["e", "w"]}
    assert chance(play(two, [FORWARD, FORWARD]), at(0, 1, 0)) == 0.5
    three = {"map": rows("Ay .. Ae", ".. Ay .."), "orientations": ["e", "w", "n"]}
    outcomes = play(three, [FORWARD] * 3)
    assert len(outcomes) == 3
    assert [chance(outcomes, at(i, 1, 0)) for i in range(3)] == pytest.approx([1 / 3] * 3)


def test_blocks_of_agents_draw_independently():
    config = {"map": rows("Ay .. Ae", "Ay .. Ae"), "orientations": ["e", "w", "e", "w"]}
    outcomes = play(config, [FORWARD] * 4)
    assert sorted(p for _, p in outcomes) == [0.25] * 4


def test_pusher_and_walker_draw_and_a_losing_walker_pushes_the_block_on():
    config = {"map": rows(".. .. .. ..", "Ay Bl .. ..", ".. .. Ae .."), "orientations": ["e", "n"]}
    outcomes = play(config, [FORWARD, FORWARD])
    assert len(outcomes) == 2
    pushed_twice = chance(outcomes, lambda s: cells(s) == [(1, 1), (2, 1)] and things(s, "block") == [(2, 0)])
    walked_first = chance(outcomes, lambda s: cells(s) == [(0, 1), (2, 1)] and things(s, "block") == [(1, 1)])
    assert (pushed_twice, walked_first) == (0.5, 0.5)


def test_a_losing_walker_who_may_not_push_rocks_stays():
    config = {"map": rows(".. .. .. ..", "Ae Ro .. ..", ".. .. Ay .."), "orientations": ["e", "n"]}
    outcomes = play(config, [FORWARD, FORWARD])
    assert chance(outcomes, lambda s: cells(s) == [(1, 1), (2, 2)] and things(s, "rock") == [(2, 1)]) == 0.5


def test_two_pushers_of_one_rock_from_two_sides_the_lower_index_wins_for_sure():
    config = {"map": rows(".. Ae .. ..", "Ae Ro .. ..", ".. .. .. .."), "orientations": ["s", "e"]}
    state = only(play(config, [FORWARD, FORWARD]))
    assert (cells(state), things(state, "rock")) == ([(1, 1), (0, 1)], [(1, 2)])


def test_winners_act_in_the_order_of_their_resource_and_losers_after_them():
    # 0 and 2 want (1, 0); 1 pushes the block at (2, 1) to (2, 0), beside them: nobody else wants that
    config = {"map": rows("Ay .. .. ..", ".. Ae Bl ..", ".. .. Ay .."), "orientations": ["e", "n", "n"]}
    outcomes = play(config, [FORWARD, FORWARD, FORWARD])
    assert chance(outcomes, lambda s: cells(s) == [(1, 0), (1, 1), (2, 1)]) == 0.5
    assert chance(outcomes, lambda s: cells(s) == [(0, 0), (1, 0), (2, 1)]) == 0.5
    assert all(things(s, "block") == [(2, 0)] for s, _ in outcomes)


def test_a_winner_acts_where_its_block_comes_first_even_before_a_lower_index():
    # 0 and 2 want the door's cell, which comes before 1, who opens it: the winner finds it closed, the loser open
    config = {"map": rows(".. Ae ..", "Ay Cr Ay"), "orientations": ["s", "e", "w"]}
    outcomes = play(config, [FORWARD, TOGGLE, FORWARD])
    assert chance(outcomes, at(0, 1, 1)) == 0.5
    assert chance(outcomes, at(2, 1, 1)) == 0.5


# ---------------------------------------------------------------- bushes


def test_a_robot_tramples_a_bush_and_a_human_leaves_it_standing():
    robot = only(play({"map": rows("Ae Bu ..")}, [FORWARD]))
    assert (cells(robot), robot.devices) == ([(1, 0)], (((1, 0), ("bush", True)),))
    human = only(play({"map": rows("Ay Bu ..")}, [FORWARD]))
    assert (cells(human), human.devices) == ([(1, 0)], (((1, 0), ("bush", False)),))
    assert cells(only(play({"map": rows("Ay Bu ..")}, [FORWARD], [FORWARD]))) == [(2, 0)]


def test_a_human_who_may_push_rocks_tramples_too():
    state = only(play({"map": rows("Ay Bu .."), "can_push_rocks": "y"}, [FORWARD]))
    assert state.devices == (((1, 0), ("bush", True)),)


def test_two_humans_into_a_bush_by_coins_in_index_order():
    config = {"map": rows("Ay Bu Ay"), "orientations": ["e", "w"], "enter_bush_success_prob": 0.6}
    outcomes = play(config, [FORWARD, FORWARD])
    assert chance(outcomes, at(0, 1, 0)) == pytest.approx(0.6)
    assert chance(outcomes, at(1, 1, 0)) == pytest.approx(0.24)
    assert len(outcomes) == 3


def test_a_robot_enters_a_bush_before_a_human_who_tosses_a_coin():
    config = {"map": rows("Ay Bu Ae"), "orientations": ["e", "w"], "enter_bush_success_prob": 0.6}
    assert cells(only(play(config, [FORWARD, FORWARD]))) == [(0, 0), (1, 0)]


def test_a_trampled_bush_is_plain_floor():
    config = {"map": rows("Ae Bu .. ..", "Ay .. .. ..", "Bl .. .. .."), "enter_bush_success_prob": 0.6}
    state = only(play(config, [FORWARD, STILL], [FORWARD, LEFT], [STILL, FORWARD], [STILL, RIGHT], [STILL, FORWARD]))
    assert cells(state) == [(2, 0), (1, 0)]


# ---------------------------------------------------------------- unsteady ground


def test_unsteady_ground_turns_a_step_aside():
    config = {"map": rows(".. .. .. ..", "Ay Un .. ..", ".. .. .. .."), "stumble_probability": 0.4}
    outcomes = play(config, [FORWARD], [FORWARD])
    assert {s.agents[0][:3]: p for s, p in outcomes} == pytest.approx({(2, 1, 0): 0.6, (1, 0, 3): 0.2, (1, 2, 1): 0.2})


def test_a_bush_is_entered_by_its_own_coin_not_by_a_stumble():
    config = {"map": rows("Ay Un Bu"), "stumble_probability": 1.0, "enter_bush_success_prob": 0.6}
    outcomes = play(config, [FORWARD], [FORWARD])
    assert {s.agents[0][:3]: p for s, p in outcomes} == pytest.approx({(2, 0, 0): 0.6, (1, 0, 0): 0.4})


def test_a_stumble_against_a_wall_turns_and_turning_never_stumbles():
    config = {"map": rows("Ay Un .."), "stumble_probability": 0.4}
    outcomes = play(config, [FORWARD], [FORWARD])
    assert {s.agents[0][:3]: p for s, p in outcomes} == pytest.approx({(2, 0, 0): 0.6, (1, 0, 3): 0.2, (1, 0, 1): 0.2})
    assert only(play(config, [FORWARD], [LEFT])).agents[0].dir == 3


def test_two_on_unsteady_ground_who_want_one_cell_are_both_blocked():
    config = {"map": rows("Ay Un .. Un Ae"), "orientations": ["e", "w"], "stumble_probability": 0.0}
    assert cells(only(play(config, [FORWARD, FORWARD], [FORWARD, FORWARD]))) == [(1, 0), (3, 0)]


def test_pushing_from_unsteady_ground_claims_the_landing_cell():
    config = {"map": rows("Ay Un Bl .. Un Ae"), "orientations": ["e", "w"], "stumble_probability": 0.0}
    state = only(play(config, [FORWARD, FORWARD], [FORWARD, FORWARD]))
    assert (cells(state), things(state, "block")) == ([(1, 0), (4, 0)], [(2, 0)])
    alone = only(play(config, [FORWARD, FORWARD], [FORWARD, STILL]))
    assert (cells(alone), things(alone, "block")) == ([(2, 0), (4, 0)], [(3, 0)])


def test_those_on_firm_ground_move_before_those_on_unsteady_ground():
    config = {"map": rows("Ay Un .. .. Ae"), "orientations": ["e", "w"], "stumble_probability": 0.0}
    state = only(play(config, [FORWARD, FORWARD], [FORWARD, FORWARD]))
    assert cells(state) == [(1, 0), (2, 0)]  # both want (2, 0); no draw, the robot stands on firm ground


def test_two_on_unsteady_ground_stumble_independently():
    config = {"map": rows(".. .. ..", "Ay Un ..", ".. .. ..", ".. .. ..", "Ae Un ..", ".. .. ..")}
    outcomes = play(config, [FORWARD, FORWARD], [FORWARD, FORWARD])
    assert len(outcomes) == 9
    assert chance(outcomes, lambda s: cells(s) == [(2, 1), (2, 4)]) == 0.25
    assert chance(outcomes, lambda s: cells(s) == [(1, 2), (1, 3)]) == 0.0625
