"""The audit of rewards learned from demonstrations: figures by hand, and what is not defined is None."""

import json

import numpy as np
import pytest

from apportion.rewards.audit_text import render, rows
from apportion.rewards.demo_audit import Judged, Known, audit_demos, control, voc
from apportion.rewards.resampled import estimate, explained, kendall, mean, r2, resamples
from apportion.stats import auroc

ONE = np.ones((1, 4))


def judged(success, reward, score=None, target=None, task="a", terminated=True, truth=None, potential=None):
    reward = np.array(reward, np.float32)
    score = float(reward.sum()) if score is None else score
    target = float(bool(success)) if target is None else target
    return Judged(target, success, task, len(reward), terminated, reward, score, potential, truth or {})


def known(target, success=None, task="a", length=2):
    return Known(float(target), success, task, length)


def test_auroc_counts_pairs_and_ties_half():
    # successes score 3 and 1, failures 2 and 1: 3 > 2, 3 > 1, 1 < 2, 1 = 1: (1 + 1 + 0 + .5) / 4
    score, success = np.array([3.0, 2.0, 1.0, 1.0]), np.array([True, False, True, False])
    assert auroc(ONE, score, success)[0] == 2.5 / 4
    # the second row draws episode 0 three times and episode 1 once: 3 > 2 in every pair
    assert auroc(np.array([[3.0, 1, 0, 0]]), score, success)[0] == 1.0
    assert np.isnan(auroc(np.array([[2.0, 0, 2, 0]]), score, success)[0])  # no failure drawn
    assert auroc(ONE, np.zeros(4), success)[0] == 0.5


def test_weighted_measures_are_those_of_the_repeated_episodes():
    rng = np.random.default_rng(0)
    x, y, control_ = rng.integers(4, size=(3, 12)).astype(float)
    positive = rng.random(12) < 0.5
    for row in resamples(12, 5, 1):
        again = np.repeat(np.arange(12), row.astype(int))
        plain = np.ones((1, 12))
        for measure, columns in (
            (auroc, (x, positive)), (r2, (x, y)), (explained, (x, y, control_)), (kendall, (x, y)), (mean, (x,)),
        ):  # fmt: skip
            here = measure(row[None], *columns)
            there = measure(plain, *(c[again] for c in columns))
            np.testing.assert_allclose(here, there, rtol=1e-12, err_msg=measure.__name__)


def test_kendall_tau_b_by_hand():
    # pairs of (1,1) (2,3) (3,2) (3,4): + + +, -, +, tied in x: 4 concordant, 1 discordant, 5 untied in x, 6 in y
    x, y = np.array([1.0, 2, 3, 3]), np.array([1.0, 3, 2, 4])
    assert kendall(ONE, x, y)[0] == pytest.approx(3 / np.sqrt(5 * 6))
    assert np.isnan(kendall(ONE, np.ones(4), y)[0])


def test_kendall_in_blocks_is_kendall(monkeypatch):
    x, y = np.random.default_rng(1).random((2, 30))
    whole = kendall(np.ones((1, 30)), x, y)
    monkeypatch.setattr("apportion.rewards.resampled.BLOCK", 7)
    np.testing.assert_allclose(kendall(np.ones((1, 30)), x, y), whole)


def test_r2_and_explained_variance_by_hand():
    truth, said = np.array([0.0, 0, 1, 1]), np.array([0.0, 0.5, 1, 1])
    assert r2(ONE, truth, said)[0] == 1 - 0.25 / 1  # mean .5: squares about it add up to 1
    assert explained(ONE, truth, said, np.array([0.0, 0, 0, 1]))[0] == 1 - 0.25 / 1
    assert np.isnan(r2(ONE, np.full(4, 0.1), said)[0])  # a constant return
    assert np.isnan(explained(ONE, truth, said, truth)[0])  # nothing left to explain


def test_an_interval_of_the_lucky_resamples_is_not_given():
    assert estimate(np.array([0.5, np.nan, np.nan, 0.4])) == {"value": 0.5, "low": None, "high": None}
    assert estimate(np.array([np.nan, 0.1, 0.2])) == {"value": None, "low": None, "high": None}
    low_to_high = estimate(np.array([0.5, *np.linspace(0, 1, 101)]))
    assert (low_to_high["low"], low_to_high["high"]) == (pytest.approx(0.025), pytest.approx(0.975))


