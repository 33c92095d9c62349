"""What the estimators learn towards is what the exact solver computes."""

import numpy as np
import pytest
import torch

from apportion.power.grid.world import load_world
from apportion.power.learn.act import nodes_of
from apportion.power.learn.check import ExactCheck, Learned
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.goals import chances
from apportion.power.learn.learner import Learner
from apportion.power.learn.lookup import Lookup
from apportion.power.learn.networks import to_z
from apportion.power.learn.priors import make_prior
from apportion.power.learn.replay import Steps
from apportion.power.learn.states import joint_actions
from apportion.power.learn.targets import Nodes, Taken, from_samples, values
from apportion.power.params import PowerParams
from apportion.power.reach import states_at

QUICK = {"warmup_v_h_e_steps": 1, "warmup_x_h_steps": 0, "warmup_q_r_steps": 1, "beta_r_rampup_steps": 1}


def _learner(world, **settings):
    config = Phase2Config(
        **{"estimators": "lookup", "x_h_use_network": False, "num_episodes": 10**6, **QUICK, **settings}
    )
    prior = make_prior("exact", world, config.params, steps=0, seed=0, say=print)
    return Learner(world, prior, config)


def _fill(learner, check):
    """Every entry of the tables is set to the exact value."""
    solution, nets = check.solution, learner.nets
    assert isinstance(nets, Lookup)
    for t, ids in enumerate(states_at(solution.compiled)):
        if t == learner.world.horizon:
            continue
        exact = solution.at(t)
        nodes = nodes_of(learner.world, solution.compiled.states[ids], np.full(len(ids), t))
        code = nets.encode(nodes.features, iter(()))
        for name, value in (("v_h_e", exact.v_e), ("x_h", exact.x), ("q_r", exact.q), ("v_r", exact.v)):
            nets.tables[name][code] = torch.tensor(value[ids], dtype=torch.float32).reshape(len(ids), -1)
        nets.tables["u_r"][code, 0] = torch.tensor(-exact.u[ids]).float() ** (1 / check.params.eta)
    learner.target.copy_from(nets)
    learner.scaled = True


def _everywhere(learner, check):
    """All reachable states become material."""
    world, table = learner.world, learner.table
    for t, ids in enumerate(states_at(check.solution.compiled)):
        if t < world.horizon:
            states = check.solution.compiled.states[ids]
            n = len(states)
            steps = Steps(
                state=states,
                t=np.full(n, t),
                goals=np.zeros((n, len(world.humans)), np.int64),
                joint=np.zeros((n, len(world.agents)), np.int64),
                human_prob=np.full((n, len(world.humans)), 0.25, np.float32),
                robot_prob=np.full(n, 0.25, np.float32),
                next_state=states,
            )
            learner.replay.add(steps, table)


def _errors(learner, check):
    def said(states, t):
        v = learner.estimates(learner.world, states, t, check.params.beta_r)
        return Learned(*(x.numpy() for x in (v.v_e, v.x, v.q, v.pi)))

    return check.errors(said)


@pytest.mark.parametrize(
    ("name", "horizon", "params", "settings"),
    [
        ("trivial", 6, PowerParams(), {}),
        ("freeing", 3, PowerParams(xi=2.0, eta=1.3, zeta=1.5, beta_r=5.0), {"x_h_use_network": True}),
        ("freeing", 3, PowerParams(aggregate="sum", nu_h=0.2), {"u_r_use_network": True, "v_r_use_network": True}),
        ("rock-gateway", 4, PowerParams(duration_weight=True, gamma_r=0.9, gamma_h=0.8), {}),
        ("trolley", 2, PowerParams(robot_belief="mean"), {"u_r_use_network": True}),
    ],
)
def test_the_exact_values_are_a_fixed_point_of_training(name, horizon, params, settings):
    world = load_world(name).with_horizon(horizon)
    check = ExactCheck(world, params)
    learner = _learner(world, params=params, batch_size=512, **settings)
    _fill(learner, check)
    _everywhere(learner, check)
    for _ in range(4):
        learner.update(step=5000)
    found = _errors(learner, check)
    for key in ("v_h_e/max", "x_h/max", "log_q_r/max", "pi_r/tv_max"):
        assert found[key] < 2e-5, (key, found[key])
    assert found["v_r/start"] == pytest.approx(check.v_solved, rel=1e-5)


def test_from_nothing_tables_come_to_the_exact_values():
    world = load_world("corridor").with_horizon(5)
    check, learner = (
        ExactCheck(world, PowerParams()),
        _learner(world, batch_size=256, replay="backward", target_update_freq=1),
    )
    _everywhere(learner, check)
    before = _errors(learner, check)
    for _ in range(60):
        learner.update(step=5000)
    found = _errors(learner, check)
    assert before["v_h_e/mean"] > 0.1
    assert found["v_h_e/max"] < 1e-5 and found["log_q_r/max"] < 1e-5 and found["pi_r/tv_max"] < 1e-5


