"""The page about a fitted reward: everything in one file, text escaped, and played in a real browser."""

import base64
import io
import re
import sys
import weakref

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from apportion.cli import main
from apportion.data.schema import BadDemo
from apportion.report import demos as demos_page
from apportion.report.demos import Shown, Story, thin, write_page
from apportion.rewards.demo_audit import Judged, audit_demos
from apportion.types import UserError
from demos_for_tests import demo, store
from pages_for_tests import BAD, POLICY, Viewer, browsing, data_of, policy_of
from rewards_for_tests import fitted_run, reward_model


def shown(number, reward, **more):
    about = {
        "about": f"number {number}",
        "success": True,
        "task": "t",
        "language": "lift",
        "score": 0.5,
        "potential": None,
    }
    return Shown(number=number, reward=np.array(reward, np.float32), **{**about, **more})


def story(**more):
    reward = np.array([0.1, 0.3, 0.2])
    judged = [Judged(1.0, True, BAD, 3, True, reward, 0.6), Judged(0.0, False, "b", 3, False, reward, 0.1)]
    audit = audit_demos(judged, judged, telescopes=False, draws=20)
    return Story(
        **{
            "title": "arm: rrd",
            "about": "of a test",
            "audit": audit,
            "settings": {"method": "rrd"},
            "cameras": {},
            "fps": 20.0,
            **more,
        }
    )


@pytest.fixture
def run(tmp_path):
    """Six episodes, two cameras; the even ones succeed."""
    store(tmp_path / "arm", [demo(i, 20 + i, success=i % 2 == 0) for i in range(6)]).close()
    model = reward_model(demo(0), method="success", data=str(tmp_path / "arm"))
    return fitted_run(tmp_path / "run", model, [0, 1], [2, 3, 4, 5])


def test_frames_are_thinned_out_evenly_with_both_ends():
    assert thin(4) == (0, 1, 2, 3)
    assert thin(101, 5) == (0, 25, 50, 75, 100)
    assert thin(1) == (0,)


def test_the_page_holds_rewards_potentials_and_frames_of_the_held_out_episodes(run, capsys):
    assert main(["report", str(run), "--truth", "phase"]) == 0
    assert capsys.readouterr().out.strip() == f"report: {run / 'report.html'}"
    data = data_of(run / "report.html")
    assert [e["number"] for e in data["episodes"]] == [2, 3, 4, 5]
    assert [e["outcome"] for e in data["episodes"]] == ["success", "failure", "success", "failure"]
    first = data["episodes"][0]
    assert (len(first["reward"]), len(first["potential"])) == (22, 22)
    assert first["lines"][0] == {"title": "phase", "lines": [list(range(22))]}
    assert first["about"].startswith("success, not learned from; lift the cup; 22 steps, score ")
    sheet = first["sheets"]["image"]
    assert (sheet["width"], sheet["height"], sheet["columns"], sheet["at"]) == (16, 16, 12, list(range(23)))
    assert data["turned"] == dict.fromkeys(["image", "wrist_image"], "turned upright (stored upside down)")
    text = (run / "report.html").read_text()
    assert "VOC on failures" in text
    assert "4 episodes (2 successes, 2 failures), 4 of them not learned from" in text


def test_frames_of_opengl_are_turned_upright_and_large_ones_made_small():
    frames = np.zeros((3, 400, 200, 3), np.uint8)
    frames[:, :200] = 255  # white above, as stored
    sheet = demos_page._sheet(frames, (0, 1, 2), demos_page.Camera(400, 200, "opengl"))
    assert (sheet["width"], sheet["height"], sheet["columns"]) == (80, 160, 3)
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet["src"].partition(",")[2]))))
    assert pixels.shape == (160, 240, 3)
    assert pixels[:60].max() < 30
    assert pixels[100:].min() > 225


def test_text_from_the_data_cannot_become_markup(tmp_path):
    evil = shown(1, [1, 2, 3], language=BAD, task=BAD, about=BAD, lines={BAD: np.zeros(3)})
    page = write_page(story(title=BAD, about=BAD, settings={BAD: BAD}), [evil], tmp_path / "page.html")
    text = page.read_text()
    assert text.count("<script") == 2
    assert text.count("</script") == 2
    assert "<!--" not in text
    assert data_of(page)["episodes"][0]["language"] == BAD


def test_the_page_allows_its_own_script_alone_and_loads_nothing(tmp_path):
    page = write_page(story(), [shown(1, [1, 2, 3])], tmp_path / "page.html")
    assert re.fullmatch(POLICY, policy_of(page))
    assert not re.findall(r"https?://|url\(|@import|\bfetch\(", page.read_text())


