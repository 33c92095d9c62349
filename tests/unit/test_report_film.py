"""The film with the learned reward below it, and the page that shows it."""

import base64
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

import runs_for_tests
from apportion import UserError, evaluate_run, film_run, train_online
from apportion.report import parts
from apportion.report.credit_film import Panel, enlarged, with_curve
from apportion.report.html import write_report
from apportion.report.video import kept, write_mp4
from films_for_tests import DrawnAnew
from run_dirs_for_tests import config, make_run

PIXELS = replace(
    runs_for_tests.PIXELS, steps=40, warmup=100, train_batches=0, eval_every=40, save_freq=40, test_rollouts=1
)


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as film:
        return [frame.to_ndarray(format="rgb24") for frame in film.decode(film.streams.video[0])]


def cursor(panel: np.ndarray) -> float:
    """The column in the middle of the cursor, which is dark from top to bottom of the curve's field."""
    field = panel[round(0.25 * len(panel)) : round(0.75 * len(panel))].mean((0, 2))
    dark = np.flatnonzero(field < 100)  # less than that, not of one colour: the codec takes its share
    assert 1 <= len(dark) <= round(panel.shape[1] / 100)
    return float(dark.mean())


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "pixels"
    train_online(PIXELS, path, progress=False)
    return path


def changed(run: Path, **settings) -> None:
    data = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(data | settings))


@pytest.fixture
def other(run, tmp_path) -> Path:
    """The run again, to be changed."""
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_pixels_become_squares_until_the_picture_is_wide_enough():
    frame = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    large = enlarged(frame)
    assert large.shape == (360, 480, 3)
    assert np.array_equal(large[::120, ::120], frame) and np.array_equal(large[119::120, 119::120], frame)
    assert enlarged(np.zeros((210, 160, 3), np.uint8)).shape == (630, 480, 3)
    assert enlarged(np.zeros((480, 480, 3), np.uint8)).shape == (480, 480, 3)


def test_the_cursor_runs_from_end_to_end_and_what_is_to_come_is_fainter():
    learned = np.sin(np.arange(50) / 5).astype(np.float32)
    panel = Panel(learned, 480)
    places = [cursor(panel.at(t)) for t in range(50)]
    assert np.diff(places) == pytest.approx(np.full(49, np.diff(places).mean()), abs=1.1)
    assert places[0] < 0.13 * 480 and places[-1] > 0.95 * 480
    now = round(places[25])
    early, late = panel.at(0), panel.at(49)
    assert np.array_equal(panel.at(25)[:, : now - 3], late[:, : now - 3])
    assert np.array_equal(panel.at(25)[:, now + 3 :], early[:, now + 3 :])
    field = np.s_[40:100, 100:400]
    assert early[field].min() > 150 > late[field].min()  # pale, and as blue as the curve is


def test_the_curve_is_high_where_the_learned_reward_is():
    learned = np.zeros(40, np.float32)
    learned[30] = 1
    late = Panel(learned, 480).at(39).astype(int)
    blue = (late[..., 2] - late[..., 0]) > 100
    top = np.where(blue.any(0), blue.argmax(0), 999)
    peak = int(np.median(np.flatnonzero(top == top.min())))
    panel = Panel(learned, 480)
    assert peak == pytest.approx(cursor(panel.at(30)), abs=3)


def test_frames_and_steps_must_be_as_many():
    frames = [np.zeros((16, 16, 3), np.uint8)] * 3
    assert len(list(with_curve(iter(frames), np.zeros(3, np.float32)))) == 3
    for n in (2, 4):
        with pytest.raises(ValueError, match="zip"):
            list(with_curve(iter(frames), np.zeros(n, np.float32)))


@pytest.mark.parametrize("length", [1, 2, 151, 30_000])
def test_episodes_of_any_length_have_a_panel(length):
    panel = Panel(np.random.default_rng(0).normal(size=length).astype(np.float32), 960)
    assert panel.behind.shape == panel.ahead.shape == (278, 960, 3)
    assert cursor(panel.at(0)) <= cursor(panel.at(length - 1))


def test_frames_that_are_kept_come_back_unchanged_and_nothing_stays(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (47, 63, 3)).astype(np.uint8) for _ in range(9)]  # odd sides, noise
    with kept(iter(frames), tmp_path / "film.mp4") as again:
        (file,) = tmp_path.iterdir()
        assert file.name == ".film.frames.mkv"
        assert all(np.array_equal(a, b) for a, b in zip(again, frames, strict=True))
    assert files(tmp_path) == []


