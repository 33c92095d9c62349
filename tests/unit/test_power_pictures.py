"""What a grid world looks like: read from its state, drawn the same in pixels and SVG, and over a course of events."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from apportion.cli import main
from apportion.power.course import course_of
from apportion.power.grid import curves, draw, film, glyphs, maps, shapes
from apportion.power.grid.pictures import pictures
from apportion.power.grid.scene import Thing, between
from apportion.power.grid.story import story
from apportion.power.grid.view import goal_words, grid_view, words
from apportion.power.grid.world import SHIPPED, GridWorld, load_world, shipped_worlds
from apportion.power.params import PowerParams
from apportion.power.rollout import roll_out
from apportion.power.solve import solve
from apportion.types import UserError

STILL, LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE = range(7)
KEY_DOOR = {"map": "We We We We We\nWe Ay Lr .. We\nWe Ae Kr .. We\nWe We We We We", "max_steps": 4}


def after(world, *joints):
    """The scenes from the start on, each joint action's first successor taken."""
    states = [world.initial()]
    for joint in joints:
        states.append(world.transitions(states[-1], np.array(joint))[0][0])
    return [draw.scene(world, s) for s in states]


def things(scene, kind):
    return [t for t in scene.things if t.kind == kind]


@pytest.fixture(scope="module")
def trivial():
    """(world, solution) over 4 steps."""
    world = load_world("trivial").with_horizon(4)
    return world, solve(world.compile(), PowerParams())


# ---------------------------------------------------------------- the worlds that come along


def test_there_are_worlds_for_every_theme():
    names = set(shipped_worlds())
    themes = {"trivial", "key-door-step-aside", "freeing", "rock-gateway", "trolley", "corridor", "two-chambers"}
    bystanders = {f"bystander-{kind}" for kind in ("push", "pull", "freeze")}
    assert themes | bystanders | {f"obstacles-{n}" for n in (2, 4, 6, 8, 10)} <= names


@pytest.mark.parametrize("name", shipped_worlds())
def test_every_world_says_what_it_shows_and_can_be_drawn(name, capsys):
    text = (SHIPPED / f"{name}.yaml").read_text()
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert 2 <= len(comments) <= 3
    world = load_world(name)
    assert all("no human can ever reach" in line for line in capsys.readouterr().err.splitlines())
    found = draw.picture(draw.scene(world))
    root = ET.fromstring(draw.svg(found, name))
    assert root.find("{http://www.w3.org/2000/svg}title").text == name
    assert draw.pixels(found, 20).shape == (round(found.height * 20), round(found.width * 20), 3)


def test_a_bystander_world_names_its_user_and_its_bystander():
    import yaml

    for name in (n for n in shipped_worlds() if n.startswith("bystander-")):
        about = yaml.safe_load((SHIPPED / f"{name}.yaml").read_text())["metadata"]
        assert {about["user"], about["bystander"]} == set(load_world(name).humans)


# ---------------------------------------------------------------- from states to scenes


def test_a_scene_shows_who_carries_what_and_which_doors_are_open():
    # the robot (agent 1) takes the key; the human cannot open the door without it
    world = GridWorld.from_config({**KEY_DOOR, "orientations": ["e", "e"]}, "test")
    start, taken, _ = after(world, (TOGGLE, PICKUP), (STILL, STILL))
    assert [(k.x, k.y, k.color) for k in things(start, "key")] == [(2, 2, "r")]
    assert (start.bodies[1].carries, things(taken, "key")) == (None, [])
    assert (taken.bodies[1].carries.kind, taken.bodies[1].carries.color) == ("key", "r")
    assert [d.state for d in things(taken, "door")] == ["locked"]
    # with the key in its own hands the human opens it
    config = {**KEY_DOOR, "map": "We We We We\nWe Kr We We\nWe Ay Lr We\nWe We We We", "orientations": ["n"]}
    scenes = after(GridWorld.from_config(config, "test"), (PICKUP,), (RIGHT,), (TOGGLE,), (TOGGLE,))
    assert [things(s, "door")[0].state for s in scenes[2:]] == ["locked", "open", "closed"]


