"""rrd_loss against numbers worked out by hand and against the enumeration of all subsets."""

from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apportion.rewards.losses import rrd_loss

F64 = torch.float64


def tensor(*rows):
    return torch.tensor(rows, dtype=F64)


def test_mean_form_by_hand():
    # R/T = 10/4 = 2.5, mean of the subset = 2: (0.5)^2; second episode R/T = 1, mean 3: 4
    loss, metrics = rrd_loss(tensor([1.0, 3.0], [2.0, 4.0]), tensor(10.0, 5.0)[0:2].flatten(), torch.tensor([4, 5]))
    assert loss.item() == pytest.approx((0.25 + 4.0) / 2)
    assert metrics["R_loss"].item() == pytest.approx(2.125)


def test_bias_correction_by_hand():
    # s^2 of (1, 3) with divisor 1 is 2; (1 - 2/4) * 2 / 2 = 0.5; loss 0.25 - 0.5, negative and not clamped
    loss, metrics = rrd_loss(tensor([1.0, 3.0]), tensor(10.0).flatten(), torch.tensor([4]), bias_correction=True)
    assert loss.item() == pytest.approx(-0.25)
    assert metrics["R_loss"].item() == pytest.approx(0.25)
    assert metrics["R_var"].item() == pytest.approx(0.5)


@pytest.mark.parametrize("bias_correction", [False, True])
def test_sum_form_is_length_squared_times_mean_form(bias_correction):
    pred, ret, length = tensor([1.0, 3.0, 0.5]), tensor(10.0).flatten(), torch.tensor([7])
    mean, m = rrd_loss(pred, ret, length, bias_correction=bias_correction)
    total, s = rrd_loss(pred, ret, length, target="sum", bias_correction=bias_correction)
    assert total.item() == pytest.approx(49 * mean.item(), rel=1e-12)
    assert s["R_var"].item() == pytest.approx(49 * m["R_var"].item(), rel=1e-12)
    assert s["R_rmse"].item() == pytest.approx(m["R_rmse"].item())  # return units in both forms


@settings(max_examples=60, deadline=None)
@given(
    rewards=st.lists(st.floats(-5, 5), min_size=2, max_size=7),
    episode_return=st.floats(-20, 20),
    k=st.integers(2, 7),
    target=st.sampled_from(["mean", "sum"]),
)
def test_corrected_rrd_averaged_over_all_subsets_is_rd(rewards, episode_return, k, target):
    steps = len(rewards)
    k = min(k, steps)
    subsets = torch.tensor(list(combinations(rewards, k)), dtype=F64)
    ret, length = torch.full((len(subsets),), episode_return, dtype=F64), torch.full((len(subsets),), steps)
    corrected, _ = rrd_loss(subsets, ret, length, target=target, bias_correction=True)
    rd, _ = rrd_loss(tensor(rewards), ret[:1], length[:1], target=target)
    assert corrected.item() == pytest.approx(rd.item(), abs=1e-9 * max(1.0, steps**2))


def test_uncorrected_rrd_exceeds_rd_by_the_variance_of_the_estimator():
    rewards, steps, k = [1.0, 2.0, 4.0, 8.0], 4, 2
    subsets = torch.tensor(list(combinations(rewards, k)), dtype=F64)
    ret, length = torch.full((6,), 3.0, dtype=F64), torch.full((6,), steps)
    rrd, _ = rrd_loss(subsets, ret, length, target="sum")
    rd, _ = rrd_loss(tensor(rewards), ret[:1], length[:1], target="sum")
    estimates = steps * subsets.mean(-1)
    assert rrd.item() - rd.item() == pytest.approx(estimates.var(correction=0).item(), abs=1e-9)


def test_short_episode_with_a_mask_is_exactly_rd():
    pred = tensor([1.0, 2.0, 99.0, 99.0])
    mask = torch.tensor([[True, True, False, False]])
    loss, metrics = rrd_loss(pred, tensor(5.0).flatten(), torch.tensor([2]), bias_correction=True, mask=mask)
    assert loss.item() == pytest.approx((2.5 - 1.5) ** 2)
    assert metrics["R_var"].item() == 0.0


def test_one_step_episode_has_no_variance_term():
    mask = torch.tensor([[True, False]])
    loss, _ = rrd_loss(tensor([2.0, 7.0]), tensor(5.0).flatten(), torch.tensor([1]), bias_correction=True, mask=mask)
    assert loss.item() == pytest.approx(9.0)


def test_masked_steps_get_no_gradient():
    pred = tensor([1.0, 2.0, 99.0]).requires_grad_()
    mask = torch.tensor([[True, True, False]])
    rrd_loss(pred, tensor(5.0).flatten(), torch.tensor([2]), bias_correction=True, mask=mask)[0].backward()
    assert pred.grad is not None and pred.grad[0, 2] == 0 and pred.grad[0, 0] != 0


def test_single_step_subsets_refuse_the_correction():
    with pytest.raises(ValueError, match="at least 2 steps"):
        rrd_loss(tensor([2.0]), tensor(5.0).flatten(), torch.tensor([3]), bias_correction=True)


def test_ensemble_members_add_up():
    pred = torch.randn(3, 2, 4, dtype=F64, generator=torch.Generator().manual_seed(0))
    ret, length = tensor(5.0, 1.0).flatten(), torch.tensor([6, 9])
    together, _ = rrd_loss(pred, ret, length, bias_correction=True)
    alone = sum(rrd_loss(member, ret, length, bias_correction=True)[0] for member in pred)
    assert together.item() == pytest.approx(float(alone), rel=1e-12)
