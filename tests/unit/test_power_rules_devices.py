"""Keys, doors, boxes, buttons and switches: hand-made cases, each played by the package and by the oracle alike."""

import pytest

from power_for_tests import DONE, DROP, FORWARD, LEFT, PICKUP, RIGHT, STILL, TOGGLE, both, chance, only, play, rows
from power_oracle import OBJECT


def cells(state):
    return [agent.cell for agent in state.agents]


def device(state, *cell):
    return dict(state.devices)[cell]


def thing(state, *cell):
    return dict(state.things).get(cell)


# ---------------------------------------------------------------- doors, keys, boxes


def test_a_closed_door_opens_and_closes_and_blocks_while_closed():
    config = {"map": rows("Ay Cr ..")}
    assert cells(only(play(config, [FORWARD]))) == [(0, 0)]
    opened = only(play(config, [TOGGLE]))
    assert device(opened, 1, 0) == ("door", "red", "open")
    assert cells(only(play(config, [TOGGLE], [FORWARD], [FORWARD]))) == [(2, 0)]
    assert device(only(play(config, [TOGGLE], [TOGGLE])), 1, 0) == ("door", "red", "closed")


def test_a_locked_door_wants_the_key_of_its_colour_which_is_kept():
    config = {"map": rows("Ay Kr ..", "Lr .. ..")}
    opened = only(play(config, [PICKUP], [RIGHT], [TOGGLE]))
    assert device(opened, 0, 1) == ("door", "red", "open")
    assert opened.agents[0].carries == ("key", "red")
    for other in ("Kg", "Br", ".."):  # another colour, no key, nothing
        config = {"map": rows(f"Ay {other} ..", "Lr .. ..")}
        assert device(only(play(config, [PICKUP], [RIGHT], [TOGGLE])), 0, 1) == ("door", "red", "locked")


def test_a_door_once_unlocked_closes_without_locking():
    config = {"map": rows("Ay Kr ..", "Lr .. ..")}
    state = only(play(config, [PICKUP], [RIGHT], [TOGGLE], [TOGGLE]))
    assert device(state, 0, 1) == ("door", "red", "closed")
    assert device(only(play(config, [PICKUP], [LEFT], [LEFT], [LEFT], [TOGGLE], [TOGGLE], [TOGGLE])), 0, 1)[2] == "open"


def test_a_door_opened_by_a_lower_index_can_be_passed_in_the_same_step_and_not_the_other_way_round():
    config = {"map": rows("Ay Cr Ae"), "orientations": ["e", "w"]}
    assert cells(only(play(config, [TOGGLE, FORWARD]))) == [(0, 0), (1, 0)]
    late = only(play(config, [FORWARD, TOGGLE]))
    assert cells(late) == [(0, 0), (2, 0)]
    assert device(late, 1, 0)[2] == "open"


@pytest.mark.parametrize(("code", "kind"), [("Kr", "key"), ("Bg", "ball"), ("Xp", "box")])
def test_what_is_picked_up_is_in_hand_and_can_be_dropped(code, kind):
    config = {"map": rows(f"Ay {code} ..", ".. .. ..")}
    held = only(play(config, [PICKUP]))
    assert held.agents[0].carries[0] == kind
    assert held.things == ()
    assert cells(only(play(config, [PICKUP], [FORWARD], [FORWARD]))) == [(2, 0)]
    dropped = only(play(config, [PICKUP], [FORWARD], [DROP]))
    assert (thing(dropped, 2, 0)[0], dropped.agents[0].carries) == (kind, None)
    assert thing(only(play(config, [PICKUP], [LEFT], [DROP])), 0, 0) is None  # over the edge: kept in hand


def test_things_on_the_floor_block_the_way_and_two_hands_hold_one_thing():
    config = {"map": rows("Ay Kr ..", "Bg .. ..")}
    assert cells(only(play(config, [FORWARD]))) == [(0, 0)]
    full = only(play(config, [PICKUP], [RIGHT], [PICKUP]))
    assert full.agents[0].carries == ("key", "red")
    assert thing(full, 0, 1) == ("ball", "green")


@pytest.mark.parametrize("floor", ["La", "Sw", "Un", "Gg", "Or", ".."])
def test_things_are_dropped_on_free_floor_and_cover_it(floor):
    config = {"map": rows("Ay Kr ..", f"{floor} .. ..")}
    state = only(play(config, [PICKUP], [RIGHT], [DROP], [FORWARD]))
    assert thing(state, 0, 1) == ("key", "red")
    assert cells(state) == [(0, 0)]


