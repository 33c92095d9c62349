"""Steps that go, steps that merge, and frames that turn."""

from dataclasses import replace

import numpy as np
import pytest

from apportion.data import filters
from apportion.data.schema import BadDemo, Camera, Orientation
from apportion.types import UserError
from demos_for_tests import demo, with_rewards


def openvla_keeps(action: np.ndarray) -> list[int]:
    """The steps that openvla's own loop keeps: the gripper is compared with that of the last action it kept."""
    kept: list[int] = []
    for t, act in enumerate(action):
        idle = np.linalg.norm(act[:-1]) < 1e-4 and (not kept or act[-1] == action[kept[-1]][-1])
        kept += [] if idle else [t]
    return kept


def test_the_noop_rule_is_openvlas_on_every_pattern_of_six_steps():
    for pattern in range(4**6):
        codes = [(pattern >> 2 * t) & 3 for t in range(6)]
        action = np.zeros((6, 7), np.float32)
        action[:, 0] = [0.5 * (c & 1) for c in codes]
        action[:, 6] = [(c >> 1) * 2 - 1 for c in codes]
        np.testing.assert_array_equal(np.flatnonzero(~filters.still(action)), openvla_keeps(action))


def test_the_threshold_is_on_the_norm_of_all_six_deltas():
    action = np.zeros((3, 7), np.float32)
    action[0, :6], action[1, :6], action[2, 5] = 3e-5, 5e-5, 2e-4  # norms 7.3e-5, 1.2e-4, 2e-4
    np.testing.assert_array_equal(filters.still(action), [True, False, False])


def idle_at(one, *steps):
    action = one.action.copy()
    action[list(steps), :6] = 0
    return replace(one, action=action)


@pytest.mark.parametrize("after", [True, False])
def test_dropping_noops_keeps_the_rows_before_each_kept_step_and_the_last_one(after):
    one = idle_at(demo(0, 8, after=after), 0, 3, 4, 7)
    short = filters.drop_noops(one)
    # step 4 is where the gripper closes: no no-op
    kept = [1, 2, 4, 5, 6]
    np.testing.assert_array_equal(short.action, one.action[kept])
    rows = [*kept, 8] if after else kept
    np.testing.assert_array_equal(short.proprio["state"], one.proprio["state"][rows])
    np.testing.assert_array_equal(short.images["image"], one.images["image"][rows])
    np.testing.assert_array_equal(short.extra["phase"], kept)
    assert short.reward.tolist() == [0, 0, 0, 0, 1]  # the dropped last step was the success


def test_graded_rewards_of_dropped_steps_go_to_the_step_before_them():
    one = with_rewards(idle_at(demo(0, 8), 0, 3, 7), [1, 2, 3, 4, 5, 6, 7, 8.5])
    assert filters.drop_noops(one).reward.tolist() == [3, 7, 5, 6, 15.5]


def with_columns(one, **columns):
    return replace(one, extra={name: np.asarray(values) for name, values in columns.items()})


def test_columns_that_are_to_be_summed_keep_their_sums_and_others_are_picked():
    money, count = np.float32([1, 2, 3, 4, 5, 6, 7, 8.5]), np.uint8([200] * 8)
    one = with_columns(idle_at(demo(0, 8), 0, 3, 7), money=money, count=count, clock=np.arange(8))
    short = filters.drop_noops(one, ["money", "count"])  # steps 1, 2, 4, 5, 6 stay
    assert short.extra["money"].tolist() == [3, 7, 5, 6, 15.5]
    assert short.extra["count"].tolist() == [400, 400, 200, 200, 400]  # no byte runs over
    assert short.extra["clock"].tolist() == [1, 2, 4, 5, 6]
    coarse = filters.downsample(one, 3, ["money", "count"])
    assert coarse.extra["money"].tolist() == [6, 15, 15.5]
    assert coarse.extra["clock"].tolist() == [0, 3, 6]
    assert (short.extra["money"].dtype, coarse.extra["count"].dtype) == (np.float32, np.int64)
    for changed in (short, coarse):
        assert changed.extra["money"].sum() == money.sum()
        assert changed.extra["count"].sum() == 1600


def test_columns_whose_sums_changed_are_known():
    paid = np.float64([0, 0, 1.5, 0, -2, 0, 0, 0])
    pairs = np.ones((8, 2))
    one = with_columns(idle_at(demo(0, 8), 0, 3, 7), paid=paid, clock=np.arange(8), flag=np.ones(8, bool), pairs=pairs)
    assert filters.changed_sums(one, filters.drop_noops(one)) == {"clock", "flag"}  # what was dropped of paid is 0
    assert filters.changed_sums(one, filters.drop_noops(one, ["clock", "flag"])) == set()
    assert filters.changed_sums(one, filters.downsample(one, 3)) == {"paid", "clock", "flag"}


