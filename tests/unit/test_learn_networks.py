"""Networks and tables: ranges, what trains what, and one interface for both."""

import math
from copy import deepcopy

import pytest
import torch
from torch.testing import assert_close

from apportion.nets.optim import Adam
from apportion.power.equations import END
from apportion.power.learn import losses
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.fit import Part, fit_networks
from apportion.power.learn.lookup import START, Lookup
from apportion.power.learn.networks import Networks, Sizes, from_z, to_z

SIZES = Sizes(features=6, humans=2, goals=3, robot_actions=4)


def _nets(seed=0, **settings):
    given = {
        "hidden": (16, 8),
        "shared": True,
        "goal_features": 5,
        "dropout": 0.0,
        "q_output": "softplus",
        "z_power": 1.1,
    }
    return Networks(SIZES, torch.eye(3), generator=torch.Generator().manual_seed(seed), **{**given, **settings})


def _noise(nets, seed, *names, n=8):
    return iter(nets.noise(n, names, torch.Generator().manual_seed(seed)))


@pytest.mark.parametrize("q_output", ["softplus", "z", "log"])
@pytest.mark.parametrize("shared", [True, False])
def test_values_are_in_their_ranges_for_any_input(q_output, shared):
    nets = _nets(q_output=q_output, shared=shared)
    code = nets.encode(torch.randn(200, 6) * 50)
    v, x, y, q, v_r = (f(code) for f in (nets.v_h_e, nets.x_h, nets.u_r, nets.q_r, nets.v_r))
    assert v.shape == (200, 2, 3) and x.shape == (200, 2) and y.shape == (200,) and q.shape == (200, 4)
    assert bool(((v >= 0) & (v <= 1)).all()) and bool(((x >= 0) & (x <= 1)).all())
    assert bool((y >= 1).all()) and bool((q < 0).all()) and bool((v_r < 0).all())
    assert all(bool(torch.isfinite(part).all()) for part in (v, x, y, q, v_r))


def test_dropout_acts_in_training_only():
    nets, x = _nets(dropout=0.5), torch.randn(8, 6)
    assert_close(nets.q_r(nets.encode(x)), nets.q_r(nets.encode(x)), rtol=0, atol=0)
    noise = [_noise(nets, seed, "q_r") for seed in (1, 2, 1)]
    a, b, again = (nets.q_r(nets.encode(x, each), each) for each in noise)
    assert not torch.allclose(a, b)
    assert_close(a, again, rtol=0, atol=0)  # by the noise that is given alone


def test_every_loss_reaches_the_shared_encoder():
    nets, x = _nets(), torch.randn(8, 6)
    for name in ("v_h_e", "x_h", "u_r", "q_r", "v_r"):
        noise = _noise(nets, 0, name)
        out = getattr(nets, name)(nets.encode(x, noise), noise)
        grads = torch.autograd.grad(out.sum(), list(nets.encoder.parameters()))
        assert all(float(g.abs().sum()) > 0 for g in grads), name


def test_each_estimator_has_parameters_of_its_own():
    nets = _nets()
    owned = [p for name in ("v_h_e", "x_h", "u_r", "q_r", "v_r") for p in nets.parameters_of(name)]
    assert len({id(p) for p in owned}) == len(owned) == len(list(nets.parameters()))


def test_the_order_of_goals_changes_nothing_but_the_order():
    nets, x = _nets(), torch.randn(5, 6)
    before = nets.v_h_e(nets.encode(x))
    nets.goals = nets.goals[[2, 0, 1]]
    assert_close(nets.v_h_e(nets.encode(x)), before[:, :, [2, 0, 1]])


@pytest.mark.parametrize("q_output", ["softplus", "z", "log"])
def test_outputs_can_be_moved_to_the_scale_of_the_targets(q_output):
    nets = _nets(q_output=q_output)
    nets.set_scale(-120.0, -80.0)
    code = nets.encode(torch.zeros(1, 6))  # all biases but the last are 0
    own = nets.heads["q_r"].biases[-1]
    assert float(own[:-1].detach().abs().sum()) == 0
    assert_close(nets.q_r(code), torch.full((1, 4), -120.0), rtol=1e-3, atol=0)
    assert_close(nets.v_r(code), torch.tensor([-80.0]), rtol=1e-3, atol=0)