def test_controls_by_hand():
    train = [known(1, task="a", length=2), known(0, task="a", length=4), known(0, task="b", length=6)]
    targets = np.array([1.0, 0.0, 0.0])
    asked = [known(0, task="a", length=3), known(0, task="b", length=4), known(0, task="new", length=8)]
    np.testing.assert_allclose(control("constant", train, targets, asked), [1 / 3] * 3)
    np.testing.assert_allclose(control("task", train, targets, asked), [0.5, 0.0, 1 / 3])
    # least squares through (2, 1) (4, 0) (6, 0): slope -2/8, mean 1/3 at T = 4
    np.testing.assert_allclose(control("length", train, targets, asked), [1 / 3 + 0.25, 1 / 3, 1 / 3 - 1])
    np.testing.assert_allclose(control("constant", train, np.array([np.nan, 1.0, 0.0]), asked), [0.5] * 3)
    same = [known(1, length=5), known(0, length=5)]
    np.testing.assert_allclose(control("length", same, np.array([1.0, 0.0]), asked), [0.5] * 3)


def test_value_order_correlation_of_any_positive_constant_is_one():
    assert voc(np.cumsum(np.full(9, 0.01))) == 1.0
    assert voc(-np.arange(4.0)) == -1.0
    assert np.isnan(voc(np.zeros(4)))
    assert np.isnan(voc(np.ones(1)))
    assert voc(np.array([1.0, 3.0, 2.0])) == pytest.approx(0.5)


def test_voc_is_always_beside_its_constant_and_apart_for_failures():
    found = audit_demos(
        [judged(True, [0.1, 0.2, 0.3]), judged(False, [-0.1, -0.2, -0.3])],
        [known(1.0, True, length=4), known(0.0, False, length=4)],
        telescopes=False,
        draws=20,
    )
    assert found["voc"]["success"]["model"]["value"] == 1.0
    assert found["voc"]["failure"]["model"]["value"] == -1.0
    for voc_ in found["voc"].values():
        assert voc_["constant"]["value"] == 1.0
        assert voc_["episodes"] == 1
    for row in rows(found):
        if "VOC" in row.name:
            assert row.controls[0] == "1.00"


def test_voc_of_the_potential_has_the_constant_beside_it_too():
    episodes = [judged(True, [-1, -1, -1], potential=np.array([0.1, 0.2, 0.3]))]
    found = audit_demos(episodes, [known(1, True)], telescopes=True, draws=5)
    voc_ = found["voc"]["success"]
    assert (voc_["model"]["value"], voc_["potential"]["value"], voc_["constant"]["value"]) == (-1.0, 1.0, 1.0)
    assert [row.controls[0] for row in rows(found) if row.name.strip() == "of the potential"] == ["1.00"]
    assert found["voc"]["failure"]["potential"]["value"] is None


def test_variation_within_episodes_by_hand():
    # two episodes of 2 steps: 0 2 (variance 1, mean 1) and 3 3 (variance 0, mean 3); means' variance 1; share 1/3
    # over steps: within (1 + 0) / 2 = .5, between 1, share .5 / 1.5
    found = audit_demos([judged(True, [0, 2]), judged(True, [3, 3])], [known(1)], telescopes=False, draws=10)
    assert found["variation"]["share"]["value"] == pytest.approx(1 / 3)
    assert found["variation"]["deviation"]["value"] == pytest.approx(0.5)
    flat = audit_demos([judged(True, [1, 1]), judged(True, [3, 3])], [known(1)], telescopes=False, draws=10)
    assert flat["variation"]["share"]["value"] == 0.0
    assert any("hardly varies" in said for said in flat["warnings"])
    # the bonus on the last step of a potential difference is no variation that was learned
    bonus = audit_demos([judged(True, [1, 1, 2])], [known(1)], telescopes=True, draws=10)
    assert bonus["variation"]["deviation"]["value"] == 0.0


@pytest.mark.parametrize(
    ("reward", "terminated", "telescopes", "warned"),
    [
        ([0.1, 0.1, 1.0], True, False, True),
        ([-0.1, -0.1, 1.0], True, False, False),  # the last step's bonus does not count
        ([0.1, 0.1, 1.0], False, False, False),  # success does not end the episode
        ([0.1, 0.1, 1.0], True, True, False),  # a potential difference pays for nothing twice
    ],
)
def test_the_survival_warning(reward, terminated, telescopes, warned):
    episodes = [judged(True, reward, terminated=terminated), judged(False, [0.5, 0.5], terminated=terminated)]
    found = audit_demos(episodes, [known(1)], telescopes=telescopes, draws=10)
    assert found["survival"]["warning"] is warned
    assert found["survival"]["episodes"] == int(terminated)
    assert any("NOT finishing" in said for said in found["warnings"]) is warned