def test_an_episode_of_noops_is_not_emptied():
    with pytest.raises(BadDemo, match="all 4 steps are no-ops"):
        filters.drop_noops(replace(demo(0, 4), action=np.zeros((4, 7), np.float32)))


def test_rules_for_arms_are_refused_for_other_actions():
    other = replace(demo(0), action=np.zeros((12, 3), np.float32))
    for change in (filters.drop_noops, lambda d: filters.downsample(d, 2)):
        with pytest.raises(UserError, match="3"):
            change(other)


@pytest.mark.parametrize("after", [True, False])
def test_down_sampling_adds_deltas_and_takes_the_last_gripper(after):
    one = demo(0, 7, after=after)
    short = filters.downsample(one, 3)
    np.testing.assert_allclose(short.action[0, :6], one.action[:3, :6].sum(0), rtol=1e-6)
    np.testing.assert_allclose(short.action[2, :6], one.action[6, :6])
    np.testing.assert_array_equal(short.action[:, 6], one.action[[2, 5, 6], 6])
    rows = [0, 3, 6, 7] if after else [0, 3, 6]
    np.testing.assert_array_equal(short.proprio["state"], one.proprio["state"][rows])
    assert short.reward.tolist() == [0, 0, 1] and short.extra["phase"].tolist() == [0, 3, 6]
    moved = short.proprio["state"][1:, :3] - short.proprio["state"][:-1, :3]
    np.testing.assert_allclose(moved, 0.05 * short.action[: len(moved), :3], atol=1e-6)  # still the same physics


def test_a_flag_is_read_at_the_end_of_a_group_and_graded_rewards_add_up():
    flag = with_rewards(demo(0, 6), [0, 0, 1, 1, 1, 1])
    assert filters.downsample(flag, 2).reward.tolist() == [0, 1, 1]
    graded = with_rewards(demo(0, 6), [0.5, 0, 1, 1, 1, 1])
    assert filters.downsample(graded, 2).reward.tolist() == [0.5, 2, 2]
    paid_for_living = with_rewards(demo(0, 6), [1] * 6, success=None)  # nobody speaks of success: a sum
    assert filters.downsample(paid_for_living, 2).reward.tolist() == [2, 2, 2]


def test_stopping_at_success_ends_where_the_simulator_would_have():
    one = with_rewards(demo(0, 6, success=False), [0, 0, 1, 0, 0, 0], success=False)
    short = filters.stop_at_success(one)
    assert short.length == 3 and short.observations == 4 and short.success and short.terminated and not short.truncated
    never = demo(1, 6, success=False)
    assert filters.stop_at_success(never) is never


def test_frames_turn_as_their_names_say():
    one = demo(0)
    frame = one.images["image"][0]
    for rotate, flip, expected in (
        (True, False, np.rot90(frame, 2)),
        (False, True, np.flipud(frame)),
        (True, True, np.flipud(np.rot90(frame, 2))),
        (False, False, frame),
    ):
        np.testing.assert_array_equal(filters.turn(one, rotate, flip).images["image"][0], expected)
    lies: list[tuple[Orientation, bool, bool, str]] = [
        ("opengl", True, False, "rotated"),
        ("rotated", True, False, "opengl"),
        ("rotated", True, True, "upright"),
        ("opengl", False, True, "upright"),
        ("unknown", True, True, "unknown"),
    ]
    for before, rotate, flip, after in lies:
        assert filters.turned(Camera(4, 4, before), "image", rotate, flip).orientation == after
    with pytest.raises(UserError, match="--flip: camera image is rotated"):
        filters.turned(Camera(4, 4, "rotated"), "image", False, True)
    with pytest.raises(UserError, match="--rotate-180: camera image is upright"):
        filters.turned(Camera(4, 4, "upright"), "image", True, False)


def test_resizing_averages_instead_of_skipping_pixels():
    stripes = np.zeros((1, 16, 16, 3), np.uint8)
    stripes[:, :, ::2] = 255
    small = filters.resize(replace(demo(0), images={"image": stripes}), {"image": (4, 8)}).images["image"]
    assert small.shape == (1, 4, 8, 3)
    assert np.abs(small.astype(int)[:, :, 1:-1] - 127).max() < 12


def test_graded_rewards_do_not_say_when_an_episode_succeeded():
    graded = with_rewards(demo(0, 4), [0.1, 0.2, 0.3, 0.4])
    with pytest.raises(UserError, match="graded"):
        filters.stop_at_success(graded)
