"""The pictures: what is drawn, that nothing overlaps or falls off, and that files are the same twice."""

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.text import Text

from apportion.report import plots
from apportion.report.plots import Curve
from apportion.report.style import looks, pretty, short_number, spread

PAPER = ["none sac (dense)", "rrd sac", "rrd-l(rd) sac", "rd sac", "ircr sac", "uniform sac", "none sac (episodic)"]


def curve(label, last, seeds=3):
    steps = np.arange(1, 6) * 1000
    return Curve(label, steps, np.linspace(-50, last, 5) + np.arange(seeds)[:, None])


def texts(fig):
    return [t for t in fig.findobj(lambda a: hasattr(a, "get_text")) if t.get_text().strip() and t.get_visible()]


def overlap(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1


def test_methods_have_distinct_colours_whatever_they_are_drawn_with():
    all_looks = looks(PAPER)
    assert len({look.color for look in all_looks.values()}) == len(PAPER)
    assert all(looks([label])[label] == all_looks[label] for label in PAPER)


def test_agents_on_one_method_differ_in_colour_and_dashes():
    three = looks(["rrd sac", "rrd td3", "rrd ddpg"]).values()
    assert len({look.color for look in three}) == len({look.dashes for look in three}) == 3


def test_labels_in_words():
    assert [pretty(x) for x in ("rrd-l(rd) sac", "none td3 (dense)", "uniform sac", "my own")] == [
        "RRD-L(RD) + SAC", "TD3, dense reward", "uniform + SAC", "my own",
    ]  # fmt: skip
    assert pretty("rrd sac, rrd_sample_size=32") == "RRD + SAC, rrd_sample_size=32"


def test_short_numbers():
    assert [short_number(x) for x in (0, 500, 1500, 20_000, 2e6)] == ["0", "500", "1.5k", "20k", "2M"]


def test_names_are_pushed_apart_just_enough():
    placed = spread(np.array([0.5, 0.5, 0.9]), np.array([0.1, 0.1, 0.1]))
    assert placed == pytest.approx([0.45, 0.55, 0.9])
    crowded = spread(np.array([0.98, 0.99, 1.0]), np.array([0.2, 0.2, 0.2]))
    assert crowded == pytest.approx([0.5, 0.7, 0.9])


def test_learning_curves_draw_the_iqm_and_name_every_line():
    fig = plots.learning_curves([curve("rrd sac", -7), curve("ircr sac", -12), curve("x", -30)], title="Reacher-v5")
    (ax,) = fig.axes
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([-49, -38.25, -27.5, -16.75, -6])  # mean of three seeds
    words = [t.get_text() for t in texts(fig)]
    assert {"RRD + SAC", "IRCR + SAC", "x", "Reacher-v5", "environment steps"} <= set(words)


def test_names_and_titles_do_not_overlap_and_stay_on_the_picture():
    fig = plots.learning_curves([curve(label, -8 + i / 10) for i, label in enumerate(PAPER)], title="Reacher-v5")
    fig.draw_without_rendering()
    (ax,) = fig.axes
    low, high = ax.get_ylim()
    ticks = [t for t in ax.get_yticklabels() if not low <= t.get_position()[1] <= high]  # not drawn
    boxes = [Text.get_window_extent(t) for t in texts(fig) if t not in ticks]  # of an annotation: without its arrow
    page = fig.bbox
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= page.x1 and b.y1 <= page.y1 for b in boxes)
    assert not [1 for a, b in itertools.combinations(boxes, 2) if overlap(a, b)]


def test_one_seed_has_no_band_and_says_so():
    fig = plots.learning_curves([curve("rrd sac", -7, seeds=1)], title="t")
    assert not fig.axes[0].collections
    assert "one seed" in [t.get_text() for t in texts(fig)]


def test_a_curve_of_one_point_is_visible():
    fig = plots.learning_curves([Curve("rrd sac", np.array([1000]), np.array([[1.0], [2.0]]))], title="t")
    assert any(line.get_marker() == "o" for line in fig.axes[0].lines)


def test_small_multiples_cut_an_axis_but_never_stretch_it():
    bad = Curve("rrd sac", np.array([1, 2, 3]), np.array([[-80.0, 0.2, 0.9]]))
    good = Curve("rrd sac", np.array([1, 2, 3]), np.array([[0.7, 0.8, 0.9]]))
    hopeless = Curve("rrd sac", np.array([1, 2, 3]), np.array([[-80.0, -70, -75]]))
    panels = {"a": [bad], "b": [good], "c": [hopeless]}
    fig = plots.small_multiples(panels, limits=dict.fromkeys(panels, (-1.0, 1.0)))
    (a, _), (b, _), (c, _) = (ax.get_ylim() for ax in fig.axes)
    assert a == pytest.approx(-1.04)
    assert b > 0.6
    assert c < -70  # shown, not cut to nothing


@pytest.mark.parametrize("steps", [1, 50, 1000])
def test_credit_shows_the_whole_episode_and_its_correlation(steps):
    true = np.sin(np.arange(steps) / 7).astype(np.float32)
    fig = plots.credit(true, 2 * true, title="t")
    whole = fig.axes[0]
    assert max(len(line.get_xdata()) for line in whole.lines) == steps
    words = [t.get_text() for t in texts(fig)]
    assert ("Correlation 1.00" if steps > 1 else "Correlation undefined") in words
    assert len(fig.axes) == (4 if steps > 150 else 3)


def test_credit_scatter_states_correlation_within_episodes_and_r2_of_returns():
    true = np.array([0, 1, 2, 10, 11, 12], np.float32)
    learned = np.array([2, 1, 0, 12, 11, 10], np.float32)  # backwards within, right in sum
    fig = plots.credit_scatter(true, learned, np.array([3, 3]), title="t")
    words = [t.get_text() for t in texts(fig)]
    minus = "\N{MINUS SIGN}"
    assert f"within episodes: Pearson {minus}1.00, Spearman {minus}1.00" in words
    assert "R² 1.00" in words


def test_the_same_data_give_the_same_file(tmp_path):
    def draw():
        return plots.learning_curves([curve("rrd sac", -7)], title="t")

    a, b = plots.save(draw(), tmp_path / "a.png"), plots.save(draw(), tmp_path / "b.png")
    assert a.read_bytes() == b.read_bytes()
    assert plots.svg(draw()) == plots.svg(draw())


def test_svg_refers_to_nothing_outside():
    tree = ET.fromstring(plots.svg(plots.learning_curves([curve("rrd sac", -7)], title="t")))
    links = [value for node in tree.iter() for name, value in node.attrib.items() if name.endswith("href")]
    assert links
    assert all(link.startswith(("#", "data:")) for link in links)
