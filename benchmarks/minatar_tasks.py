"""Games of MinAtar (Young & Tian 2019, arXiv 1903.03176) with a time limit: 10 x 10 images, a plane for each thing."""

from __future__ import annotations

import gymnasium as gym
from minatar.gym import BaseEnv

LIMIT = 1000  # steps: the games themselves go on for as long as they are played well


def breakout() -> gym.Env:
    """Breakout with its three actions and its sticky ones."""
    return gym.wrappers.TimeLimit(BaseEnv("breakout", use_minimal_action_set=True), LIMIT)
