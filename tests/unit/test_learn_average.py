"""What is judged, played and saved of networks that are averaged is their average; learning goes on from the last."""

from dataclasses import replace

import numpy as np
import torch

from apportion.power.learn.act import nodes_of
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.estimators import trained_nets
from power_runs_for_tests import a_learner

CONFIG = Phase2Config(
    world="trivial",
    num_envs=8,
    hidden=(8, 8),
    goal_features=4,
    batch_size=16,
    target_update_freq=2,
    average_copies=3,
    human_prior="shortest-path",
)


def weights(nets):
    return torch.cat([p.detach().flatten() for p in nets.parameters()])


def test_the_average_is_that_of_the_last_copies_and_changes_nothing_that_is_learned():
    learner, plain = a_learner(CONFIG), a_learner(replace(CONFIG, average_copies=0))
    for update in range(1, 81):
        learner.update(10**6)
        plain.update(10**6)
        if update == 1:  # outputs were put where their targets are, nothing was copied yet
            wanted = weights(learner.target)
            assert torch.equal(weights(learner.average), wanted)
        elif update % 2 == 0:
            reach = min(3, 1 + update / 20)
            wanted = wanted + (weights(learner.target) - wanted) / reach
    torch.testing.assert_close(weights(learner.average), wanted)
    assert torch.equal(weights(learner.nets), weights(plain.nets))

    states, t = np.repeat(learner.world.initial()[None], 3, 0), np.array([0, 1, 2])
    said = learner.estimates(learner.world, states, t, 1.0)
    used = trained_nets(learner.world, CONFIG, learner.state())
    features = nodes_of(learner.world, states, t).features
    assert torch.equal(said.q, used.q_r(used.encode(features)).detach())
    assert not torch.equal(said.q, plain.estimates(learner.world, states, t, 1.0).q)


def test_the_average_goes_through_a_checkpoint():
    learner, other = a_learner(CONFIG), a_learner(replace(CONFIG, seed=5))
    for _ in range(6):
        learner.update(10**6)
    other.load_state(learner.state())
    assert torch.equal(weights(other.average), weights(learner.average))
