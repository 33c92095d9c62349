"""The fast modes against the update as written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from apportion.config import RewardConfig
from fast_for_tests import trained

SCRIPT = Path(__file__).parents[1] / "fast_for_tests.py"
SMALL = {"rrd_batch_size": 64, "rrd_sample_size": 16, "r_hidden": (32, 32)}


def assert_equal_to_rounding(agent: str, reward: dict) -> None:
    done = subprocess.run([sys.executable, SCRIPT, agent, json.dumps(reward)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_compiled_update_is_the_plain_one_to_rounding():
    assert_equal_to_rounding("sac", {"rrd_bias_correction": True, **SMALL})


@pytest.mark.long
@pytest.mark.parametrize("agent", ["sac", "td3", "ddpg", "dqn"])
@pytest.mark.parametrize("reward", [{"return_correction": True, **SMALL}, {"alg": "ircr"}, {"alg": "rd", **SMALL}])
def test_every_agent_and_method_compiles_to_the_same_numbers(agent, reward):
    assert_equal_to_rounding(agent, reward)


def test_bfloat16_stays_near_float32_and_keeps_parameters_in_float32():
    plain, said = trained("sac", RewardConfig(**SMALL), compiled=False, updates=20)
    half, also_said = trained("sac", RewardConfig(**SMALL), compiled=False, bf16=True, updates=20)
    assert all(p.dtype == torch.float32 for p in half)
    assert also_said["agent/q_loss"] == pytest.approx(said["agent/q_loss"], rel=0.1)
    assert also_said["reward/R_loss"] == pytest.approx(said["reward/R_loss"], rel=0.1)
    assert any(not torch.equal(a, b) for a, b in zip(plain, half, strict=True))
