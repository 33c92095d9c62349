"""stable-baselines3's SAC learns Reacher-v5 from returns with our replay buffer, and without it does not: minutes.

Everything is paired: one seed, the same settings, the same evaluation episodes. Standing still is the yardstick: what
is below it has learned nothing.
"""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import SAC

from apportion.config import RewardConfig
from apportion.envs.episodic import EpisodicReward
from apportion.sb3 import DecompositionReplayBuffer

STEPS = 7_500
OURS = {
    "replay_buffer_class": DecompositionReplayBuffer,
    "replay_buffer_kwargs": {"method": RewardConfig("rrd", rrd_sample_size=32, r_lr=1e-3), "seed": 0},
}


def learned(**buffer):
    model = SAC(
        "MlpPolicy",
        EpisodicReward(gym.make("Reacher-v5")),
        learning_starts=500,
        learning_rate=1e-3,
        policy_kwargs={"net_arch": [64, 64]},
        seed=0,
        device="cpu",
        **buffer,
    )
    model.learn(STEPS)
    return score(lambda obs: model.predict(obs, deterministic=True)[0])


def score(policy):
    """Mean true return of 20 episodes."""
    env, returns = gym.make("Reacher-v5"), []
    for episode in range(20):
        obs, _ = env.reset(seed=1_000 + episode)
        total, over = 0.0, False
        while not over:
            obs, reward, terminated, truncated, _ = env.step(policy(obs))
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    return float(np.mean(returns))


@pytest.mark.long
def test_their_sac_learns_from_returns_with_our_buffer_and_not_without():
    still = score(lambda obs: np.zeros(2, np.float32))
    ours, plain = learned(**OURS), learned()
    print(f"standing still {still:.1f}, with our buffer {ours:.1f}, without {plain:.1f}")
    assert ours > still + 2
    assert plain < still
    assert ours > plain + 5