def test_a_logarithm_that_went_too_far_finds_its_way_back():
    nets = _nets(q_output="log")
    bias = nets.heads["q_r"].biases[-1]
    with torch.no_grad():
        bias[-1] = 40.0
    q = nets.q_r(nets.encode(torch.zeros(1, 6)))
    assert_close(q, torch.full((1, 4), -math.exp(18)))
    (slope,) = torch.autograd.grad(losses.q_loss(q, torch.full_like(q, -5.0), None, "log", 1.1), bias)
    assert slope[-1] > 0  # downhill is where it is smaller


def test_z_and_back():
    q = torch.tensor([-1.0, -2.5, -300.0, -1e5], dtype=torch.float64)
    z = to_z(q, 2.2)
    assert bool(((z > 0) & (z <= 1)).all()) and float(z[0]) == 1.0
    assert float(z[1]) == pytest.approx(2.5 ** (-1 / 2.2))
    assert_close(from_z(z, 2.2), q)


def test_y_is_the_mean_of_inverse_powers_and_a_subset_stands_for_all():
    x = torch.tensor([[0.5, 0.25, 1.0]])
    assert float(losses.y_of(x, 1.0, "mean")) == pytest.approx((2 + 4 + 1) / 3)
    assert float(losses.y_of(x, 2.0, "sum")) == pytest.approx(4 + 16 + 1)
    each = [float(losses.y_of(x, 1.0, "mean", torch.tensor([[h]]))) for h in range(3)]
    assert sum(each) / 3 == pytest.approx(7 / 3)  # unbiased
    assert float(losses.y_of(x, 1.0, "sum", torch.tensor([[1]]))) == pytest.approx(12.0)


def test_losses_worked_out_by_hand():
    p, t = torch.tensor([[0.5, 0.2]]), torch.tensor([[1.0, 0.0]])
    assert float(losses.squared(p, t)) == pytest.approx((0.25 + 0.04) / 2)
    assert float(losses.squared(p, t, torch.tensor([[2.0, 0.0]]))) == pytest.approx(0.25)
    entropy = -(math.log(0.5) + math.log(0.8)) / 2
    assert float(losses.share_loss(p, t, None, "cross-entropy")) == pytest.approx(entropy)
    assert float(losses.share_loss(p, p, None, "cross-entropy")) == pytest.approx(0)
    q, want = torch.tensor([[-2.0]]), torch.tensor([[-4.0]])
    assert float(losses.q_loss(q, want, None, "softplus", 1.1)) == pytest.approx(4.0)
    assert float(losses.q_loss(q, want, None, "log", 1.1)) == pytest.approx(math.log(2) ** 2)
    assert float(losses.q_loss(q, want, None, "z", 1.0)) == pytest.approx((1 / 2 - 1 / 4) ** 2)
    assert float(losses.q_loss(q, want, torch.tensor([[3.0]]), "log", 1.1, sampled=True)) == pytest.approx(
        3 * (2 - 1 - math.log(2))
    )


@pytest.mark.parametrize("output", ["softplus", "log"])
def test_of_weighted_samples_the_best_q_is_the_mean(output):
    samples, weight = torch.tensor([[-1.0], [-400.0]]), torch.tensor([[3.0], [1.0]])
    mean = torch.tensor((3 * -1.0 - 400.0) / 4)

    def slope(at):
        q = at.clone().requires_grad_()
        return float(
            torch.autograd.grad(losses.q_loss(q.expand(2, 1), samples, weight, output, 1.1, sampled=True), q)[0]
        )

    assert slope(mean) == pytest.approx(0, abs=1e-5)
    assert slope(0.9 * mean) > 0 > slope(1.1 * mean)


def test_networks_are_fitted_to_samples_by_the_deviance_and_to_expectations_by_the_square():
    nets, features = _nets(q_output="log"), torch.randn(5, 6)
    target, weight = -torch.rand(5, 4) - 0.1, torch.rand(5, 4)
    found = {}
    for targets in ("model", "sampled"):
        config = Phase2Config(q_r_output="log", targets=targets)
        copy = deepcopy(nets)
        adams = {"q_r": Adam(copy.parameters_of("q_r"), 1e-3)}
        part = Part(features, [], {"q_r": (target, weight)})
        found[targets] = float(fit_networks(copy, adams, [part], config, 1.0)["q_r"])
    q = nets.q_r(nets.encode(features)).detach()
    assert found["model"] == pytest.approx(float(losses.q_loss(q, target, weight, "log", 1.1)))
    assert found["sampled"] == pytest.approx(float(losses.q_loss(q, target, weight, "log", 1.1, sampled=True)))
    assert found["model"] != pytest.approx(found["sampled"], rel=0.01)


