"""Returns of recorded episodes, and what is said where they cannot be taken apart."""

from dataclasses import replace

import numpy as np
import pytest

from apportion.data.returns import constant_warning, dense_warning, episode_return, flickers, store_returns
from apportion.types import UserError
from demos_for_tests import demo, store, with_rewards


def three():
    """A success of 4 steps, a failure of 2, and one that was in success twice on its way to failing."""
    return [
        with_rewards(demo(0, 4), [0, 0, 0, 1]),
        with_rewards(demo(1, 2), [0, 0], False),
        with_rewards(demo(2, 5), [0, 1, 1, 0, 1], False),
    ]


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [
        ("success", [1, 0, 0]),
        ("progress", [1, 0, 0]),
        ("dense", [1, 0, 3]),
        ("length", [-4, -2, -5]),
        ("column:phase", [0 + 1 + 2 + 3, 0 + 1, 0 + 1 + 2 + 3 + 4]),
    ],
)
@pytest.mark.parametrize("after", [True, False])
def test_each_kind_by_hand_from_episodes_and_from_columns(tmp_path, kind, by_hand, after):
    demos = (
        three()
        if after
        else [with_rewards(demo(i, d.length, after=False), d.reward, d.success) for i, d in enumerate(three())]
    )
    assert [episode_return(d, kind) for d in demos] == by_hand
    assert store_returns(store(tmp_path / "s", demos), kind).tolist() == by_hand


def test_a_success_that_stays_on_is_not_to_be_summed(tmp_path):
    assert not flickers(np.array([0, 0, 0, 1.0]))
    assert flickers(np.array([0, 1, 1, 0, 1.0]))
    assert not flickers(np.array([0.5, 1.0, 1.0]))  # a dense reward
    warning = dense_warning(store(tmp_path / "s", three()))
    assert warning is not None
    assert "1 of 3 episodes (sums up to 3)" in warning
    assert dense_warning(store(tmp_path / "t", three()[:2])) is None


def test_a_constant_return_is_said_to_teach_nothing_but_length():
    warning = constant_warning(np.ones(3), np.array([50, 100, 200]))
    assert warning is not None
    assert "r = 1/T, between 0.005 and 0.02 a step" in warning
    assert constant_warning(np.array([1.0, 0.0]), np.array([5, 5])) is None


def test_slips_say_what_there_is(tmp_path):
    with pytest.raises(UserError, match="extra columns: phase"):
        episode_return(demo(0), "column:progress")
    with pytest.raises(UserError, match="extra columns: phase"):
        store_returns(store(tmp_path / "s", three()), "column:progress")
    with pytest.raises(UserError, match="choose from success, dense"):
        episode_return(demo(0), "sucess")
    with pytest.raises(UserError, match="does not say whether it succeeded"):
        episode_return(replace(demo(0), success=None), "success")


def test_a_column_with_a_nan_is_named_and_spoils_no_other_episode(tmp_path):
    demos = three()
    phase = demos[1].extra["phase"].astype(np.float32)
    demos = [replace(d, extra={"phase": d.extra["phase"].astype(np.float32)}) for d in demos]
    phase[1] = np.nan
    demos[1] = replace(demos[1], extra={"phase": phase})
    with pytest.raises(UserError, match="episode 1: --return column:phase is nan"):
        store_returns(store(tmp_path / "s", demos), "column:phase")
    with pytest.raises(UserError, match="is nan"):
        episode_return(demos[1], "column:phase")
    assert np.isfinite(episode_return(demos[2], "column:phase"))