def test_truth_is_compared_with_the_reward_its_sum_and_a_constants_sum():
    phase = np.array([0.0, 0.0, 1.0, 2.0])
    found = audit_demos(
        [judged(True, [0, 0, 1, 1], truth={"phase": phase}), judged(True, [1, 1], truth={})],
        [known(1)],
        telescopes=False,
        draws=10,
    )["truth"]["phase"]
    # summed r: 0 0 1 2, the phase itself
    assert found["summed"]["pearson"]["value"] == pytest.approx(1.0)
    assert found["reward"]["pearson"]["value"] == pytest.approx(3 / np.sqrt(11))  # cov 1.5 / (1 * sqrt 2.75)
    assert found["constant_summed"]["spearman"]["value"] == pytest.approx(4.5 / np.sqrt(5 * 4.5))


def test_success_only_episodes_give_none_and_say_so():
    episodes = [judged(True, [0.5, 0.5 + i / 10]) for i in range(4)]
    found = audit_demos(episodes, [known(1, True), known(1, True)], telescopes=False, draws=10)
    assert found["ranking"]["auroc"] == {"value": None, "low": None, "high": None}
    assert found["return"]["r2"]["value"] is None
    assert found["return"]["explained"]["constant"]["value"] is None
    assert found["voc"]["failure"]["model"]["value"] is None
    assert found["voc"]["failure"]["constant"]["value"] is None
    assert any("is a success" in said for said in found["warnings"])
    json.dumps(found, allow_nan=False)
    assert "not defined" in render(found)
    assert "nan" not in render(found)


def test_unlabelled_episodes_are_left_out_of_the_ranking():
    episodes = [judged(None, [9.0, 9.0], target=0.0), judged(True, [1.0, 1.0]), judged(False, [0.0, 0.0])]
    found = audit_demos(episodes, [known(0.5, None)], telescopes=False, draws=50)
    assert found["ranking"]["auroc"]["value"] == 1.0
    assert (found["successes"], found["failures"], found["episodes"]) == (1, 1, 3)
    none = audit_demos([judged(None, [1.0, 2.0], target=0.0)], [known(0.0)], telescopes=False, draws=5)
    assert any("No episode says" in said for said in none["warnings"])
    assert "1 without a label" in render(none)


def test_a_model_that_only_reads_the_length_does_not_beat_the_length():
    rng = np.random.default_rng(3)
    lengths = rng.integers(20, 60, size=40)
    success = lengths + rng.normal(0, 8, size=40) < 40
    episodes = [judged(bool(s), np.full(n, 1 / n), score=-float(n)) for n, s in zip(lengths, success, strict=True)]
    train = [known(float(s), bool(s), length=int(n)) for n, s in zip(lengths, success, strict=True)]
    found = audit_demos(episodes, train, telescopes=False, draws=200)
    ranking = found["ranking"]
    assert ranking["auroc"]["value"] == ranking["controls"]["length"]["value"] > 0.8
    assert ranking["gain"]["length"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert ranking["controls"]["constant"]["value"] == 0.5
    assert any("length alone" in said for said in found["warnings"])


def test_a_good_model_beats_every_control_and_is_not_warned_about():
    rng = np.random.default_rng(4)
    success = rng.random(60) < 0.5
    episodes = [
        judged(bool(s), rng.normal(0, 1, 10) - 0.5, score=s + rng.normal(0, 0.2), terminated=False) for s in success
    ]
    train = [known(float(s), bool(s), length=10) for s in success]
    found = audit_demos(episodes, train, telescopes=False, draws=200)
    assert all(gain["low"] > 0 for gain in found["ranking"]["gain"].values())
    assert all(part["low"] > 0 for part in found["return"]["explained"].values())
    assert found["warnings"] == []


def test_the_same_seed_gives_the_same_intervals():
    episodes = [judged(i % 2 == 0, np.arange(3) * i, score=float(i * 7 % 5)) for i in range(8)]
    one, two = (audit_demos(episodes, [known(1)], telescopes=False, draws=50) for _ in range(2))
    assert one == two


def test_nothing_to_judge_is_the_callers_fault():
    with pytest.raises(ValueError, match="episodes to judge"):
        audit_demos([], [known(1)], telescopes=False)
