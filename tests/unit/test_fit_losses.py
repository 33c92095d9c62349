"""The losses beside return decomposition, by hand."""

import math

import pytest
import torch

from apportion.rewards.demo_losses import potential_difference, progress_loss, success_loss


def test_progress_is_the_mean_square_of_what_is_missing():
    loss, metrics = progress_loss(torch.tensor([[0.5, 0.0]]), torch.tensor([[1.0, 0.1]]))
    assert loss.item() == pytest.approx((0.25 + 0.01) / 2)
    assert metrics["progress_rmse"].item() == pytest.approx(math.sqrt(0.13))


def test_success_is_the_cross_entropy_of_a_logit():
    loss, metrics = success_loss(torch.tensor([[math.log(3), 0.0, -1.0]]), torch.tensor([[1.0, 0.0, 1.0]]))
    by_hand = (-math.log(0.75) - math.log(0.5) - math.log(1 / (1 + math.e))) / 3
    assert loss.item() == pytest.approx(by_hand, rel=1e-6)
    assert metrics["accuracy"].item() == pytest.approx(2 / 3)


def test_potential_differences_add_up_to_the_ends_and_cost_a_little_for_standing_still():
    phi = torch.tensor([0.0, 0.5, 0.5, 1.0])
    assert potential_difference(phi[:-1], phi[1:], 1.0).sum().item() == pytest.approx(1.0)
    r = potential_difference(phi[:-1], phi[1:], 0.9)
    torch.testing.assert_close(r, torch.tensor([0.45, -0.05, 0.4]))
