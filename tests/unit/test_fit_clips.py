"""Clips, their steps and labels, by hand; and what is gathered for them."""

import numpy as np
import pytest
import torch

from apportion.data.batches import (
    Columns,
    Inputs,
    gather,
    is_command,
    random_states,
    read_demo,
    split,
    subset_steps,
)
from apportion.data.clips import Clips, Pool, draw, path, progress_labels, success_labels, whole
from apportion.types import UserError
from demos_for_tests import demo, store

INPUTS = Inputs((("state", 8), ("joint_state", 7)), ("wrist_image",), 16, "", 0, 7)


def pool(lengths=(4, 8, 2), success=(True, False, True), tasks=2) -> Pool:
    n = len(lengths)
    value = np.array(success, np.float64)
    task = np.arange(n) % tasks
    return Pool(np.arange(n), np.array(lengths), value, np.array(success), task, tasks)


def clip(episode=0, full=4, top=4, length=4, success=False, credited=True) -> Clips:
    one = {"episode": episode, "full": full, "top": top, "length": length, "task": 0, "value": 0.0}
    return Clips(**{k: np.array([v]) for k, v in {**one, "success": success, "credited": credited}.items()})


def test_a_clip_that_runs_back_passes_the_same_rows_again():
    assert path(np.array(3), np.arange(6)).tolist() == [0, 1, 2, 3, 2, 1]
    assert path(np.array(4), np.arange(5)).tolist() == [0, 1, 2, 3, 4]


def test_progress_falls_while_a_clip_runs_back_and_success_is_of_the_whole():
    back = clip(full=4, top=3, length=5)
    states = np.arange(6)[None]
    assert progress_labels(back, states).tolist() == [[0, 0.25, 0.5, 0.75, 0.5, 0.25]]
    assert success_labels(back, states).tolist() == [[0, 0, 0, 0, 0, 0]]
    assert progress_labels(clip(credited=False), states[:, :3]).tolist() == [[0, 0, 0]]
    assert success_labels(clip(success=True), states[:, :3]).tolist() == [[1, 1, 1]]


def test_episodes_are_drawn_by_length_or_uniformly():
    rng = np.random.default_rng(0)
    by_length = draw(pool(), 20_000, (), 0.5, rng, "length").episode
    uniform = draw(pool(), 20_000, (), 0.5, rng, "uniform").episode
    np.testing.assert_allclose(np.bincount(by_length) / 20_000, [4 / 14, 8 / 14, 2 / 14], atol=0.015)
    np.testing.assert_allclose(np.bincount(uniform) / 20_000, [1 / 3, 1 / 3, 1 / 3], atol=0.015)


def test_artificial_failures_are_made_of_successes_only_and_in_their_share():
    clips = draw(pool(), 20_000, ("prefixes",), 0.25, np.random.default_rng(1), "uniform")
    made = clips.length < clips.full
    assert not made[clips.episode == 1].any()  # a failure stays as it is
    assert abs(made[clips.episode == 0].mean() - 0.25) < 0.02
    assert (clips.value[made] == 0).all()
    assert not clips.success[made].any()
    assert clips.success[(clips.episode != 1) & ~made].all()
    assert set(clips.length[made & (clips.episode == 0)]) == {1, 2, 3}
    assert (clips.top == clips.length).all()


def test_a_prefix_returns_its_progress_where_that_is_the_return():
    by_progress = Pool(**{**vars(pool()), "by_progress": True})
    clips = draw(by_progress, 1000, ("prefixes",), 1.0, np.random.default_rng(1))
    made = clips.length < clips.full
    np.testing.assert_allclose(clips.value[made], (clips.length / clips.full)[made])


def test_rewound_clips_go_up_to_any_row_and_back_to_any_earlier_one():
    clips = draw(pool((4,), (True,), 1), 4000, ("rewind",), 1.0, np.random.default_rng(2))
    seen = {(int(a), int(b)) for a, b in zip(clips.top, clips.length - clips.top, strict=True)}
    assert seen == {(top, back) for top in (1, 2, 3, 4) for back in range(1, top + 1)}


def test_another_instruction_is_never_the_own_one():
    clips = draw(pool(tasks=3), 500, ("other_instructions",), 1.0, np.random.default_rng(3))
    own = clips.episode % 3
    made = own != clips.task
    assert made[clips.episode != 1].all()
    assert not made[clips.episode == 1].any()
    assert not clips.credited[made].any()
    with pytest.raises(UserError, match="two tasks"):
        draw(pool(tasks=1), 5, ("other_instructions",), 1.0, np.random.default_rng(3))


