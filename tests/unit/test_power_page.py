"""The page that steps through a solved world: all in one file, text escaped, and used in a real browser."""

import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect

from apportion.cli import main
from apportion.power.grid.view import grid_view
from apportion.power.grid.world import load_world
from apportion.power.params import PowerParams
from apportion.power.rollout import roll_out
from apportion.power.runs import keep_world
from apportion.power.solve import solve
from apportion.report.power import Figure, PowerStory, View, write_power_page
from apportion.types import UserError
from pages_for_tests import BAD, POLICY, Viewer, browsing, data_of, policy_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder of `trivial` over 6 steps."""
    folder = tmp_path_factory.mktemp("runs") / "trivial"
    world = load_world("trivial").with_horizon(6)
    solve(world.compile(), PowerParams(), folder=folder)
    keep_world(folder, "trivial", world)
    return folder


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("pages") / "report.html"
    assert main(["power", "report", str(run), "--out", str(out)]) == 0
    return out


def test_the_page_holds_the_solution_along_each_course(page):
    world = load_world("trivial").with_horizon(6)
    solution = solve(world.compile(), PowerParams())
    data = data_of(page)
    assert [c["name"] for c in data["courses"]] == [
        "most probable, seed 0", "drawn, seed 0", "most probable, seed 1", "drawn, seed 1"
    ]  # fmt: skip
    for course, rollout in zip(
        data["courses"], (roll_out(solution, 0, greedy=True), roll_out(solution, 0)), strict=False
    ):
        assert len(course["moments"]) == 7
        for t, moment in enumerate(course["moments"][:6]):
            layer, s = solution.at(t), rollout.states[t]
            assert moment["left"] == 6 - t
            assert moment["x"] == pytest.approx(layer.x[s].tolist(), rel=1e-5)
            assert moment["v_e"][0] == pytest.approx(layer.v_e[s, 0].tolist(), rel=1e-5, abs=1e-12)
            assert (moment["pi"], moment["q"]) == (
                pytest.approx(layer.pi[s].tolist(), rel=1e-5), pytest.approx(layer.q[s].tolist(), rel=1e-5)
            )  # fmt: skip
            assert (moment["u"], moment["v"]) == pytest.approx((layer.u[s], layer.v[s]), rel=1e-5)
            assert moment["goals"] == rollout.goals[t].tolist()
            assert moment["robot"] == rollout.joint[t, 0]
            assert moment["human_pi"][0] == pytest.approx(rollout.human_pi[t, 0].tolist(), rel=1e-5)
        end = course["moments"][6]
        assert (end["x"], end["pi"], end["robot"], end["left"]) == (None, None, None, 0)
    assert len(data["pictures"]) == len({m["picture"] for c in data["courses"] for m in c["moments"]})


def test_the_page_allows_its_own_script_alone_and_loads_nothing(page):
    text = page.read_text()
    assert re.fullmatch(POLICY, policy_of(page))
    outside = re.findall(r"https?://[^\"']+|url\(|@import|\bfetch\(", text)
    assert set(outside) <= {"http://www.w3.org/2000/svg"}  # the name of a kind of element, not an address


def small():
    world = load_world("trivial").with_horizon(2)
    solution = solve(world.compile(), PowerParams())
    return world, solution, [roll_out(solution, 0)]


def test_text_from_outside_cannot_become_markup(tmp_path):
    world, solution, rollouts = small()
    states = sorted({int(s) for s in rollouts[0].states})
    view = View(("#e69f00",), (BAD,) * 5, dict.fromkeys(states, "data:,"), dict.fromkeys(states, BAD))
    story = PowerStory(BAD, BAD, [(BAD, BAD)], {BAD: BAD}, [Figure(BAD, BAD, b"", 10.0)])
    text = write_power_page(story, world, solution, rollouts, view, tmp_path / "p.html").read_text()
    assert text.count("<script") == 2
    assert text.count("</script") == 2
    assert "<!--" not in text
    assert data_of(tmp_path / "p.html")["goals"][0] == BAD


def test_what_is_not_finite_is_left_out(tmp_path):
    from apportion.report.power import _numbers

    assert _numbers(np.array([1.0, np.inf, np.nan])) == [1.0, None, None]
    assert _numbers(np.array([[1 / 3]])) == [[0.333333]]


def test_slips_are_one_line(run, tmp_path, capsys):
    world, solution, _ = small()
    view = grid_view(world, solution.compiled, [0])
    with pytest.raises(UserError, match="at least one rollout"):
        write_power_page(PowerStory("a", "b"), world, solution, [], view, tmp_path / "p.html")
    assert main(["power", "report", str(run), "--out", "/proc/page.html"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["power", "report", str(run), "--courses", "0"]) == 2
    assert "--courses 0: at least 1" in capsys.readouterr().err
    assert main(["power", "report", str(tmp_path)]) == 2
    assert "holds no solution" in capsys.readouterr().err


def test_a_film_and_pictures_are_written_beside_it(run, tmp_path, capsys):
    film, out = tmp_path / "f.gif", tmp_path / "pictures"
    words = f"--out {tmp_path / 'r.html'} --courses 1 --steps 2 --film {film} --pictures {out}".split()
    assert main(["power", "report", str(run), *words]) == 0
    assert film.read_bytes().startswith(b"GIF89a")
    assert {p.name for p in out.glob("*.png")} == {
        f"trivial-{n}.png" for n in ("world", "story", "power", "policy-robot")
    }
    assert {p.stem for p in out.glob("*.svg")} == {p.stem for p in out.glob("*.png")}


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    yield from browsing()


class Player(Viewer):
    @property
    def step(self):
        return int(self.page.input_value("#step"))

    @property
    def course(self):
        return self.page.locator("#courses [aria-pressed=true]").inner_text()


@pytest.fixture
def viewer(browser, page):
    found = Player(browser, page)
    yield found
    found.close()


@pytest.mark.long
def test_keys_step_jump_and_choose_courses(viewer):
    assert (viewer.step, viewer.course) == (0, "most probable, seed 0")
    viewer.press("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft")
    assert viewer.step == 2
    viewer.press("Shift+ArrowRight")
    assert viewer.step == 6
    viewer.press("ArrowRight", "Home")
    assert viewer.step == 0
    viewer.press("End", "ArrowLeft")
    assert viewer.step == 5
    viewer.press("ArrowDown")
    assert (viewer.step, viewer.course) == (0, "drawn, seed 0")
    viewer.press("ArrowUp", "ArrowUp")
    assert viewer.course == "drawn, seed 1"


@pytest.mark.long
def test_numbers_pictures_and_words_are_those_of_the_step(viewer, page):
    data = data_of(page)
    for t in range(7):
        moment = data["courses"][0]["moments"][t]
        assert viewer.page.get_attribute("#picture", "src") == data["pictures"][moment["picture"]]
        assert viewer.page.locator("#state").text_content() == moment["words"]
        if t < 6:
            rows = viewer.page.locator("#robot tr").all()[1:]
            assert len(rows) == 4
            chosen = [i for i, row in enumerate(rows) if row.get_attribute("class") == "chosen"]
            assert chosen == [moment["robot"]]
            shown = [row.locator("td").nth(2).inner_text() for row in rows]
            assert [float(p) for p in shown] == pytest.approx(moment["pi"], abs=6e-4)
            goals = viewer.texts("#cards .card .tall td:nth-child(3)")
            values = [0.0 if text == "<.001" else float(text) for text in goals]
            assert values == pytest.approx(moment["v_e"][0], abs=1.1e-3)
            power = float(viewer.texts("#cards .power b")[0].removesuffix(" bits").replace("\u2212", "-"))
            assert power == pytest.approx(np.log2(moment["x"][0]), rel=1e-3)
            assert viewer.page.locator("#overlay .goal").count() == 1
        viewer.press("ArrowRight")
    assert "the end" in viewer.texts("#robot")[0]


@pytest.mark.long
def test_the_slider_the_mouse_and_the_buttons_step_too(viewer):
    viewer.page.locator("#step").fill("4")
    viewer.settle()
    assert viewer.step == 4
    assert "step 4 of 6, 2 to go" in viewer.texts("#readout")[0]
    viewer.page.locator("#on").click()
    viewer.page.locator("#on").click()
    viewer.page.locator("#back").click()
    viewer.settle()
    assert viewer.step == 5
    box = viewer.page.locator("#curve").bounding_box()
    inside = box["width"] - 58 - 16
    viewer.page.mouse.move(box["x"] + 58 + inside * 0.5, box["y"] + 60)
    viewer.page.mouse.down()
    viewer.settle()
    assert viewer.step == 3
    viewer.page.mouse.move(box["x"] + 58 + inside / 6, box["y"] + 60)
    viewer.page.mouse.up()
    viewer.settle()
    assert viewer.step == 1
    viewer.page.locator("#step").focus()
    viewer.press("ArrowRight")  # the slider does not move by itself as well
    assert viewer.step == 2
    viewer.page.locator("#courses button").nth(2).click()
    assert viewer.course == "most probable, seed 1"


@pytest.mark.long
def test_it_plays_pauses_and_stops_at_the_end(viewer):
    play = viewer.page.locator("#play")
    viewer.press(" ")
    expect(play).to_contain_text("Pause")
    expect(viewer.page.locator("#readout")).not_to_contain_text("step 0")
    viewer.press(" ")
    expect(play).to_contain_text("Play")
    viewer.page.select_option("#speed", "4")
    play.click()
    expect(viewer.page.locator("#readout")).to_contain_text("step 6")
    expect(play).to_contain_text("Play")


@pytest.mark.long
def test_values_on_the_map_can_be_taken_off(viewer):
    cells = viewer.page.locator("#under .value")
    assert cells.count() == 5
    viewer.press("v")
    assert cells.count() == 0
    viewer.page.locator("#values").check()
    viewer.settle()
    assert cells.count() == 5
    goal, value = (viewer.page.locator(f"#under .value >> nth={g}").bounding_box() for g in (0, 1))
    assert goal["x"] - value["x"] == pytest.approx(goal["width"], abs=1)  # (2, 1) is right of (1, 1)
    assert goal["y"] == pytest.approx(value["y"], abs=1)


@pytest.mark.long
def test_on_a_phone_in_the_dark_nothing_sticks_out(browser, page):
    found = Player(browser, page, color_scheme="dark")
    found.page.set_viewport_size({"width": 380, "height": 800})
    found.settle()
    assert found.page.evaluate("() => document.documentElement.scrollWidth") <= 380
    found.close()


@pytest.mark.long
def test_several_humans_have_their_own_cards_and_values(browser, tmp_path):
    world = load_world("freeing").with_horizon(3)
    solution = solve(world.compile(), PowerParams())
    rollout = roll_out(solution, 0)
    view = grid_view(world, solution.compiled, sorted({int(s) for s in rollout.states}))
    found = Viewer(
        browser, write_power_page(PowerStory("two", ""), world, solution, [rollout], view, tmp_path / "p.html")
    )
    assert found.texts("#cards h3") == ["human 0", "human 1"]
    assert found.page.locator("#overlay .goal").count() == 2
    of_first = found.page.locator("#overlay text").all_text_contents()
    found.press("h")
    assert found.page.input_value("#human") == "1"
    assert found.page.locator("#overlay text").all_text_contents() != of_first
    found.press("h")
    assert found.page.locator("#overlay text").all_text_contents() == of_first
    found.close()


class Plain:
    """A world that is no grid: one human, one state each for two rooms, one robot that does nothing."""

    name, agents, humans, robots = "rooms", ("human", "robot"), (0,), (1,)
    actions, still = (("still", "go"), ("still",)), (0, 0)
    goals, goal_weights, horizon, enumerable = ("left", "right"), np.array([0.5, 0.5]), 3, True

    def initial(self):
        return np.array([0])

    def transitions(self, state, joint):
        return (state + joint[0])[None] % 2, np.ones(1)

    def successors(self, states, joints):
        from apportion.power.world import Successors

        return Successors(np.arange(len(states) + 1), (states + joints[:, :1]) % 2, np.ones(len(states)))

    def sample(self, states, joints, noise):
        return (states + joints[:, :1]) % 2

    def terminal(self, states):
        return np.zeros(len(states), bool)

    def attained(self, states):
        return states[:, None] == np.array([0, 1])[None, None]

    def encode(self, states):
        return states.astype(np.float32)

    def describe(self, state):
        return {"room": int(state[0])}

    def parse(self, description):
        return np.array([description["room"]])

    def render(self, state):
        return np.full((20, 40, 3), 100 + 100 * state[0], np.uint8)


@pytest.mark.long
def test_a_world_that_is_no_grid_is_shown_by_its_own_pictures(browser, tmp_path, monkeypatch, capsys):
    from apportion.power.enumerate import enumerate_world

    world, folder = Plain(), tmp_path / "rooms"
    solve(enumerate_world(world, max_states=10), PowerParams(), folder=folder)
    keep_world(folder, "test_power_page:Plain", world)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    assert main(["power", "report", str(folder)]) == 0
    found = Player(browser, folder / "report.html")
    found.press("ArrowRight")
    assert found.page.locator("#picture").evaluate("image => image.naturalWidth") == 40
    assert found.page.locator("#options").is_hidden()
    assert "room" in found.page.locator("#state").text_content()
    found.close()
    assert main(["power", "report", str(folder), "--film", str(tmp_path / "f.gif")]) == 2
    assert "are for grid worlds" in capsys.readouterr().err
