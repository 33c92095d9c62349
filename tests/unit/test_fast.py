"""The fast modes against the update as written."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from apportion.config import RewardConfig, to_json
from apportion.fast.compile import accelerate
from apportion.nets.mlp import MLP
from apportion.nets.optim import Adam
from apportion.rewards.losses import rrd_loss
from fast_for_tests import trained

SCRIPT = Path(__file__).parents[1] / "fast_for_tests.py"
SMALL = {"rrd_batch_size": 64, "rrd_sample_size": 16, "r_hidden": (32, 32)}


def assert_equal_to_rounding(agent: str, reward: dict) -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, agent, json.dumps(to_json(RewardConfig(**reward)))], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_compiled_update_is_the_plain_one_to_rounding():
    assert_equal_to_rounding("ddpg", SMALL)  # the smallest graph


@pytest.mark.long
@pytest.mark.parametrize("agent", ["sac", "td3", "ddpg", "dqn"])
@pytest.mark.parametrize("reward", [{"return_correction": True, **SMALL}, {"alg": "ircr"}, {"alg": "rd", **SMALL}])
def test_every_agent_and_method_compiles_to_the_same_numbers(agent, reward):
    assert_equal_to_rounding(agent, reward)


@pytest.mark.long
@pytest.mark.parametrize(
    ("agent", "reward"),
    [
        ("sac", {"rrd_bias_correction": True, "rrd_ensemble": 2, "target": "sum", **SMALL}),
        ("frames", {"rrd_ensemble": 2, "rrd_batch_size": 64, "rrd_sample_size": 16}),
        ("frames", {"alg": "ircr"}),
        ("rmsprop", SMALL),
    ],
)
def test_ensembles_frames_and_rmsprop_compile_to_the_same_numbers(agent, reward):
    assert_equal_to_rounding(agent, reward)


def test_bfloat16_stays_near_float32_and_keeps_parameters_in_float32():
    plain, said = trained("sac", RewardConfig(**SMALL), compiled=False, updates=20)
    half, also_said = trained("sac", RewardConfig(**SMALL), compiled=False, bf16=True, updates=20)
    assert all(p.dtype == torch.float32 for p in half)
    assert also_said["agent/q_loss"] == pytest.approx(said["agent/q_loss"], rel=0.1)
    assert also_said["reward/R_loss"] == pytest.approx(said["reward/R_loss"], rel=0.1)
    assert any(not torch.equal(a, b) for a, b in zip(plain, half, strict=True))


def test_bfloat16_losses_are_computed_in_float32():
    """999 is no bfloat16 number: a perfect reward model must still be told that its error is 0."""
    loss, metrics = rrd_loss(torch.ones(1, 4, dtype=torch.bfloat16), torch.tensor([999.0]), torch.tensor([999]))
    assert (loss.item(), metrics["R_rmse"].item()) == (0.0, 0.0)


def test_bfloat16_relabels_with_the_reward_network_after_its_step():
    net = MLP((2, 4, 1), torch.Generator().manual_seed(0))
    x, optimizer = torch.ones(3, 2), Adam(list(net.parameters()), lr=0.5)

    def step_then_speak() -> torch.Tensor:
        optimizer.minimize(net(x).square().mean())
        return net(x).detach()

    said = accelerate(step_then_speak, compiled=False, bf16=True, device=torch.device("cpu"))()
    again = accelerate(lambda: net(x).detach(), compiled=False, bf16=True, device=torch.device("cpu"))()
    assert said.dtype == torch.float32 and torch.equal(said, again)