@pytest.mark.parametrize("name", ["trivial", "freeing"])
def test_weighted_samples_have_the_exact_expectation_whatever_was_explored(name):
    """All that can happen in one state, each with its probability under exploring humans and robots."""
    world = load_world(name).with_horizon(4)
    params = PowerParams()
    check, learner = ExactCheck(world, params), _learner(world, params=params)
    _fill(learner, check)
    t, state = 1, check.solution.compiled.states[2]
    prior_array = learner.prior(state[None], np.array([t]))
    rng = np.random.default_rng(0)
    explored = rng.dirichlet(np.ones(4))  # the robot's behaviour
    weights = np.asarray(world.goal_weights)
    rows = []
    before = np.full((1, len(world.humans)), 2)  # what each human wanted, and may not want any more
    wanted = chances(before, world.attained(state[None]), weights, 0.3)[0]
    human_prob = np.einsum("hg,hga->ha", wanted, prior_array[0])
    for goals in np.ndindex(*wanted.shape[1:] * len(wanted)):
        for joint in joint_actions(world):
            p = np.prod([wanted[h, g] for h, g in enumerate(goals)]) * explored[joint[world.robots[0]]]
            for h, agent in enumerate(world.humans):
                p *= prior_array[0, h, goals[h], joint[agent]]
            if p > 0:
                followers, probs = world.transitions(state, joint)
                rows += [(p * q, joint, s) for q, s in zip(probs, followers, strict=True)]
    chance = torch.tensor([r[0] for r in rows], dtype=torch.float64)
    assert float(chance.sum()) == pytest.approx(1)
    n = len(rows)
    following = nodes_of(world, np.stack([r[2] for r in rows]), np.full(n, t + 1))
    ahead = values(learner.nets, following, learner.how, learner.weights, params.beta_r)
    here = nodes_of(world, np.repeat(state[None], n, 0), np.full(n, t))
    pi = values(learner.nets, here, learner.how, learner.weights, params.beta_r).pi
    taken = Taken(
        torch.tensor(np.array([[r[1][a] for a in world.humans] for r in rows])),
        torch.tensor([[human_prob[h, r[1][a]] for h, a in enumerate(world.humans)] for r in rows], dtype=torch.float32),
        torch.tensor(np.array([r[1][world.robots[0]] for r in rows])),
        torch.tensor(explored[[r[1][world.robots[0]] for r in rows]], dtype=torch.float32),
    )
    prior = [torch.from_numpy(np.repeat(prior_array[:, h], n, 0)) for h in range(len(world.humans))]
    found = from_samples(following, ahead, pi, prior, learner.weights, taken, params, clip=1e9)
    exact = check.solution.at(t)
    for target, weight, wanted in (
        (found.v_e, found.v_e_weight, exact.v_e[2]),
        (found.q, found.q_weight, exact.q[2]),
    ):
        each = chance.reshape(-1, *(1,) * (target.dim() - 1))
        mean = (each * weight * target).sum(0) / (each * weight).sum(0)
        np.testing.assert_allclose(mean.numpy(), wanted, rtol=2e-5)


def test_the_last_step_and_the_end_are_known_and_not_learned():
    world = load_world("trivial").with_horizon(3)
    learner = _learner(world)
    state = world.initial()[None]
    last = values(learner.nets, nodes_of(world, state, np.array([2])), learner.how, learner.weights, 10.0)
    assert last.pi[0].tolist() == [0.25] * 4 and float(last.q.max()) == pytest.approx(-1e-10)
    over = values(learner.nets, nodes_of(world, state, np.array([3])), learner.how, learner.weights, 10.0)
    assert float(over.v_e.max()) == 0 and float(over.v) == pytest.approx(-1e-10)
    before = values(learner.nets, nodes_of(world, state, np.array([1])), learner.how, learner.weights, 10.0)
    assert float(before.q.max()) < -1


def test_a_policy_by_z_is_the_policy_by_q():
    q = -torch.rand(50, 4, dtype=torch.float64) * 300 - 1
    eta_xi, beta = 1.1 * 2.0, 7.0
    by_q = torch.softmax(-beta * torch.log(-q), 1)
    by_z = to_z(q, eta_xi) ** (eta_xi * beta)
    torch.testing.assert_close(by_z / by_z.sum(1, keepdim=True), by_q)


def test_what_is_imagined_needs_no_visit():
    """From the first state alone, the learner finds every state that can be reached."""
    world = load_world("trivial").with_horizon(6)
    check = ExactCheck(world, PowerParams())
    learner = _learner(world, batch_size=256, imagine=0.9, target_update_freq=1)
    first = world.initial()[None]
    learner.replay.add(
        Steps(
            first,
            *(np.zeros(s, np.int64) for s in (1, (1, 1), (1, 2))),
            np.ones((1, 1), np.float32),
            np.ones(1, np.float32),
            first,
        ),
        learner.table,
    )
    for _ in range(400):
        learner.update(step=5000)
    found = _errors(learner, check)
    assert len(learner.table) == len(check.solution.compiled.states)
    assert found["v_h_e/max"] < 1e-5 and found["pi_r/tv_max"] < 1e-5


def test_nodes_say_when_nobody_acts_any_more():
    world = load_world("trivial").with_horizon(3)
    nodes = nodes_of(world, np.repeat(world.initial()[None], 4, 0), np.arange(4))
    assert isinstance(nodes, Nodes)
    assert nodes.last.tolist() == [False, False, True, False] and nodes.over.tolist() == [False, False, False, True]
