"""Networks, optimiser and normaliser against PyTorch's and NumPy's own."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal, TanhTransform, TransformedDistribution

from apportion.agents import make_agent
from apportion.agents.sac import alpha_loss
from apportion.config import AGENTS
from apportion.nets import gaussian
from apportion.nets.mlp import MLP, StackedMLP
from apportion.nets.normalizer import RunningNorm
from apportion.nets.optim import Adam, RMSProp, polyak_
from apportion.types import Spec


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_stack_is_its_members_side_by_side():
    stack = StackedMLP(2, (3, 5, 4), generator())
    x = torch.randn(7, 3, generator=generator(1))
    for i, out in enumerate(stack(x)):
        first, second = stack.weights[2 * i], stack.weights[2 * i + 1]
        torch.testing.assert_close(out, torch.relu(x @ first.T) @ second.T)  # biases start at 0


def test_frozen_weights_pass_gradients_to_the_input_only():
    net = MLP((3, 5, 1), generator())
    x = torch.ones(2, 3, requires_grad=True)
    net(x, frozen=True).sum().backward()
    assert x.grad is not None and float(x.grad.abs().sum()) > 0
    assert all(p.grad is None for p in net.parameters())


def test_tanh_gaussian_density_is_the_transformed_distributions():
    params = torch.tensor([[0.3, -1.2, 0.1, -0.7]], dtype=torch.float64)
    noise = torch.tensor([[0.5, -0.8]], dtype=torch.float64)
    act, log_p = gaussian.sample(params, noise)
    reference = TransformedDistribution(Normal(params[:, :2], params[:, 2:].exp()), TanhTransform(cache_size=1))
    torch.testing.assert_close(act, torch.tanh(params[:, :2] + params[:, 2:].exp() * noise))
    torch.testing.assert_close(log_p, reference.log_prob(act).sum(-1), rtol=1e-6, atol=1e-6)


def test_density_is_finite_where_the_action_saturates():
    act, log_p = gaussian.sample(torch.tensor([[40.0, -1.0]]), torch.zeros(1, 1))
    assert act.item() == 1.0
    # log N(u; u, e^-1) - 2 (log 2 - 40 - softplus(-80))
    assert log_p.item() == pytest.approx(1.0 - 0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 40), rel=1e-5)


def test_floored_deviation_is_the_same_in_sample_and_density():
    act, log_p = gaussian.sample(torch.tensor([[0.0, -50.0]]), torch.ones(1, 1))
    assert act.item() == pytest.approx(math.tanh(0.01), rel=1e-5)
    expected = -0.5 - math.log(0.01) - 0.5 * math.log(2 * math.pi) - math.log(1 - math.tanh(0.01) ** 2)
    assert log_p.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("entropy", "sign"), [(3.0, -1), (-9.0, +1)])
def test_temperature_falls_above_the_target_entropy_and_rises_below(entropy, sign):
    log_alpha = torch.zeros((), requires_grad=True)
    alpha_loss(log_alpha, torch.full((4,), -entropy), target_entropy=-6.0).backward()
    assert log_alpha.grad is not None and math.copysign(1, -log_alpha.grad.item()) == sign


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.01])
def test_adam_is_pytorchs_adam(max_grad_norm):
    ours, theirs = MLP((3, 8, 1), generator()), MLP((3, 8, 1), generator())
    optimizer = Adam(list(ours.parameters()), 1e-2, max_grad_norm=max_grad_norm)
    reference = torch.optim.Adam(theirs.parameters(), 1e-2)
    for seed in range(20):
        x = torch.randn(16, 3, generator=generator(seed))
        optimizer.minimize((ours(x) - 1).square().mean())
        reference.zero_grad()
        (theirs(x) - 1).square().mean().backward()
        if max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), max_grad_norm)
        reference.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("max_grad_norm", [0.0, 0.01])
def test_rmsprop_without_its_epsilon_is_pytorchs_centred_one(max_grad_norm):
    """PyTorch adds eps to the root, the paper under it: without eps both are the same."""
    ours, theirs = (nn.Parameter(torch.randn(4, 3, generator=generator(), dtype=torch.float64)) for _ in range(2))
    optimizer = RMSProp([ours], 1e-2, eps=0.0, max_grad_norm=max_grad_norm)
    reference = torch.optim.RMSprop([theirs], 1e-2, alpha=0.95, eps=0.0, centered=True)
    for seed in range(1, 21):
        wanted = torch.randn(4, 3, generator=generator(seed), dtype=torch.float64)
        optimizer.minimize((ours - wanted).square().sum())
        reference.zero_grad()
        (theirs - wanted).square().sum().backward()
        if max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_([theirs], max_grad_norm)
        reference.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_rmsprop_by_hand():
    """Gradients 2, then -1: means .1, .045; mean squares .2, .24; .01 under the root; no step is carried on."""
    param = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = RMSProp([param])  # the paper's numbers
    optimizer.step([torch.tensor([2.0], dtype=torch.float64)])
    first = -2.5e-4 * 2 / math.sqrt(0.2 - 0.1**2 + 0.01)
    assert param.item() == pytest.approx(first, rel=1e-12)
    optimizer.step([torch.tensor([-1.0], dtype=torch.float64)])
    assert param.item() - first == pytest.approx(2.5e-4 / math.sqrt(0.24 - 0.045**2 + 0.01), rel=1e-12)


def test_polyak_keeps_its_share_and_zero_copies():
    target, online = MLP((2, 3), generator(0)), MLP((2, 3), generator(1))
    before = target.weights[0].detach().clone()
    polyak_(target, online, 0.9)
    torch.testing.assert_close(target.weights[0].detach(), 0.9 * before + 0.1 * online.weights[0].detach())
    polyak_(target, online, 0.0)
    assert torch.equal(target.weights[0], online.weights[0])


def test_normaliser_is_exact_on_all_data_with_a_large_offset():
    rng = np.random.default_rng(0)
    data = 1e6 + rng.normal(size=(5000, 2)) * [1.0, 0.1]
    norm = RunningNorm((2,))
    for part in np.array_split(data, 37):
        norm.observe(torch.from_numpy(part))
    np.testing.assert_allclose(norm.mean.numpy(), data.mean(0), rtol=1e-12)
    np.testing.assert_allclose(norm.scale.numpy(), data.std(0), rtol=1e-4)


def test_normaliser_moves_only_when_it_observes():
    norm = RunningNorm((1,))
    x = torch.tensor([[2.0], [4.0]])
    assert torch.equal(norm(x), x)  # before any data the input passes
    norm.observe(x)
    assert norm(x).flatten().tolist() == [-1.0, 1.0]
    assert norm(torch.tensor([[100.0]])).item() == 5.0  # clipped
    assert norm.mean.item() == 3.0 and norm.count.item() == 2


def test_every_agent_clips_by_its_own_setting():
    box, discrete = Spec((2,), "float32", "box", 1, (-1.0,), (1.0,)), Spec((2,), "float32", "discrete", 3)
    for name, cls in AGENTS.items():
        spec = discrete if name == "dqn" else box
        agent = make_agent(spec, cls(max_grad_norm=0.25), generator(), None, torch.device("cpu"))
        norms = {part: optimizer.max_grad_norm for part, optimizer in agent.optim.items()}
        assert norms.pop("alpha", 0.0) == 0.0  # a scalar needs no clipping
        assert set(norms.values()) == {0.25}, name