def test_a_scene_shows_the_dead_the_paused_and_the_states_of_devices():
    config = {"map": "We We We We We\nWe Ps Ay Ki We\nWe La Ae Bu We\nWe We We We We", "max_steps": 4,
              "orientations": ["w", "e"]}  # fmt: skip
    world = GridWorld.from_config(config, "test")
    start, paused, on, _, off = after(world, (TOGGLE, FORWARD), (TOGGLE, STILL), (LEFT, STILL), (LEFT, STILL))[:5]
    assert (start.bodies[1].paused, paused.bodies[1].paused, on.bodies[1].paused) == (False, True, False)
    assert [things(s, "pause switch")[0].flags for s in (start, paused)] == [frozenset(), frozenset({"on"})]
    assert {g.kind for g in start.ground} == {"wall", "lava"}
    killed = after(world, (RIGHT, STILL), (RIGHT, STILL), (TOGGLE, STILL))[-1]
    assert killed.bodies[1].dead
    assert off.bodies[0].turn == 0
    walked = after(world, (STILL, FORWARD))[-1]
    assert things(walked, "bush")[0].flags == {"trampled"}


def test_halfway_between_states_bodies_and_rocks_are_halfway():
    world = load_world("trivial")
    start, pushed = after(world, (FORWARD, LEFT))
    middle = between(start, pushed, 0.5)
    assert [(b.x, b.y, b.turn) for b in middle.bodies] == [(1.5, 1, 0), (2, 2, -0.5)]  # east to north, the short way
    assert [(t.kind, t.x, t.y) for t in middle.things] == [("rock", 2.5, 1)]
    assert [(t.x, t.y) for t in between(start, pushed, 1.0).things] == [(3, 1)]


def test_words_name_everything():
    world = GridWorld.from_config({**KEY_DOOR, "orientations": ["e", "e"]}, "test")
    _, taken = after(world, (STILL, PICKUP))
    assert words(world, taken).splitlines() == [
        "human at (1, 1), facing east",
        "robot at (1, 2), facing east, carrying a red key",
        "red door at (2, 1): locked",
    ]
    assert goal_words((3, 1, 3, 1)) == "(3, 1)"
    assert goal_words((1, 1, 3, 2)) == "(1, 1) to (3, 2)"


# ---------------------------------------------------------------- pixels


def rgb(color):
    return tuple(int(color[i : i + 2], 16) for i in (1, 3, 5))


def test_everybody_is_where_the_state_says():
    world = load_world("trivial")  # 6 x 4, walls all around: the rim is cut to .4 of a cell
    picture = world.render(world.initial())
    assert picture.shape == (round(2.8 * draw.CELL), round(4.8 * draw.CELL), 3)

    def middle(x, y):
        at = [round((v + 0.5 - 0.6) * draw.CELL) for v in (y, x)]
        return tuple(int(v) for v in picture[at[0], at[1]])

    assert middle(2, 2) == rgb(glyphs.PEOPLE[0])
    assert middle(1, 1) == rgb(glyphs.ROBOT)
    assert middle(3, 1) == rgb(glyphs.FLOOR)
    assert middle(1, 2) == rgb(glyphs.WALL)
    assert tuple(picture[2, 2]) == rgb(glyphs.WALL)


def test_a_map_without_walls_around_it_is_shown_whole():
    world = GridWorld.from_config({"map": "Ay .. ..\n.. Ae ..", "max_steps": 2}, "open")
    assert world.render(world.initial()).shape == (2 * draw.CELL, 3 * draw.CELL, 3)


def test_the_legend_names_what_is_there_and_nothing_else():
    texts = [s.text for s in draw.picture(draw.scene(load_world("key-door-step-aside")), numbers=False).shapes
             if isinstance(s, shapes.Label)]  # fmt: skip
    assert texts == ["human", "robot", "locked door", "key"]