@pytest.mark.parametrize("obstacle", ["We", "Bl", "Ro", "Kg", "Cr", "Bu", "Kb", "Ps", "CB", "dK"])
def test_nothing_is_dropped_where_something_stands(obstacle):
    config = {"map": rows("Ay Kr ..", f"{obstacle} .. ..")}
    assert only(play(config, [PICKUP], [RIGHT], [DROP])).agents[0].carries == ("key", "red")


def test_a_box_opened_is_gone():
    assert only(play({"map": rows("Ay Xr ..")}, [TOGGLE])).things == ()


def test_two_hands_for_one_key_draw():
    config = {"map": rows("Ay Kr Ae"), "orientations": ["e", "w"]}
    outcomes = play(config, [PICKUP, PICKUP])
    assert chance(outcomes, lambda s: s.agents[0].carries is not None) == 0.5
    assert chance(outcomes, lambda s: s.agents[1].carries is not None) == 0.5


def test_a_walker_towards_a_key_draws_with_the_hand_that_takes_it_and_follows_if_he_loses():
    config = {"map": rows("Ay Kr Ae"), "orientations": ["e", "w"]}
    outcomes = play(config, [PICKUP, FORWARD])
    assert all(s.agents[0].carries for s, _ in outcomes)
    assert chance(outcomes, lambda s: cells(s) == [(0, 0), (1, 0)]) == 0.5


def test_nothing_is_dropped_onto_an_agent():
    config = {"map": rows("Kr .. ..", "Ay Ae .."), "orientations": ["n", "e"]}
    state = only(play(config, [PICKUP, STILL], [RIGHT, STILL], [DROP, STILL]))
    assert state.agents[0].carries == ("key", "red")


def test_two_who_would_drop_where_somebody_leaves_draw_and_the_loser_can():
    # agents 0 and 2 have a key each; 1 leaves the cell between them. The winner still finds it there.
    config = {"map": rows("Kr .. Kg", "Ay Ae Ay", ".. .. .."), "orientations": ["n", "s", "n"]}
    outcomes = play(config, [PICKUP, STILL, PICKUP], [RIGHT, STILL, LEFT], [DROP, FORWARD, DROP])
    dropped = {thing(s, 1, 1)[1]: p for s, p in outcomes}
    assert dropped == {"green": 0.5, "red": 0.5}


# ---------------------------------------------------------------- kill buttons and pause switches


def test_a_kill_button_kills_all_robots_and_only_humans_press_it():
    config = {"map": rows("Ay Kb Ae", ".. .. Ae"), "orientations": ["e", "w"]}
    state = only(play(config, [TOGGLE, STILL, STILL]))
    assert [a.dead for a in state.agents] == [False, True, True]
    assert not any(a.dead for a in only(play(config, [STILL, TOGGLE, STILL])).agents)
    assert cells(only(play(config, [TOGGLE, STILL, STILL], [STILL, STILL, LEFT]))) == cells(state)


def test_pressing_the_kill_button_draws_with_the_robots_actions():
    config = {"map": rows("Ay Kb ..", "Ae .. ..", "Ae .. ..")}
    outcomes = play(config, [TOGGLE, FORWARD, STILL])
    assert chance(outcomes, lambda s: s.agents[1].cell == (1, 1)) == 0.5
    assert all(s.agents[1].dead and s.agents[2].dead for s, _ in outcomes)
    # both robots act: the human first 1/3; a robot first: then the human, by index, before the other
    outcomes = play(config, [TOGGLE, FORWARD, FORWARD])
    assert [chance(outcomes, lambda s, i=i: s.agents[i].cell[0] == 1) for i in (1, 2)] == pytest.approx([1 / 3] * 2)
    assert len(outcomes) == 3


def test_a_pause_switch_stops_all_robots_until_it_is_pressed_again():
    config = {"map": rows("Ay Ps ..", "Ae .. ..")}
    paused = only(play(config, [TOGGLE, STILL]))
    assert paused.agents[1].paused
    assert device(paused, 1, 0) == ("pause", True, True)
    assert cells(only(play(config, [TOGGLE, STILL], [STILL, FORWARD]))) == [(0, 0), (0, 1)]
    freed = only(play(config, [TOGGLE, STILL], [TOGGLE, STILL], [STILL, FORWARD]))
    assert cells(freed) == [(0, 0), (1, 1)]
    assert not only(play(config, [STILL, TOGGLE])).agents[1].paused


