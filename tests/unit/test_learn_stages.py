"""What is trained when."""

import itertools
import math

import pytest

from apportion.power.learn.config import Phase2Config
from apportion.power.learn.stages import beta_r_at, clears, epsilon_at, lr_factor_at, stage_at, stages
from apportion.power.params import PowerParams
from apportion.types import UserError


def test_the_defaults_are_those_of_the_specification():
    config = Phase2Config()
    assert [(stage.first, stage.steps) for stage in stages(config)] == [
        (0, 1000), (1000, 1000), (2000, 0), (2000, 1000), (3000, 2000), (5000, 495_000),
    ]  # fmt: skip
    assert (config.batch_size, config.buffer_size, config.target_update_freq) == (64, 100_000, 100)
    assert (config.lr_v_h_e, config.lr_q_r, config.goal_resample_prob, config.dropout) == (1e-3, 1e-4, 0.01, 0.5)
    assert (config.epsilon_start, config.epsilon_end, config.steps_per_episode) == (1.0, 0.01, 50)


@pytest.mark.parametrize("flags", list(itertools.product([False, True], repeat=3)))
def test_stages_follow_each_other_and_train_what_the_flags_ask_for(flags):
    x, u, v = flags
    config = Phase2Config(x_h_use_network=x, u_r_use_network=u, v_r_use_network=v)
    plan = stages(config)
    assert [s.number for s in plan] == [0, 1, 2, 3, 4, 5]
    assert all(a.end == b.first for a, b in itertools.pairwise(plan)) and plan[-1].end == config.steps
    assert plan[0].trained == {"v_h_e"}
    for earlier, later in itertools.pairwise(plan):
        assert earlier.trained <= later.trained
    assert plan[5].trained == {"v_h_e", "q_r"} | {n for n, on in (("x_h", x), ("u_r", u), ("v_r", v)) if on}
    assert (plan[2].steps > 0) is u and (plan[1].steps > 0) is x
    assert not {"q_r", "v_r"} & plan[2].trained


def test_each_step_belongs_to_its_stage_and_the_end_to_the_last():
    config = Phase2Config()
    assert [stage_at(config, step).number for step in (0, 999, 1000, 2000, 3000, 4999, 5000, 10**9)] == [
        0, 0, 1, 3, 4, 4, 5, 5,
    ]  # fmt: skip


def test_beta_r_is_zero_through_the_warm_up_then_grows_to_its_value_and_stays():
    config = Phase2Config(params=PowerParams(beta_r=5.0))
    assert all(beta_r_at(config, step) == 0.0 for step in range(3001))
    ramp = [beta_r_at(config, step) for step in range(3000, 5001)]
    assert all(a < b for a, b in itertools.pairwise(ramp))
    assert beta_r_at(config, 4000) == pytest.approx(2.5)  # the sigmoid's middle
    assert beta_r_at(config, 5000) == beta_r_at(config, 10**6) == 5.0
    quarter = (1 / (1 + math.exp(1.5)) - 1 / (1 + math.exp(3))) / (1 / (1 + math.exp(-3)) - 1 / (1 + math.exp(3)))
    assert beta_r_at(config, 3500) == pytest.approx(5.0 * quarter)


def test_the_learning_rate_is_constant_then_falls_with_the_root_of_time_without_a_jump():
    config = Phase2Config()
    assert {lr_factor_at(config, step) for step in range(0, 5001, 10)} == {1.0}
    assert lr_factor_at(config, 5001) == pytest.approx(1.0, abs=2e-4)
    assert lr_factor_at(config, 20_000) == pytest.approx(0.5)


def test_the_learning_rate_falls_to_nothing_over_the_last_share_of_the_run_if_asked_to():
    plain, config = Phase2Config(), Phase2Config(lr_anneal=0.5)
    assert config.steps == 500_000
    assert all(lr_factor_at(config, step) == lr_factor_at(plain, step) for step in (0, 5001, 100_000, 250_000))
    assert lr_factor_at(config, 375_000) == pytest.approx(0.5 * lr_factor_at(plain, 375_000))
    assert lr_factor_at(config, 500_000) == lr_factor_at(config, 600_000) == 0.0


def test_epsilon_falls_linearly_to_its_floor():
    config = Phase2Config()
    assert epsilon_at(config, 0) == 1.0
    assert epsilon_at(config, 5000) == pytest.approx(0.505)
    assert epsilon_at(config, 10_000) == epsilon_at(config, 10**7) == 0.01


def test_the_replay_is_cleared_at_both_ends_of_the_ramp_and_nowhere_else():
    config = Phase2Config()
    assert [step for step in range(2950, 5050) if clears(config, step - 1, step)] == [3000, 5000]
    assert clears(config, 2990, 3010)  # several environments step past it at once
    assert not any(clears(Phase2Config(on_ramp="age"), step - 1, step) for step in (3000, 5000))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"epsilon_decay_steps": 2500}, "--epsilon-decay-steps 2500 ends within the warm-up of 3000"),
        ({"epsilon_end": 0.5, "epsilon_start": 0.1}, "lower it"),
        ({"warmup_u_r_steps": 10}, "add --u-r-use-network"),
        ({"x_h_use_network": False, "x_h_batch_size": 8}, "--x-h-batch-size"),
        ({"estimators": "lookup", "compile": True}, "--compile is for networks"),
        ({"estimators": "lookup", "average_copies": 3}, "--average-copies is of networks"),
        ({"u_r_sample_humans": 1}, "--u-r-sample-humans"),
        ({"targets": "sampled", "imagine": 0.5}, "--imagine needs the model"),
        ({"targets": "sampled", "q_r_output": "z"}, "--q-r-output log or softplus"),
        ({"num_episodes": 10}, "give more --num-episodes"),
        ({"lockstep": True}, "add it"),
        ({"use_async": True, "num_actors": 2, "num_envs": 64}, "--max-lead 1000 is less than"),
        ({"actors": "auto"}, "--actors is a setting of --async"),
        ({"batch_size": 0}, "--batch-size 0: it must be at least 1"),
        ({"dropout": 1.0}, "--dropout 1.0"),
        ({"lr_q_r": 0.0}, "--lr-q-r 0.0: it must be greater than 0"),
        ({"imagine": 1.5}, "--imagine 1.5: it must lie in [0, 1]"),
        ({"lr_lookup": float("nan")}, "--lr-lookup nan"),
    ],
)
def test_a_bad_combination_is_refused_with_what_to_change(settings, says):
    with pytest.raises(UserError) as refusal:
        Phase2Config(**settings)
    assert says in str(refusal.value)
