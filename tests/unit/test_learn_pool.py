"""What was worked out once serves as long as it is true, and every time of a sweep is visited."""

from dataclasses import replace

import numpy as np
import pytest

from apportion.power.learn.config import Phase2Config
from power_runs_for_tests import a_learner

pytestmark = pytest.mark.unchecked

SMALL = Phase2Config(
    world="trivial",
    num_envs=8,
    hidden=(16, 16),
    goal_features=4,
    batch_size=32,
    target_update_freq=20,
    num_episodes=10**6,
    human_prior="shortest-path",
)
FULL = 10**6  # a step of full training


def counted(learner):
    """Of each call of what works targets out: states and times."""
    calls, work = [], learner._worked_out

    def counting(ids, t, *rest):
        calls.append(list(zip(ids.tolist(), t.tolist(), strict=True)))
        return work(ids, t, *rest)

    learner._worked_out = counting
    return calls


def test_targets_are_worked_out_once_until_the_target_networks_change():
    learner = a_learner(SMALL)
    learner.scaled = True  # else the first update moves the target networks too
    calls = counted(learner)
    for copies in (1, 2):
        for _ in range(20):
            learner.update(FULL)
        pairs = [pair for call in calls for pair in call]
        assert len(pairs) == copies * len(set(pairs))  # each once a copy, though many were drawn often
        assert set(pairs) == {tuple(divmod(key, 7)) for key in learner.replay.keys(7).tolist()}
    assert 2 * len(set(pairs)) < 20 * 32


@pytest.mark.parametrize(
    ("changes", "horizon"),
    [
        ({}, 6),
        ({}, None),
        ({"target_batches": 2, "target_epochs": 3}, 6),
        ({"imagine": 0.5, "x_h_use_network": False}, 6),
        ({"imagine": 0.5}, None),
    ],
)
def test_what_is_kept_changes_no_number(changes, horizon):
    config = replace(SMALL, **changes)
    keeping, forgetting = a_learner(config, horizon=horizon), a_learner(config, horizon=horizon)
    keep = forgetting.memo.keep
    forgetting.memo.keep = lambda reason: (keep(()), keep(reason))[1]
    for i in range(45):
        a, b = keeping.update(FULL), forgetting.update(FULL)
        for name, value in a.items():
            np.testing.assert_allclose(value.item(), b[name].item(), rtol=2e-4, atol=1e-5, err_msg=f"{name} at {i}")


def test_while_beta_r_grows_nothing_old_is_used():
    learner = a_learner(SMALL)
    calls = counted(learner)
    for step in (3200, 3210, 3220):
        learner.update(step)
    assert len(calls) == 3 and all(len(call) == len(set(call)) <= 32 for call in calls)


def test_a_sweep_visits_every_time_also_where_a_pool_serves_several_steps():
    learner = a_learner(replace(SMALL, replay="backward", target_batches=2, target_epochs=3, target_update_freq=1))
    calls = counted(learner)
    for _ in range(6 * 6 * 2):
        learner.update(FULL)
    times = [{t for _, t in call} for call in calls]
    assert times == [{5}, {4}, {3}, {2}, {1}, {0}] * 2