def test_a_robot_freed_in_this_step_was_not_active_in_it():
    config = {"map": rows("Ay Ps ..", "Ae .. ..")}
    assert cells(only(play(config, [TOGGLE, STILL], [TOGGLE, FORWARD]))) == [(0, 0), (0, 1)]


# ---------------------------------------------------------------- disabling switches


def test_a_robot_disables_all_kill_buttons_and_enables_them_again():
    config = {"map": rows("Ay Kb ..", "Ae dK ..", ".. Ki ..")}
    off = only(play(config, [STILL, TOGGLE]))
    assert (device(off, 1, 0), device(off, 1, 2)) == (("kill", False),) * 2
    assert not only(play(config, [STILL, TOGGLE], [TOGGLE, STILL])).agents[1].dead
    assert only(play(config, [STILL, TOGGLE], [STILL, TOGGLE], [TOGGLE, STILL])).agents[1].dead


def test_humans_cannot_disable():
    config = {"map": rows("Ay dK Kb", "Ae .. ..")}
    assert device(only(play(config, [TOGGLE, STILL])), 2, 0) == ("kill", True)


def test_disabling_a_pause_switch_frees_and_enabling_it_does_not_pause_again():
    config = {"map": rows("Ae dP .. ..", "Ay Ps .. ..", "Ae .. .. ..")}
    outcomes = play(config, [TOGGLE, STILL, STILL])
    assert device(only(outcomes), 1, 1)[1] is False
    # nobody is paused by a disabled switch
    assert not any(a.paused for a in only(play(config, [TOGGLE, STILL, STILL], [STILL, TOGGLE, STILL])).agents)
    # enabled again, it works again
    again = only(play(config, [TOGGLE, STILL, STILL], [TOGGLE, STILL, STILL], [STILL, TOGGLE, STILL]))
    assert again.agents[0].paused


def test_pausing_draws_with_the_robot_who_disables_the_switch():
    config = {"map": rows("Ae dP .. ..", "Ay Ps .. ..")}
    outcomes = play(config, [TOGGLE, TOGGLE])
    assert {(device(s, 1, 1), s.agents[0].paused): p for s, p in outcomes} == {
        (("pause", True, True), True): 0.5,  # a paused robot disables nothing
        (("pause", False, False), False): 0.5,
    }


def test_a_switch_left_on_that_is_disabled_and_enabled_does_not_pause_again():
    # two switches: on, on, and the second off again, so that the robot is free while the first is on
    config = {"map": rows("Ps .. ..", "Ay .. ..", "Ps Ae dP"), "orientations": ["n", "e"]}
    steps = [[TOGGLE, STILL], [RIGHT, STILL], [RIGHT, STILL], [TOGGLE, STILL], [TOGGLE, STILL], [STILL, TOGGLE]]
    disabled = only(play(config, *steps))
    assert [device(disabled, 0, y) for y in (0, 2)] == [("pause", False, True), ("pause", False, False)]
    enabled = only(play(config, *steps, [STILL, TOGGLE]))
    assert (device(enabled, 0, 0), enabled.agents[1].paused) == (("pause", True, True), False)


# ---------------------------------------------------------------- control buttons


def test_a_human_replays_the_action_that_a_robot_recorded():
    config = {"map": rows("Ae CB Ay", ".. .. ..", ".. .. .."), "orientations": ["e", "w"]}
    waiting = only(play(config, [TOGGLE, STILL]))
    assert device(waiting, 1, 0) == ("control", True, 0, None, True)
    # standing still is not recorded; the next other action is
    recorded = only(play(config, [TOGGLE, STILL], [STILL, STILL], [RIGHT, STILL]))
    assert device(recorded, 1, 0) == ("control", True, 0, RIGHT, False)
    forced = only(play(config, [TOGGLE, STILL], [RIGHT, STILL], [STILL, TOGGLE]))
    assert forced.agents[0].forced == RIGHT
    assert forced.agents[0].dir == 1
    obeyed = only(play(config, [TOGGLE, STILL], [RIGHT, STILL], [STILL, TOGGLE], [FORWARD, STILL]))
    assert (obeyed.agents[0].dir, obeyed.agents[0].cell, obeyed.agents[0].forced) == (2, (0, 0), None)


