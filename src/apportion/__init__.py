"""Per-step rewards where the environment gives none.

    from apportion import OnlineConfig, RewardConfig, SACConfig, train_online
    train_online(OnlineConfig("HalfCheetah-v5", reward=RewardConfig("rrd"), agent=SACConfig()), Path("runs/first"))

Names are imported when they are first used: `import apportion` alone is instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apportion.config import DDPGConfig, DQNConfig, OnlineConfig, RewardConfig, SACConfig, TD3Config
    from apportion.presets import PRESETS, defaults
    from apportion.report.html import write_report
    from apportion.rewards.losses import rrd_loss
    from apportion.rewards.model import LearnedReward, RewardModel
    from apportion.train.evaluate import evaluate_run, film_run
    from apportion.train.online import resume, train_online
    from apportion.types import Batch, Episode, RewardSource, Spec, Subsets, UserError

_HOME = {
    "apportion.config": ("DDPGConfig", "DQNConfig", "OnlineConfig", "RewardConfig", "SACConfig", "TD3Config"),
    "apportion.presets": ("PRESETS", "defaults"),
    "apportion.report.html": ("write_report",),
    "apportion.rewards.losses": ("rrd_loss",),
    "apportion.rewards.model": ("LearnedReward", "RewardModel"),
    "apportion.train.evaluate": ("evaluate_run", "film_run"),
    "apportion.train.online": ("resume", "train_online"),
    "apportion.types": ("Batch", "Episode", "RewardSource", "Spec", "Subsets", "UserError"),
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "PRESETS",
    "Batch",
    "DDPGConfig",
    "DQNConfig",
    "Episode",
    "LearnedReward",
    "OnlineConfig",
    "RewardConfig",
    "RewardModel",
    "RewardSource",
    "SACConfig",
    "Spec",
    "Subsets",
    "TD3Config",
    "UserError",
    "defaults",
    "evaluate_run",
    "film_run",
    "resume",
    "rrd_loss",
    "train_online",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'apportion' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)
