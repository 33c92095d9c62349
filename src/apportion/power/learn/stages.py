"""What is trained when: stages and schedules as functions of the environment steps so far.

The five values depend on each other in a circle (V_h^e, X_h, U_r, Q_r, V_r, and pi_r back to V_h^e); so they are
warmed up one after the other while the robot acts uniformly (beta_r = 0), and then beta_r grows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from apportion.power.learn.config import Phase2Config


@dataclass(frozen=True)
class Stage:
    """Steps [first, first + steps) of a run; `steps` 0: it does not happen."""

    number: int
    name: str
    first: int
    steps: int
    trained: frozenset[str]  # of v_h_e, x_h, u_r, q_r, v_r

    @property
    def end(self) -> int:
        return self.first + self.steps


def stages(config: Phase2Config) -> tuple[Stage, ...]:
    """All six, in order, those without steps too."""
    x_h = {"x_h"} if config.x_h_use_network else set()
    u_r = {"u_r"} if config.u_r_use_network else set()
    v_r = {"v_r"} if config.v_r_use_network else set()
    everything = {"v_h_e", "q_r"} | x_h | u_r | v_r
    plan = (
        ("V_h^e", config.warmup_v_h_e_steps, {"v_h_e"}),
        ("+ X_h", config.warmup_x_h_steps if x_h else 0, {"v_h_e"} | x_h),
        ("+ U_r", config.u_r_steps, {"v_h_e"} | x_h | u_r),
        ("+ Q_r", config.warmup_q_r_steps, everything),
        ("beta_r grows", config.beta_r_rampup_steps, everything),
    )
    out, first = [], 0
    for number, (name, steps, trained) in enumerate(plan):
        out.append(Stage(number, name, first, steps, frozenset(trained)))
        first += steps
    return (*out, Stage(5, "full", first, max(0, config.steps - first), frozenset(everything)))


def stage_at(config: Phase2Config, step: int) -> Stage:
    """The stage in which environment step `step` (from 0) falls; after the last one, the last."""
    plan = stages(config)
    return next((stage for stage in plan if stage.first <= step < stage.end), plan[-1])


def beta_r_at(config: Phase2Config, step: int) -> float:
    """0 until the warm-up ends, then a sigmoid up to params.beta_r, exactly reached at the ramp's end."""
    ramp = stages(config)[4]
    if step < ramp.first:
        return 0.0
    if step >= ramp.end:
        return config.params.beta_r
    low, high = _sigmoid(-3.0), _sigmoid(3.0)
    return config.params.beta_r * (_sigmoid(6 * ((step - ramp.first) / ramp.steps - 0.5)) - low) / (high - low)


def lr_factor_at(config: Phase2Config, step: int) -> float:
    """1 until full training, then sqrt(t0 / t), t0 its first step; over the last `lr_anneal` of the run on to 0."""
    first, last = stages(config)[5].first, config.lr_anneal * config.steps
    left = min(1.0, max(0, config.steps - step) / last) if last else 1.0
    return left if step <= first else left * math.sqrt(max(first, 1) / step)


def epsilon_at(config: Phase2Config, step: int) -> float:
    """Linear from epsilon_start to epsilon_end over epsilon_decay_steps, then constant."""
    if step >= config.epsilon_decay_steps:
        return config.epsilon_end
    share = step / config.epsilon_decay_steps
    return config.epsilon_start + share * (config.epsilon_end - config.epsilon_start)


def clears(config: Phase2Config, before: int, now: int) -> bool:
    """Whether the replay is to be cleared on the way from `before` to `now` steps: at both ends of the ramp."""
    ramp = stages(config)[4]
    return config.on_ramp == "clear" and any(before < edge <= now for edge in {ramp.first, ramp.end} - {0})


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))