def test_the_same_picture_gives_the_same_bytes_and_its_title_is_escaped(tmp_path):
    found = draw.picture(draw.scene(load_world("off-switch")))
    first, again = (draw.save(found, tmp_path / f"{n}.png", "x").read_bytes() for n in "ab")
    assert first == again
    root = ET.fromstring(draw.svg(found, "<script>&"))
    assert root.find("{http://www.w3.org/2000/svg}title").text == "<script>&"
    with pytest.raises(UserError, match=r"ends in \.png or \.svg"):
        draw.save(found, tmp_path / "a.jpg", "x")


def test_every_kind_of_thing_has_its_own_look():
    kinds = ["block", "rock", "bush", "key", "ball", "box", "kill button", "pause switch", "control button"]
    found = {}
    for kind in kinds:
        drawn = shapes.moved(draw.thing(Thing(kind, 0, 0, "r")), 0.5, 0.5)
        found[kind] = shapes.pixels(drawn, 1, 1, 24, "#ffffff").astype(int)
    for a in kinds:
        for b in kinds:
            assert a == b or np.abs(found[a] - found[b]).mean() > 4


# ---------------------------------------------------------------- solved worlds


def test_power_over_places_is_that_of_the_states_with_all_else_the_same(trivial):
    world, solution = trivial
    compiled, t = solution.compiled, 2
    found = maps.power_over_places(world, solution, maps.Moment(t, 0, ""), 0)
    stays = [
        s
        for s in range(compiled.reached(t))
        if (np.delete(compiled.states[s], 6) == np.delete(compiled.states[0], 6)).all()
    ]
    assert found[2, 2] == pytest.approx(solution.at(t).x[stays, 0].mean(), rel=1e-12)
    assert len(stays) == 4  # two steps turn it to every side
    assert np.isfinite(found).sum() == 1  # the rock shuts it in


def test_a_place_where_one_can_be_is_never_missed(trivial):
    world, solution = trivial
    places = maps.elsewhere(world, solution.compiled, solution.compiled.reached(3), 0, 0)
    assert set(places) == {(1, 1, d) for d in range(4)}  # to walk off it must push, and then the rock is elsewhere
    assert all(solution.compiled.states[s][1] == d for (_, _, d), s in places.items())


def test_a_robots_own_probabilities_are_sums_over_the_other_robots():
    world = GridWorld.from_config({"map": "Ay Ae Ae", "max_steps": 2}, "two")
    pi = np.arange(16.0)
    assert maps.robot_marginal(world, pi, 1).tolist() == [6, 22, 38, 54]
    assert maps.robot_marginal(world, pi, 2).tolist() == [24, 28, 32, 36]


def test_maps_stories_and_films_are_drawn(trivial, tmp_path):
    world, solution = trivial
    rollout = roll_out(solution, 0, greedy=True)
    moments = [maps.Moment(t, int(rollout.states[t]), f"t = {t}") for t in (1, 3)]
    for found in (
        maps.power_map(world, solution, moments),
        maps.policy_map(world, solution, moments, 0),
        story(world, solution, rollout, [0, 1, 3]),
    ):
        picture = draw.pixels(found, 16)
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
        ET.fromstring(draw.svg(found, "x"))
    course = course_of(solution, roll_out(solution, 0, steps=2))
    with Image.open(film.write_film(world, course, tmp_path / "f.gif")) as gif:
        played = 0  # frames in which nothing moves are one
        for k in range(gif.n_frames):
            gif.seek(k)
            played += gif.info["duration"]
        assert played == (2 * (film.STILL + film.MOVING - 1) + 3 * film.STILL) * 1000 // film.FPS
    assert film.write_film(world, course, tmp_path / "f.mp4").stat().st_size > 1000
    with pytest.raises(UserError, match=r"ends in \.gif or \.mp4"):
        film.write_film(world, course, tmp_path / "f.avi")


