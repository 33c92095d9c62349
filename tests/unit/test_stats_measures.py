"""Correlations, R^2, interquartile mean and bootstrap, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apportion.report.stats import bootstrap_ci, iqm
from apportion.stats import auroc, pearson, per_episode, r2, ranks, spearman


def test_pearson_by_hand():
    # deviations (-1, 0, 1) and (-4/3, -1/3, 5/3): 3 / sqrt(2 * 42/9) = 9 / sqrt(84)
    assert pearson([1, 2, 3], [1, 2, 4]) == pytest.approx(9 / math.sqrt(84), abs=1e-12)
    assert pearson([1, 2, 3], [-2, -4, -6]) == -1.0


def test_correlation_with_a_constant_is_undefined_not_zero():
    assert math.isnan(pearson([1, 2, 3], [0.1, 0.1, 0.1]))
    assert math.isnan(spearman([1, 2, 3], [5, 5, 5]))
    assert math.isnan(pearson([1.0], [2.0]))
    # 0.1 in float32 has a mean that differs from it in the last bit
    assert math.isnan(pearson(np.arange(1000), np.full(1000, 0.1, np.float32)))


def test_a_missing_value_makes_every_measure_undefined():
    for measure in (pearson, spearman, r2):
        assert math.isnan(measure([1, 2, 3], [1, float("nan"), 2]))
        assert math.isnan(measure([1, 2, float("inf")], [1, 2, 3]))


def test_ties_share_their_mean_rank():
    assert ranks([10, 20, 20, 5]).tolist() == [2, 3.5, 3.5, 1]
    # ranks (1, 2.5, 2.5, 4) and (1, 2, 3, 4): 4.5 / sqrt(4.5 * 5)
    assert spearman([1, 2, 2, 9], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(22.5), abs=1e-12)


def test_spearman_sees_only_the_order():
    assert spearman([1, 2, 3, 4], [1, 10, 100, 1e6]) == pytest.approx(1.0, abs=1e-12)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30))
def test_correlations_stay_in_range_and_ignore_scale(pairs):
    x, y = np.array(pairs, np.float64).T
    for measure in (pearson, spearman):
        value = measure(x, y)
        assert math.isnan(value) or -1 <= value <= 1
        assert measure(3 * x + 1, y) == pytest.approx(value, abs=1e-9, nan_ok=True)


def test_pearson_of_huge_and_of_tiny_numbers():
    x = np.array([1.0, 2.0, 3.0])
    assert pearson(x * 1e300, x * 1e-300) == pytest.approx(1.0)


def test_r2_by_hand():
    assert r2([1, 2, 3], [1, 2, 3]) == 1.0
    assert r2([1, 2, 3], [2, 2, 2]) == 0.0
    assert r2([1, 2, 3], [1, 2, 5]) == -1.0  # 1 - 4 / 2
    assert math.isnan(r2([2, 2], [1, 3]))


def test_measures_refuse_unequal_lengths():
    with pytest.raises(ValueError, match=r"\(2,\) and \(3,\)"):
        pearson([1, 2], [1, 2, 3])


def test_auroc_of_many_labellings_at_once():
    # positives 1 2 3 against 1 0: of six pairs all but the tie are won; the second labelling is the opposite
    labels = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [1, 1, 1, 1, 1]], bool)
    found = auroc(np.ones((1, 5)), np.array([1.0, 2, 3, 1, 0]), labels)
    np.testing.assert_array_equal(found, [5.5 / 6, 0.5 / 6, np.nan])


def test_auroc_is_the_rank_sum_with_mid_ranks():
    rng = np.random.default_rng(0)
    score, positive = rng.integers(5, size=40).astype(float), rng.random(40) < 0.4
    n = int(positive.sum())
    expected = (ranks(score)[positive].sum() - n * (n + 1) / 2) / (n * (40 - n))
    assert auroc(np.ones((1, 40)), score, positive)[0] == pytest.approx(expected, rel=1e-12)


def test_per_episode_splits_where_episodes_end():
    values = per_episode(pearson, [1, 2, 3, 1, 2], [1, 2, 3, 2, 1], [3, 2])
    assert values == pytest.approx([1.0, -1.0])
    with pytest.raises(ValueError, match="add up to 4"):
        per_episode(pearson, [1, 2, 3], [1, 2, 3], [2, 2])


def test_iqm_leaves_out_the_quarter_at_each_end():
    assert iqm(np.array([100.0, 1, 2, 3, 4, 5, 6, -50])) == 3.5  # of 1..6 without -50, 1, 6, 100: (2+3+4+5)/4
    assert iqm(np.array([9.0, 0, 3])) == 4.0  # below four: the mean
    assert iqm(np.array([0.0, 1, 2, 30])) == 1.5


def test_iqm_works_along_either_axis():
    x = np.array([[0.0, 1, 2, 30], [4, 4, 4, 4]])
    assert iqm(x, axis=1).tolist() == [1.5, 4.0]
    assert iqm(x).tolist() == [2, 2.5, 3, 17]


def test_iqm_does_not_hide_a_missing_value():
    assert np.isnan(iqm(np.array([1.0, 2, 3, np.nan])))
    with pytest.raises(ValueError):
        iqm(np.array([]))


def test_bootstrap_interval_of_two_seeds_is_their_range():
    # resamples are {a,a}, {a,b}, {b,b} with chances 1/4, 1/2, 1/4: the 2.5 and 97.5 percentiles are a and b
    low, high = bootstrap_ci(np.array([[1.0, 10.0], [3.0, 30.0]]))
    assert low.tolist() == [1, 10]
    assert high.tolist() == [3, 30]


def test_bootstrap_covers_the_normal_interval():
    x = np.random.default_rng(1).normal(size=400)
    low, high = bootstrap_ci(x)
    assert low < iqm(x) < high
    # the standard error of the mean of the middle half of 400 normal draws is about 1.09 / 20
    assert high - low == pytest.approx(2 * 1.96 * 1.09 / 20, rel=0.2)


def test_bootstrap_is_the_same_twice_and_whatever_the_chunks(monkeypatch):
    x = np.random.default_rng(2).normal(size=(5, 40))
    whole = bootstrap_ci(x)
    monkeypatch.setattr("apportion.report.stats.POINTS_AT_ONCE", 30_000)
    parts = bootstrap_ci(x)
    assert np.array_equal(whole, parts)


def test_one_seed_has_no_interval():
    low, high = bootstrap_ci(np.array([[1.0, 2.0]]))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_bootstrap_resamples_within_each_task():
    # no seeds differ within a task, so that stratified resampling has nothing to vary; pooled resampling would
    low, high = bootstrap_ci([np.array([0.0, 0.0]), np.array([10.0, 10.0, 10.0])])
    assert low == high == pytest.approx(20 / 3)  # IQM of 0 0 10 10 10 without one at each end: (0 + 10 + 10) / 3
