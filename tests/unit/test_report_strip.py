"""The film strip: which moments are taken, how observations become pictures, the way over the file to the page."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from safetensors.numpy import load_file, save_file

from apportion import train_online
from apportion.report import plots
from apportion.report.html import write_report
from apportion.report.runs import read
from apportion.stats import median_episode
from apportion.train.evaluate import Evaluator
from apportion.train.session import load_policy
from apportion.train.strip import PLANES, moments, shown, strip
from apportion.types import Spec
from run_dirs_for_tests import config, make_run
from runs_for_tests import PIXELS


def chosen(learned) -> dict[int, bool]:
    steps, highest = moments(np.array(learned, np.float32))
    assert steps.dtype == np.int64 and steps.tolist() == sorted(set(steps.tolist()))
    return dict(zip(steps.tolist(), highest.tolist(), strict=True))


def test_the_highest_and_lowest_moments_are_kept_apart():
    learned = np.zeros(121)  # a 30th, rounded up: 5 steps apart
    learned[[10, 11, 14, 15, 40, 60, 80, 90]] = [9, 8, 7, 6, 5, 4, 3, 2]  # 11 and 14 are too near to 10, 15 is not
    learned[[42, 50, 70, 73]] = [-9, -5, -4, -3]  # 42 is too near to 40, 73 to 70
    assert chosen(learned) == {10: True, 15: True, 40: True, 60: True, 80: True, 50: False, 70: False, 0: False}


def test_a_short_episode_has_fewer_moments_and_a_constant_reward_its_earliest():
    assert chosen([3.0]) == {0: True}
    assert chosen([1, 4, 2, 3]) == {0: False, 1: True, 2: False, 3: True}
    assert chosen(np.ones(40)) == dict.fromkeys([0, 2, 4, 6, 8], True) | dict.fromkeys([10, 12, 14], False)


def test_the_episode_is_the_one_of_median_return_the_lower_of_two():
    true = np.array([5, 5, 1, 1, 1, 3, 3, 9], np.float32)  # returns 10, 3, 6 and 9
    assert median_episode(true[:7], np.array([2, 3, 2])) == (2, slice(5, 7))
    assert median_episode(true, np.array([2, 3, 2, 1])) == (2, slice(5, 7))


def test_grey_and_rgb_are_shown_as_they_are_and_scaled_by_their_largest_value():
    grey = np.array([[[0, 51], [102, 255]]], np.uint8)
    assert np.array_equal(shown(grey, 255), grey)
    assert np.array_equal(shown(grey[..., None], 255), grey)
    assert shown(np.array([[[0, 1]]], np.uint8), 1).tolist() == [[[0, 255]]]
    rgb = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert np.array_equal(shown(rgb, 255), rgb)


def test_each_binary_plane_has_its_colour_and_the_first_lies_on_top():
    planes = np.zeros((1, 1, 4, 3), np.uint8)  # three channels of 0 and 1 are planes, no RGB
    planes[0, 0, 0, 0] = planes[0, 0, 1, 2] = planes[0, 0, 2, 1] = planes[0, 0, 2, 2] = 1
    assert shown(planes, 1)[0, 0].tolist() == [[*PLANES[0]], [*PLANES[2]], [*PLANES[1]], [0, 0, 0]]
    assert shown(np.ones((1, 1, 1, 12), np.uint8), 1).tolist() == [[[[*PLANES[0]]]]]  # more planes than colours
    assert len(set(PLANES)) == len(PLANES)


def test_vectors_leave_no_frames():
    true, length = np.ones(4, np.float32), np.array([4])
    assert strip([np.zeros((5, 3))], true, true, length, Spec((3,), "float32", "discrete", 2)) == {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "pixels"
    train_online(PIXELS, path, progress=False)
    return path


@pytest.mark.unchecked
def test_a_run_on_pixels_leaves_the_frames_of_its_median_episode(trained):
    _, policy = load_policy(trained, None, pytest.fail)
    evaluator = Evaluator(policy.config, policy.spec, PIXELS.test_rollouts, PIXELS.seed)
    traces = evaluator.rollouts(policy.agent, policy.device)
    number = int(np.argsort([t.reward.sum() for t in traces], kind="stable")[1])
    (file,) = (trained / "credit").iterdir()
    columns = load_file(file)
    steps = columns["frame_step"]
    assert len(steps) == 8 and columns["frame_highest"].sum() == 5 and steps[-1] < len(traces[number].act)
    assert columns["frames"].shape == (8, 10, 10, 3)
    for t, frame in zip(steps.tolist(), columns["frames"], strict=True):
        assert tuple(frame[5, t % 10]) == PLANES[0]  # before step t the walker is at column t mod 10
        wish = int(np.flatnonzero(traces[number].obs[t][2, :, 1])[0])
        assert tuple(frame[2, wish]) == PLANES[1]
        assert (frame.any(-1)).sum() == 4


@pytest.mark.unchecked
def test_the_page_shows_the_strip_under_the_credit(trained, tmp_path):
    credit, notes = read(trained).credit()
    assert credit is not None and credit.strip is not None and notes == []
    text = write_report([trained], tmp_path / "report.html").read_text()
    at = [text.index(f'alt="{alt}') for alt in ("True and learned", "Frames of highest and lowest", "Learned against")]
    assert at == sorted(at)
    assert "the 5 steps of highest learned reward" in text and "the 3 steps of lowest" in text
    assert (tmp_path / "report-films-for-tests-planes-rrd-dqn-frames.png").stat().st_size > 5000


def test_a_strip_names_each_step_and_its_rewards_in_order_with_the_edge_of_its_kind():
    true, learned = np.array([0, 1, 0, 0.5]), np.array([-0.25, 2.5, 0.0, 1e-3])
    frames = np.stack([np.full((6, 9), 60 * i, np.uint8) for i in range(3)])
    fig = plots.film_strip(frames, np.array([0, 1, 3]), np.array([False, True, True]), true, learned, title="x")
    pictures = [ax for ax in fig.axes if ax.images]
    said = [[t.get_text() for t in ax.texts] for ax in pictures]
    assert said == [
        ["\u25bc step 0", "learned \u22120.25, true 0"],
        ["\u25b2 step 1", "learned 2.5, true 1"],
        ["\u25b2 step 3", "learned 0.001, true 0.5"],
    ]
    edges = [to_hex(ax.spines["left"].get_edgecolor()) for ax in pictures]
    assert edges == ["#e69f00", "#0072b2", "#0072b2"]
    assert [int(ax.images[0].get_array()[0, 0, 0]) for ax in pictures] == [0, 60, 120]
    lefts = [ax.get_position().x0 for ax in pictures]
    assert lefts == sorted(lefts)


@pytest.mark.parametrize("count", range(1, 9))
@pytest.mark.parametrize("shape", [(10, 10), (210, 160, 3), (20, 90)])
def test_pictures_keep_their_proportions_and_lie_beside_one_another(count, shape):
    frames = np.zeros((count, *shape), np.uint8)
    step = np.arange(count) * 3
    fig = plots.film_strip(frames, step, step > 9, np.zeros(30), np.zeros(30), title="x")
    boxes = [ax.get_window_extent() for ax in fig.axes]
    assert len(boxes) == count + 1
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= fig.bbox.x1 and b.y1 <= fig.bbox.y1 for b in boxes)
    assert all(b.height / b.width == pytest.approx(shape[0] / shape[1]) for b in boxes[:-1])
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(min(a.x1, b.x1) > max(a.x0, b.x0) and min(a.y1, b.y1) > max(a.y0, b.y0) for a, b in pairs)


GOOD = {
    "frames": np.zeros((2, 5, 5), np.uint8),
    "frame_step": np.array([1, 3]),
    "frame_highest": np.array([True, False]),
}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"frame_step": np.array([1, 4])}, "not of its episode of median return"),
        ({"frame_step": np.array([3, 1])}, "do not fit their steps"),
        ({"frame_step": np.array([-1, 1])}, "do not fit their steps"),
        ({"frame_highest": np.array([True])}, "do not fit their steps"),
        ({"frames": np.zeros((2, 5, 5, 4), np.uint8)}, "its frames are uint8 (2, 5, 5, 4)"),
        ({"frames": np.zeros((2, 5, 5), np.float32)}, "its frames are float32"),
        ({"frames": np.zeros((2, 0, 5), np.uint8)}, "do not fit their steps"),
        ({"frame_step": None}, "frame_step"),
    ],
)
def test_a_strip_that_does_not_fit_is_passed_over_for_the_file_before(columns, says, tmp_path):
    run = make_run(tmp_path / "r", config(), {1000: [-20.0, -22.0], 2000: [-8.0, -7.0]})
    file = run / "credit" / "step_000002000.safetensors"
    plain = load_file(file)
    save_file(plain | GOOD, file)
    credit, notes = read(run).credit()
    assert credit is not None and credit.step == 2000 and notes == []
    assert credit.strip is not None and credit.strip.step.tolist() == [1, 3]
    save_file({k: v for k, v in (plain | GOOD | columns).items() if v is not None}, file)
    credit, notes = read(run).credit()
    assert credit is not None and credit.step == 1000 and credit.strip is None
    assert len(notes) == 1 and "damaged" in notes[0] and says in notes[0]


def test_files_from_before_there_were_strips_give_the_page_as_it_was(tmp_path):
    run = make_run(tmp_path / "r", config(), {1000: [-20.0, -22.0]})
    text = write_report([run], tmp_path / "report.html").read_text()
    assert "True and learned reward" in text and "Frames of highest" not in text and "damaged" not in text
    assert not list(tmp_path.glob("*frames*"))
