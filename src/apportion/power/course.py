"""A course of events as films show it: where everything is, what people want, what all do, and people's power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from apportion.power.rollout import Rollout
from apportion.power.solution import Solution


@dataclass(frozen=True)
class Course:
    """T steps in any world. At time t < T, human h wants `goals[t, h]`, all do `joint[t]`, `states[t + 1]` follows."""

    goals: Int[np.ndarray, "T H"]
    joint: Int[np.ndarray, "T N"]
    bits: Float[np.ndarray, "T H"]  # power, log2 X_h; -inf for a human who can reach nothing
    states: Shaped[np.ndarray, "T+1 F"]

    @property
    def steps(self) -> int:
        return len(self.joint)


def course_of(solution: Solution, rollout: Rollout) -> Course:
    """A course of a solved world, with the exact power."""
    bits = np.stack([solution.at(t).bits[rollout.states[t]] for t in range(rollout.steps)])
    return Course(rollout.goals, rollout.joint, bits, solution.compiled.states[rollout.states])
