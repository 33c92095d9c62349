"""`compute_reward(batch) -> (B,)`: the same numbers as the model gives for whole episodes."""

import numpy as np
import pytest
import torch

from apportion.rewards.lerobot_adapter import LeRobotReward
from apportion.types import UserError
from demos_for_tests import demo
from rewards_for_tests import fitted_run, reward_model


def batch_of(one, steps, after=True, history=1):
    """Steps of an episode as LeRobot would deliver them."""
    at = torch.tensor(steps)

    def rows(values, shift):
        seen = [torch.from_numpy(values)[(at + shift - k).clamp(min=0)] for k in reversed(range(history))]
        return torch.stack(seen, 1) if history > 1 else seen[0]

    found = {"action": torch.from_numpy(one.action)[at], "task": [one.language] * len(steps)}
    for name, values in one.proprio.items():
        found[f"observation.{name}"] = rows(values, 0)
        if after:
            found[f"next_observation.{name}"] = torch.from_numpy(values)[at + 1]
    for name, values in one.images.items():
        pixels = values.transpose(0, 3, 1, 2).astype(np.float32) / 255
        found[f"observation.images.{name}"] = rows(pixels, 0)
        if after:
            found[f"next_observation.images.{name}"] = torch.from_numpy(pixels)[at + 1]
    return found


def test_raw_rewards_are_those_of_the_episode(tmp_path):
    one = demo(0, frames=False)
    run = fitted_run(tmp_path, reward_model(one, proprio=("state", "joint_state"), tasks=(one.language,)))
    reward = LeRobotReward.from_pretrained(run)
    steps = [0, 3, 11]
    found = reward.compute_reward(batch_of(one, steps))
    assert found.shape == (3,)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, reward.model.rewards(one)[steps], rtol=1e-5)


def test_without_what_came_after_a_raw_reward_sees_no_change_as_at_the_end_of_an_episode():
    one = demo(0, frames=False, after=False)
    reward = LeRobotReward(reward_model(one))
    found = reward.compute_reward(batch_of(one, [11], after=False))
    np.testing.assert_allclose(found, reward.model.rewards(one)[11:], rtol=1e-5)


@pytest.mark.parametrize("method", ["progress", "success"])
def test_a_potential_with_history_is_exact(method):
    one = demo(1, success=False, frames=False)  # no bonus
    reward = LeRobotReward(reward_model(one, method=method))
    steps = [0, 4, 11]
    found = reward.compute_reward(batch_of(one, steps, history=2))
    np.testing.assert_allclose(found, reward.model.rewards(one)[steps], rtol=1e-4, atol=1e-6)
    phi = reward.compute_reward(batch_of(one, steps, after=False, history=2))
    np.testing.assert_allclose(phi, reward.model.potential(one)[steps], rtol=1e-5)


def test_frames_come_channels_first_in_floats_or_bytes():
    one = demo(2)
    reward = LeRobotReward(reward_model(one, features="pixels", proprio=(), cameras=("image", "wrist_image")))
    batch = batch_of(one, [0, 5])
    found = reward.compute_reward(batch)
    np.testing.assert_allclose(found, reward.model.rewards(one)[[0, 5]], rtol=1e-4)
    raw = {k: (x * 255).round().to(torch.uint8) if "images" in k else x for k, x in batch.items()}
    np.testing.assert_array_equal(reward.compute_reward(raw), found)


def test_what_is_missing_is_named():
    one = demo(0, frames=False)
    reward = LeRobotReward(reward_model(one))
    batch = batch_of(one, [0, 1])
    with pytest.raises(UserError, match=r"no observation.state.*it has action, task"):
        reward.compute_reward({k: x for k, x in batch.items() if not k.endswith(".state")})
    with pytest.raises(UserError, match="no action"):
        reward.compute_reward({})
    with pytest.raises(UserError, match="task has 1 entries"):
        reward.compute_reward({**batch, "task": ["x"]})
    with pytest.raises(UserError, match="2 rows, and there are 1 actions"):
        reward.compute_reward({**batch, "action": batch["action"][:1], "task": ""})