@pytest.mark.parametrize("after", [0, 2])
def test_a_fault_between_leaves_no_frames(tmp_path, after):
    def frames():
        for _ in range(after):
            yield np.zeros((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), kept(frames(), tmp_path / "film.mp4"):
        pass
    assert files(tmp_path) == []
    still = [np.zeros((16, 16, 3), np.uint8)] * 5
    with pytest.raises(KeyboardInterrupt), kept(iter(still), tmp_path / "film.mp4") as again:
        write_mp4(frames_then_fault(again, after), tmp_path / "film.mp4", 30)
    assert files(tmp_path) == []


def frames_then_fault(frames, after):
    for number, frame in enumerate(frames):
        if number == after:
            raise KeyboardInterrupt
        yield frame


def test_a_film_of_a_learned_reward_has_its_curve_below_the_picture(run, tmp_path):
    path = film_run(run, tmp_path / "film.mp4", seed=3)
    frames = decoded(path)
    assert files(tmp_path) == ["film.mp4"]
    assert len(frames) == evaluate_run(run, episodes=1, seed=3)["lengths"][0]
    assert {f.shape for f in frames} == {
        (400 + 140, 480, 3)
    }  # 20 x 24, each pixel 20 x 20; 0.29 x 480 = 139, made even
    for t, frame in enumerate(frames):  # drawn before step t: 8 t in every pixel
        assert np.abs(frame[:390].astype(int) - 8 * t).max() <= 3
    places = [cursor(f[400:]) for f in frames]
    assert (np.diff(places) > 5).all()


def test_the_episode_is_played_once(other, tmp_path):
    changed(other, env="films_for_tests:DrawnAnew")
    before = DrawnAnew.plays
    frames = decoded(film_run(other, tmp_path / "film.mp4"))
    assert DrawnAnew.plays == before + 1 and len(frames) == 10 + DrawnAnew.plays


def test_a_film_without_a_learned_reward_is_the_picture_alone(tmp_path):
    uniform = replace(PIXELS, reward=replace(PIXELS.reward, alg="uniform"))
    train_online(uniform, tmp_path / "run", progress=False)
    frames = decoded(film_run(tmp_path / "run", tmp_path / "run" / "film.mp4"))
    assert {f.shape for f in frames} == {(20, 24, 3)}


def test_a_fault_in_the_middle_leaves_no_file(other, tmp_path):
    changed(other, env="films_for_tests:Torn")
    with pytest.raises(UserError, match="cannot film here: OSError: the screen went dark"):
        film_run(other, tmp_path / "films" / "film.mp4")
    assert files(tmp_path / "films") == []
    changed(other, env=PIXELS.env)
    (tmp_path / "films" / "taken").mkdir()
    with pytest.raises(UserError, match="taken cannot be written"):
        film_run(other, tmp_path / "films" / "taken")
    assert files(tmp_path / "films") == ["taken"] and files(tmp_path / "films" / "taken") == []


def test_an_atari_game_is_filmed_in_colour_and_large(tmp_path):
    game = replace(
        PIXELS, env="Assault", test_timesteps=12, buffer_size=30_000, reward=replace(PIXELS.reward, rrd_sample_size=8)
    )
    train_online(game, tmp_path / "run", progress=False)
    frames = decoded(film_run(tmp_path / "run", tmp_path / "run" / "video.mp4"))
    assert len(frames) == 12 and {f.shape for f in frames} == {(630 + 140, 480, 3)}
    assert (np.ptp(frames[5][:630].astype(int), axis=2) > 60).any()  # the frames that the agent sees are grey
    assert (np.diff([cursor(f[630:]) for f in frames]) > 20).all()


@pytest.fixture
def seeds(tmp_path) -> list[Path]:
    return [make_run(tmp_path / f"seed_{s}", config(seed=s), {1000: [-20.0]}, lean=True) for s in range(3)]


def films_in(page: Path) -> list[bytes]:
    found = re.findall(r'<video controls[^>]* src="data:video/mp4;base64,([^"]*)"', page.read_text())
    return [base64.b64decode(x) for x in found]


def test_the_page_holds_the_film_of_the_first_seed_that_has_one(seeds, tmp_path):
    for run in seeds[1:]:
        (run / "video.mp4").write_bytes(run.name.encode())
    page = write_report(seeds, tmp_path / "report.html")
    text = page.read_text()
    assert films_in(page) == [b"seed_1"] and "RRD + SAC, seed 1, filmed by apportion evaluate" in text
    assert "below the picture" not in text  # these runs learn no reward
    assert re.search(r'Content-Security-Policy" content="[^"]*media-src data:', text)


def test_a_large_film_is_a_relative_link_with_its_size(seeds, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LARGEST", 1_000_000)
    (seeds[0] / "video.mp4").write_bytes(bytes(2_300_000))
    page = write_report(seeds, tmp_path / "pages & more" / "report.html")
    assert films_in(page) == []
    (link,) = re.findall(r'<a href="([^"]*)">video.mp4</a> \(2 MB\)', page.read_text())
    assert link == "../seed_0/video.mp4" and (page.parent / link).resolve() == seeds[0] / "video.mp4"


def test_without_a_film_there_is_none_on_the_page(seeds, tmp_path):
    text = write_report(seeds, tmp_path / "report.html").read_text()
    assert "<video" not in text and "video.mp4" not in text


def test_the_page_says_what_the_curve_of_the_film_is(tmp_path):
    run = make_run(tmp_path / "run", config(), {1000: [-20.0, -22.0]})
    (run / "video.mp4").write_bytes(b"film")
    page = write_report([run], tmp_path / "report.html")
    assert films_in(page) == [b"film"] and "below the picture the learned reward of each step" in page.read_text()