def test_what_is_not_finite_becomes_a_gap(tmp_path):
    page = write_page(story(), [shown(1, [1, np.nan, np.inf], score=float("nan"))], tmp_path / "page.html")
    assert data_of(page)["episodes"][0]["reward"] == [1.0, None, None]
    assert data_of(page)["episodes"][0]["score"] is None


def test_no_episode_and_a_place_that_cannot_be_written_are_one_line(run, tmp_path, capsys):
    with pytest.raises(UserError, match="at least one episode"):
        write_page(story(), [], tmp_path / "page.html")
    assert main(["report", str(run), "--out", "/proc/page.html"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["report", str(run), "--show", "0"]) == 2
    assert "--show 0: at least 1 is needed" in capsys.readouterr().err


def test_episodes_are_read_one_at_a_time_and_their_frames_let_go(tmp_path):
    frames, alive = [], []

    def stream():
        for number in range(5):
            alive.append(sum(seen() is not None for seen in frames))
            pixels = np.zeros((4, 16, 16, 3), np.uint8)
            frames.append(weakref.ref(pixels))
            one = shown(number, [1, 2, 3], images={"image": pixels}, at=(0, 1, 2, 3))
            del pixels
            yield one
            del one

    page = write_page(story(), stream(), tmp_path / "page.html")
    assert [e["number"] for e in data_of(page)["episodes"]] == list(range(5))
    assert alive == [0] * 5  # those of earlier episodes, when the next is read


def test_an_episode_that_cannot_be_read_leaves_the_page_that_was_there(tmp_path):
    def stream():
        yield shown(1, [1, 2, 3])
        raise BadDemo("x, episode 2: it has no steps")

    page = write_page(story(), [shown(0, [1, 2, 3])], tmp_path / "page.html")
    with pytest.raises(BadDemo, match="episode 2"):
        write_page(story(), stream(), page)
    assert [e["number"] for e in data_of(page)["episodes"]] == [0]
    assert list(tmp_path.iterdir()) == [page]


def test_rerun_is_named_where_it_is_missing(run, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["report", str(run), "--rerun", str(tmp_path / "x.rrd")]) == 2
    assert "pip install 'apportion[rerun]'" in capsys.readouterr().err
    assert not (tmp_path / "x.rrd").exists()


@pytest.mark.long  # for the package that `make check-long` installs
def test_a_rerun_recording_is_written_whole(run, tmp_path, capsys):
    out = tmp_path / "x.rrd"
    assert main(["report", str(run), "--rerun", str(out)]) == 0
    assert out.read_bytes().startswith(b"RRF")
    assert [p.name for p in tmp_path.glob("*rrd*")] == ["x.rrd"]
    assert main(["report", str(run), "--rerun", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


# ---------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser():
    yield from browsing()


class Player(Viewer):
    @property
    def step(self):
        return int(self.page.get_attribute("#curve", "aria-valuenow"))

    @property
    def chosen(self):
        return self.page.locator("#episodes [aria-pressed=true]").inner_text()

    def pixels(self, selector):
        """Distinct colours of a canvas."""
        return self.page.evaluate(
            "s => { const c = document.querySelector(s); const d = c.getContext('2d')"
            ".getImageData(0, 0, c.width, c.height).data; return new Set(new Uint32Array(d.buffer)).size }",
            selector,
        )


@pytest.fixture
def viewer(browser, run):
    main(["report", str(run)])
    found = Player(browser, run / "report.html")
    yield found
    found.close()


@pytest.mark.long
def test_keys_step_jump_and_choose_episodes(viewer):
    assert viewer.chosen.startswith("\u2713 2")
    assert viewer.step == 0
    viewer.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert viewer.step == 1
    viewer.press("Shift+ArrowRight")
    assert viewer.step == 11
    viewer.press("End")
    assert viewer.step == 21
    viewer.press("ArrowRight")
    assert viewer.step == 21
    viewer.press("Home")
    assert viewer.step == 0
    viewer.press("ArrowRight", "ArrowDown")
    assert viewer.chosen.startswith("\u2717 3")
    assert viewer.step == 0
    viewer.press("ArrowUp", "ArrowUp")
    assert viewer.chosen.startswith("\u2713 2")


@pytest.mark.long
def test_the_space_bar_and_the_button_play_pause_and_stop_at_the_end(viewer):
    curve, play = viewer.page.locator("#curve"), viewer.page.locator("#play")
    viewer.page.select_option("#speed", "0.25")
    curve.focus()
    viewer.press(" ")
    expect(play).to_contain_text("Pause")
    expect(curve).not_to_have_attribute("aria-valuenow", "0")
    viewer.press(" ")
    expect(play).to_contain_text("Play")
    stopped = viewer.step
    viewer.settle()
    assert viewer.step == stopped
    viewer.page.select_option("#speed", "4")
    play.click()
    expect(curve).to_have_attribute("aria-valuenow", "21")
    expect(play).to_contain_text("Play")
    viewer.page.select_option("#speed", "0.25")
    play.click()  # at the end it begins again
    expect(curve).to_have_attribute("aria-valuenow", re.compile(r"^\d$"))
    viewer.press("ArrowRight")  # whoever takes the cursor stops the film
    expect(play).to_contain_text("Play")


@pytest.mark.long
def test_dragging_on_the_curve_moves_the_cursor_and_the_frames(viewer):
    viewer.page.locator("#curve").scroll_into_view_if_needed()
    box = viewer.page.locator("#curve").bounding_box()
    y, right = box["y"] + 80, box["x"] + box["width"] - 14
    viewer.page.mouse.move(box["x"] + 58, y)
    viewer.page.mouse.down()
    viewer.settle()
    assert viewer.step == 0
    viewer.page.mouse.move((box["x"] + 58 + right) / 2, y, steps=4)
    viewer.settle()
    assert viewer.step in (10, 11)
    viewer.page.mouse.move(right + 200, y, steps=4)  # beyond the end it stays at the end
    viewer.page.mouse.up()
    viewer.settle()
    assert viewer.step == 21
    viewer.page.mouse.move(box["x"] + 100, y)
    viewer.settle()
    assert viewer.step == 21
    shown_frames = viewer.page.eval_on_selector_all("#cameras canvas", "list => list.map(c => c.dataset.frame)")
    assert shown_frames == ["21", "21"]


@pytest.mark.long
def test_pictures_curves_and_extremes_are_drawn(viewer, run):
    viewer.press("ArrowRight")
    for selector in (
        "#cameras canvas",
        "#cameras figure:last-child canvas",
        "#highest canvas",
        "#lowest canvas",
        "#curve",
    ):
        assert viewer.pixels(selector) > 20, selector
    reward = data_of(run / "report.html")["episodes"][0]["reward"]
    best = viewer.page.locator("#highest .thumb").first
    assert int(best.get_attribute("data-step")) == int(np.argmax(reward))
    best.click()
    viewer.settle()
    assert viewer.step == int(np.argmax(reward))
    assert viewer.page.locator("#lowest .thumb").first.get_attribute("data-step") == str(int(np.argmin(reward)))
    assert viewer.page.locator("#audit tr").count() > 8
    viewer.page.locator("#episodes button").nth(3).click()
    viewer.settle()
    assert viewer.chosen.startswith("\u2717 5")
    viewer.press(" ")  # the button has the focus, and space still plays
    assert viewer.chosen.startswith("\u2717 5")
    assert "Pause" in viewer.page.inner_text("#play")


@pytest.mark.long
@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_fits_the_window_in_light_and_dark(browser, run, width):
    main(["report", str(run)])
    for scheme in ("light", "dark"):
        viewer = Player(browser, run / "report.html", color_scheme=scheme)
        viewer.page.set_viewport_size({"width": width, "height": 900})
        viewer.settle()
        assert viewer.page.evaluate("document.documentElement.scrollWidth") <= width
        viewer.close()


@pytest.mark.long
def test_episodes_without_frames_show_their_proprioception(browser, tmp_path, capsys):
    store(tmp_path / "arm", [demo(i, 15, success=i % 2 == 0, frames=False) for i in range(3)]).close()
    run = fitted_run(tmp_path / "run", reward_model(demo(0), data=str(tmp_path / "arm")), [0], [1, 2])
    assert main(["report", str(run)]) == 0
    lines = data_of(run / "report.html")["episodes"][0]["lines"]
    assert lines[0]["title"].startswith("state")
    assert len(lines[0]["lines"]) == 8
    viewer = Player(browser, run / "report.html")
    viewer.press("End", "ArrowDown", "ArrowRight")
    assert viewer.step == 1
    assert viewer.page.locator("#cameras canvas").count() == 0
    assert viewer.page.locator("#highest .thumb").count() == 3
    assert viewer.pixels("#curve") > 20
    viewer.close()


@pytest.mark.long
def test_markup_in_the_data_is_shown_as_text(browser, tmp_path):
    evil = shown(7, [1.0, 2.0, np.nan], language=BAD, about=BAD, lines={BAD: np.zeros(3)})
    page = write_page(story(title=BAD), [evil, shown(8, [0.0])], tmp_path / "page.html")
    viewer = Player(browser, page)
    assert viewer.page.inner_text("#language") == BAD
    assert viewer.page.title() == f"{BAD}: apportion report"
    viewer.press("End", "ArrowDown", "End", " ")  # an episode of one step has nowhere to go
    assert viewer.step == 0
    viewer.close()