@pytest.mark.parametrize("sampled", [False, True])
def test_at_the_end_a_prediction_at_its_bound_is_left_there(sampled):
    q = torch.full((1, 4), -math.exp(-18.0), requires_grad=True)
    (slope,) = torch.autograd.grad(losses.q_loss(q, torch.full_like(q, END), None, "log", 1.1, sampled=sampled), q)
    assert float(slope.abs().max()) * math.exp(-18.0) < 1e-5  # of the logarithm


@pytest.mark.parametrize("form", ["mse", "cross-entropy"])
def test_the_best_constant_is_the_mean_of_the_targets(form):
    targets = torch.tensor([0.0, 0.0, 1.0, 0.2])
    constant = torch.tensor(0.3, requires_grad=True)
    grad = lambda c: float(torch.autograd.grad(losses.share_loss(c.expand(4), targets, None, form), c)[0])  # noqa: E731
    assert grad(constant) == pytest.approx(0, abs=1e-6)
    assert grad(torch.tensor(0.4, requires_grad=True)) > 0 > grad(torch.tensor(0.2, requires_grad=True))


def test_a_table_moves_by_its_rate_to_the_mean_of_what_is_asked():
    tables = Lookup(SIZES)
    features = torch.tensor([[1.0] * 6, [2.0] * 6, [1.0] * 6])
    code = tables.encode(features, iter(()))
    assert code[0] == code[2] != code[1] and 0 not in code.tolist()
    target = torch.tensor([[0.1, 0.3], [0.9, 0.9], [0.3, 0.5]])
    tables.learn("x_h", code, target, None, rate=1.0)
    assert_close(tables.x_h(code), torch.tensor([[0.2, 0.4], [0.9, 0.9], [0.2, 0.4]]))
    tables.learn("x_h", code[1:2], torch.tensor([[0.5, 0.1]]), None, rate=0.25)
    assert_close(tables.x_h(code[1:2]), torch.tensor([[0.8, 0.7]]))


def test_a_weight_of_nothing_moves_nothing():
    tables = Lookup(SIZES)
    code = tables.encode(torch.ones(1, 6), iter(()))
    tables.learn("q_r", code, torch.tensor([[-1.0, -2.0, -3.0, -4.0]]), torch.tensor([[1.0, 0.0, 1.0, 0.5]]), rate=1.0)
    assert_close(tables.q_r(code), torch.tensor([[-1.0, START["q_r"], -3.0, -7.0]]))


def test_an_unknown_state_has_the_starting_value_and_is_not_taken_in_by_looking():
    tables = Lookup(SIZES)
    code = tables.encode(torch.randn(5, 6))
    assert code.tolist() == [0] * 5 and not tables.index.rows
    assert float(tables.v_h_e(code).min()) == START["v_h_e"]


def test_tables_grow_and_come_back_as_they_were():
    tables, features = Lookup(SIZES), torch.randn(300, 6)
    code = tables.encode(features, iter(()))
    assert code.tolist() == list(range(1, 301))
    tables.learn("v_r", code, -torch.arange(1.0, 301.0), None, rate=1.0)
    other = Lookup(SIZES)
    other.load_state(tables.state())
    assert_close(other.v_r(other.encode(features)), -torch.arange(1.0, 301.0))
    assert other.encode(features).tolist() == code.tolist()


def test_a_copy_stays_as_it_is_while_the_other_learns():
    tables, target = Lookup(SIZES), Lookup(SIZES)
    code = tables.encode(torch.ones(1, 6), iter(()))
    target.copy_from(tables)
    tables.learn("v_r", code, torch.tensor([-3.0]), None, rate=1.0)
    assert float(target.v_r(target.encode(torch.ones(1, 6)))) == START["v_r"]
    target.copy_from(tables)
    assert float(target.v_r(target.encode(torch.ones(1, 6)))) == -3.0


def test_dropout_drops_its_share_of_the_units_and_each_by_its_own_bits():
    nets = _nets(hidden=(400, 300), dropout=0.3)
    x, names = torch.ones(50, 6), ("q_r", "v_h_e")
    assert [bits.shape[1] for bits in nets.noise(50, names, torch.Generator())] == [400, 300, 300]
    noise = _noise(nets, 0, *names, n=50)
    code, plain = nets.encode(x, noise), nets.encode(x)
    on = plain[0] > 0  # all rows are alike: what differs is dropped
    dropped = (code == 0)[:, on].float()
    assert abs(float(dropped.mean()) - 0.3) < 0.02
    assert_close(code[code > 0], (plain / 0.7)[code > 0])
    assert abs(float((dropped[:, :-1] * dropped[:, 1:]).mean()) - 0.09) < 0.02  # neighbours have nothing in common
