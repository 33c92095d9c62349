"""Named settings of `apportion power train`. The specification's own are `default`; the others say what they change."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from apportion.fast.toolchain import has_cxx
from apportion.power.learn.config import Phase2Config


class Preset(NamedTuple):
    about: str
    changes: dict[str, Any]

    def config(self) -> Phase2Config:
        return Phase2Config(**self.changes)


def compile_if_it_pays(config: Phase2Config) -> Phase2Config:
    """`config` with its training steps compiled where that saves several times its minute."""
    many = config.steps * config.updates_per_step >= 100_000
    pays = many and config.estimators == "networks" and config.device == "cpu" and has_cxx()
    return replace(config, compile=pays)


_QUICK: dict[str, Any] = {
    "num_episodes": 4_000,
    "steps_per_episode": 50,
    "warmup_v_h_e_steps": 2_000,
    "warmup_x_h_steps": 0,
    "warmup_q_r_steps": 2_000,
    "beta_r_rampup_steps": 8_000,
    "epsilon_decay_steps": 150_000,
    "epsilon_end": 0.1,
    "x_h_use_network": False,
    "num_envs": 16,
    "batch_size": 256,
    "imagine": 0.5,
    "on_ramp": "age",
}

_NETWORKS: dict[str, Any] = {
    **_QUICK,
    "num_episodes": 2_000,
    "epsilon_decay_steps": 80_000,
    "shared_encoder": False,
    "target_batches": 8,
    "target_epochs": 4,
    "dropout": 0.0,
    "weight_decay": 0.0,
    "v_h_e_loss": "cross-entropy",
    "q_r_output": "log",
    "lr_v_h_e": 3e-3,
    "lr_q_r": 3e-3,
    "lr_anneal": 0.5,
    "grad_clip": 10.0,
    "target_update_freq": 32,
    "average_copies": 32,
    "updates_per_step": 0.4,
}

PRESETS: dict[str, Preset] = {
    "default": Preset("the specification's settings", {}),
    "lookup": Preset(
        "tables, swept backward in time over all states that were looked ahead to: exact on small worlds, in seconds",
        {
            **_QUICK,
            "num_episodes": 2_000,
            "epsilon_decay_steps": 50_000,
            "estimators": "lookup",
            "target_update_freq": 1,
            "updates_per_step": 0.05,
            "replay": "backward",
            "imagine": 0.9,
        },
    ),
    "quick": Preset(
        "networks of their own without dropout, averaged; X_h from V_h^e itself, cross entropy for V_h^e, log(-Q_r)",
        {**_NETWORKS, "difference_weight": 10.0},
    ),
    "sampled": Preset(
        "quick for worlds that can only be sampled: many more steps, for a sample says less than a model",
        {
            **_NETWORKS,
            "targets": "sampled",
            "imagine": 0.0,
            "num_episodes": 10_000,
            "num_envs": 64,
            "max_lead": 10_000,
            "buffer_size": 500_000,
            "updates_per_step": 0.08,
            "warmup_v_h_e_steps": 50_000,
            "warmup_q_r_steps": 10_000,
            "beta_r_rampup_steps": 40_000,
            "epsilon_decay_steps": 400_000,
            "goal_resample_prob": 0.2,
            "weight_clip": 40.0,
        },
    ),
}