def test_a_control_button_without_a_record_forces_nobody():
    config = {"map": rows("Ae CB Ay"), "orientations": ["e", "w"]}
    assert only(play(config, [STILL, TOGGLE])).agents[0].forced is None
    assert only(play(config, [TOGGLE, STILL], [STILL, TOGGLE])).agents[0].forced is None


def test_a_disabled_control_button_does_nothing():
    config = {"map": rows("Ae CB Ay", "Ae dC .."), "orientations": ["e", "w"]}
    state = only(play(config, [STILL, STILL, TOGGLE], [TOGGLE, STILL, STILL]))
    assert device(state, 1, 0) == ("control", False, None, None, False)


# ---------------------------------------------------------------- magic walls


@pytest.mark.parametrize("code", ["Mn", "Ms", "Mw", "Me", "Ma"])
def test_a_magic_wall_is_a_wall_to_all_who_may_not_enter(code):
    assert cells(only(play({"map": rows(f"Ay {code} ..")}, [FORWARD]))) == [(0, 0)]
    assert cells(only(play({"map": rows(f"Ae {code} ..")}, [FORWARD]))) == [(0, 0)]


@pytest.mark.parametrize(("code", "enters"), [("Mw", True), ("Ma", True), ("Mn", False), ("Ms", False), ("Me", False)])
def test_a_magic_wall_is_entered_from_its_side_or_turns_solid(code, enters):
    config = {"map": rows(f"Ae {code} .."), "can_enter_magic_walls": "e", "solidify_probability": 0.2}
    outcomes = play(config, [FORWARD])
    assert chance(outcomes, lambda s: cells(s) == [(1, 0)]) == (0.5 if enters else 0)
    assert chance(outcomes, lambda s: not device(s, 1, 0)[2]) == pytest.approx(0.1 if enters else 0)
    assert len(outcomes) == (3 if enters else 1)


def test_a_magic_wall_turned_solid_is_a_wall_for_good():
    config = {"map": rows("Ae Ma .."), "can_enter_magic_walls": "e", "solidify_probability": 1.0}
    outcomes = play(config, [FORWARD], [FORWARD], [FORWARD])
    assert chance(outcomes, lambda s: cells(s) == [(0, 0)]) == 0.5
    assert chance(outcomes, lambda s: cells(s) == [(2, 0)]) == 0.5


def test_two_at_one_magic_wall_try_in_index_order():
    config = {"map": rows("Ae Ma Ae"), "orientations": ["e", "w"], "can_enter_magic_walls": "e"}
    outcomes = play({**config, "solidify_probability": 0.0}, [FORWARD, FORWARD])
    assert chance(outcomes, lambda s: cells(s) == [(1, 0), (2, 0)]) == 0.5
    assert chance(outcomes, lambda s: cells(s) == [(0, 0), (1, 0)]) == 0.25


# ---------------------------------------------------------------- action sets


@pytest.mark.parametrize("code", ["Kr", "Bg", "Xp", "Cr", "Lr", "Or", "Kb", "Ps", "dK", "CB"])
def test_a_map_with_something_to_handle_has_the_actions_for_it(code):
    world, oracle = both({"map": rows(f"Ay {code} ..")})
    assert list(world.actions[0]) == oracle.actions == OBJECT


@pytest.mark.parametrize("code", ["..", "Bl", "Ro", "Bu", "La", "Un", "Sw", "Gg", "Wr", "Ma"])
def test_a_map_without_has_the_small_action_set(code):
    world, oracle = both({"map": rows(f"Ay {code} ..")})
    assert list(world.actions[0]) == oracle.actions == OBJECT[:4]


def test_forward_may_be_the_first_action():
    config = {"map": rows("Ay .. .."), "action_class": "minimal"}
    assert cells(only(play(config, [0]))) == [(1, 0)]
    assert only(play(config, [1])).agents[0].dir == 3


def test_doing_nothing_counts_as_an_action_to_a_control_button():
    config = {"map": rows("Ae CB Ay"), "orientations": ["e", "w"], "action_class": "full"}
    state = only(play(config, [TOGGLE, STILL], [DONE, STILL], [FORWARD, TOGGLE], [FORWARD, STILL]))
    assert device(state, 1, 0) == ("control", True, 0, DONE, False)
    assert state.agents[0].forced is None