def test_steps_are_distinct_and_states_reach_both_ends():
    many = whole(pool(), np.array([0, 1, 2]))
    step, mask = subset_steps(many, 4, np.random.default_rng(0))
    assert mask.sum(1).tolist() == [4, 4, 2]
    assert len(set(step[1].tolist())) == 4
    whole_steps, whole_mask = subset_steps(many, None, np.random.default_rng(0))
    assert whole_steps.shape == (3, 8)
    assert whole_mask.sum(1).tolist() == [4, 8, 2]
    states = random_states(whole(pool(), np.full(500, 2)), np.random.default_rng(0))
    assert set(states[:, 0].tolist()) == {0, 1, 2}


def test_a_step_brings_its_own_rows_its_action_and_what_was_before(tmp_path):
    demos = [demo(0, 5), demo(1, 7)]
    opened = store(tmp_path / "s", demos)
    columns = Columns(opened, INPUTS)
    one = clip(episode=1, full=7, top=4, length=6)
    state = np.array([[0, 3, 4, 5]])  # two on the way up, two on the way back: rows 0, 3, 4, 3
    grippers = np.array([False] * 6 + [True])
    batch = gather(columns, one, state, "both", grippers)
    rows = np.stack([[0, 3, 4, 3], [1, 4, 3, 2], [0, 2, 3, 4]])  # here, after, before
    vector = np.concatenate([demos[1].proprio["state"], demos[1].proprio["joint_state"]], 1)
    np.testing.assert_array_equal(batch.vector[:, 0].numpy(), vector[rows])
    np.testing.assert_array_equal(batch.images["wrist_image"][:, 0].numpy(), demos[1].images["wrist_image"][rows])
    action = demos[1].action[[0, 3, 3, 2]]
    action[2:, :6] *= -1  # run back: the motions negated, the gripper's command kept
    np.testing.assert_array_equal(batch.act[0].numpy(), action)
    assert gather(columns, one, state, "state", grippers).act.shape == (1, 4, 0)
    assert batch.condition.dtype == torch.int64


def test_commands_are_told_from_motions():
    action = np.array([[0.1, -1.0], [0.2, 1.0], [0.3, -1.0], [0.4, 1.0]])
    assert is_command(action).tolist() == [False, True]


def test_successes_and_failures_are_held_out_in_their_shares(tmp_path):
    opened = store(tmp_path / "s", [demo(i, 3, success=i < 15, task=f"task {i % 4}", frames=False) for i in range(20)])
    train, val = split(opened, 0.2, "episode", seed=1)
    assert sorted(train + val) == list(range(20))
    assert sum(i < 15 for i in val) == 3
    assert sum(i >= 15 for i in val) == 1
    assert split(opened, 0.2, "episode", seed=1) == (train, val)
    assert split(opened, 0.2, "episode", seed=2) != (train, val)
    train, val = split(opened, 0.25, "task", seed=0)
    assert {i % 4 for i in val}.isdisjoint({i % 4 for i in train})
    assert split(opened, 0.0) == (list(range(20)), [])


@pytest.mark.parametrize(
    ("successes", "failures", "share", "held"),
    [
        (10, 2, 0.2, (2, 1)),  # 0.4 of 2 would round to none
        (10, 3, 0.15, (2, 1)),  # 0.45 of 3 too
        (10, 3, 0.2, (2, 1)),
        (10, 1, 0.2, (2, 0)),  # the only failure is learned from
        (2, 2, 0.01, (1, 1)),
        (49, 35, 0.2, (10, 7)),  # 9.8 and 7: nothing changes where the share is one episode at least
    ],
)
def test_each_outcome_that_two_episodes_have_is_held_out_once_at_least(tmp_path, successes, failures, share, held):
    made = [demo(i, 3, success=i < successes, frames=False) for i in range(successes + failures)]
    opened = store(tmp_path / "s", made)
    train, val = split(opened, share, seed=3)
    assert (sum(i < successes for i in val), sum(i >= successes for i in val)) == held
    assert sorted(train + val) == list(range(successes + failures))
    assert split(opened, share, seed=3) == (train, val)


def test_an_episode_is_read_with_what_the_model_needs(tmp_path):
    opened = store(tmp_path / "s", [demo(0, 5)])
    assert read_demo(opened, 0, INPUTS).images
    assert not read_demo(opened, 0, Inputs((("state", 8),), (), 16, "", 0, 7)).images