def test_a_curve_has_a_gap_where_a_human_can_reach_nothing():
    bits = np.array([[-1.0], [-2.0], [-np.inf], [-3.0], [-1.5]])
    found = curves.Powers(bits, ("human",), ("#e69f00",))
    assert found.range == (-3, -1)
    lines = [s for s in curves.panel(found, 5, 8, 3, 5.0) if isinstance(s, shapes.Patch) and s.edge == "#e69f00"]
    assert [len(line.points) for line in lines] == [2, 2]
    halfway = [s for s in curves.panel(found, 5, 8, 3, 0.5) if isinstance(s, shapes.Patch) and s.edge == "#e69f00"]
    assert [len(line.points) for line in halfway] == [2]


def test_the_view_places_goals_where_they_are_on_the_pictures(trivial):
    world, solution = trivial
    view = grid_view(world, solution.compiled, [0, 1])
    assert view.goals[:2] == ("(2, 1)", "(1, 1)")
    assert view.size == pytest.approx((4.8 + draw.EDGE + 0.12, 2.8 + draw.EDGE + 0.12))
    assert view.boxes[1] == pytest.approx((0.4 + draw.EDGE, 0.4 + draw.EDGE, 1, 1))
    assert set(view.pictures) == {0, 1}
    assert view.ground.startswith("data:image/svg+xml;base64,")


# ---------------------------------------------------------------- apportion power worlds


def test_worlds_are_listed_in_order_and_drawn_on_a_page(tmp_path, capsys):
    page = tmp_path / "worlds.html"
    assert main(["power", "worlds", "--out", str(page)]) == 0
    out = capsys.readouterr().out
    names = [line.partition(":")[0] for line in out.splitlines() if line and not line.startswith(" ")]
    assert names[:-1] == sorted(shipped_worlds(), key=lambda n: (n.rstrip("0123456789"), int("0" + n.rpartition("-")[2])
                                                               if n.startswith("obstacles") else 0))  # fmt: skip
    assert "trivial: 6 x 4, 1 human, 1 robot, 10 steps" in out
    text = page.read_text()
    assert text.count("<svg") == len(shipped_worlds())
    assert "<script" not in text


def test_ones_own_world_is_drawn_too(tmp_path, capsys):
    own = tmp_path / "mine.yaml"
    own.write_text("map: |\n  Ay .. Ae\nmax_steps: 3\n")
    out = tmp_path / "pictures"
    assert main(["power", "worlds", str(own), "--out", str(tmp_path / "w.html"), "--pictures", str(out)]) == 0
    assert "mine: 3 x 1, 1 human, 1 robot, 3 steps" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == ["mine.png", "mine.svg", "worlds.png"]


def test_a_slip_is_one_line(tmp_path, capsys):
    assert main(["power", "worlds", "trivail"]) == 2
    assert "did you mean trivial?" in capsys.readouterr().err
    assert main(["power", "worlds", "trivial", "--out", "x.png"]) == 2
    assert "ends in .html" in capsys.readouterr().err
    assert main(["power", "worlds", "trivial", "--out", "/proc/w.html"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_pictures_of_one_step_and_of_no_power_at_all_are_drawn():
    world = GridWorld.from_config(
        {"map": "Ay Wr Ae", "max_steps": 1, "possible_goals": ["2,0"], "goals_cover": False}, "shut"
    )
    solution = solve(world.compile(), PowerParams(x_floor=1e-6))
    found = pictures(world, solution, roll_out(solution, 0))
    assert [shown.name for shown in found] == ["world", "story", "power", "policy-robot"]
    assert all(draw.pixels(shown.picture, 16).size for shown in found)


def test_a_world_without_an_end_is_shown_for_as_long_as_asked():
    world = GridWorld.from_config({"map": "Ay .. Ae"}, "endless").with_horizon(None)
    solution = solve(world.compile(), PowerParams(gamma_h=0.9, gamma_r=0.9, beta_r=2.0))
    rollout = roll_out(solution, 0, steps=5)
    assert rollout.steps == 5
    moments = [maps.Moment(t, int(rollout.states[t]), "") for t in (0, 4)]
    assert np.isfinite(maps.power_over_places(world, solution, moments[0], 0)).sum() == 2  # the robot is in the third
    assert draw.pixels(story(world, solution, rollout, [0, 4]), 16).size
