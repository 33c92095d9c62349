"""Settings: what is refused, from Python and from a run's JSON."""

import jaxtyping
import pytest

from apportion.config import OnlineConfig, RewardConfig, SACConfig, from_json, to_json
from apportion.types import UserError


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RewardConfig("rrdx"), "--alg rrdx: choose from rrd, rd, ircr, uniform, none, model"),
        (lambda: RewardConfig(target="max"), "--target max: choose from mean, sum"),
        (lambda: SACConfig(critic_loss="l1"), "--critic-loss l1: choose from mse, huber"),
        (lambda: OnlineConfig("Reacher-v5", env_type="x"), "--env-type x: choose from ep_rews, normal"),
        (lambda: OnlineConfig("Reacher-v5", vector="threads"), "--vector threads: choose from sync, async"),
    ],
)
def test_a_setting_that_is_none_of_its_few_values_is_a_users_slip(make, says, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # the tests' own type checks come first
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value) == says


def test_json_and_back():
    config = OnlineConfig("Reacher-v5", reward=RewardConfig("rd"), seed=3)
    assert from_json(OnlineConfig, to_json(config)) == config


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "OnlineConfig: field 'env' is missing"),
        (["Reacher-v5"], "OnlineConfig: expected fields with names, not ['Reacher-v5']"),
        (None, "OnlineConfig: expected fields with names, not None"),
        ({"env": "X", "reward": "rrd"}, "OnlineConfig.reward: expected fields with names, not 'rrd'"),
        ({"env": "X", "reward": {"r_hidden": 8}}, "OnlineConfig.reward.r_hidden: expected a list, not 8"),
        ({"env": 3}, "OnlineConfig.env: expected str, not 3"),
        ({"env": "X", "sede": 3}, "OnlineConfig: unknown field 'sede'"),
    ],
)
def test_json_that_is_no_configuration_says_where(data, says):
    with pytest.raises(UserError) as caught:
        from_json(OnlineConfig, data)
    assert str(caught.value).startswith(says)
