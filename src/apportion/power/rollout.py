"""What happens when people with goals and a robot with a policy act: one course of a solved world, drawn by a seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from apportion.power.compiled import Compiled
from apportion.power.solution import Solution
from apportion.types import UserError

GOAL_RESAMPLE = 0.01  # how often a human changes its mind, per step: the specification's default
ENDLESS = 30  # steps of a course in a world without a horizon


@dataclass(frozen=True)
class Rollout:
    """T steps. At time t < T, human h wants goal `goals[t, h]`, all do `joint[t]`, and `states[t + 1]` follows."""

    seed: int
    greedy: bool  # the robots took their most probable action each time
    goals: Int[np.ndarray, "T H"]
    joint: Int[np.ndarray, "T N"]
    human_pi: Float[np.ndarray, "T H A"]  # pi_h of each human for the goal it had
    states: Int[np.ndarray, "T+1"]  # numbers of compiled states

    @property
    def steps(self) -> int:
        return len(self.joint)


def roll_out(solution: Solution, seed: int, steps: int | None = None, *, greedy: bool = False) -> Rollout:
    """One course from the initial state, of at most `steps` (default: to the horizon; without one 30), or until the
    rules end it.

    Humans follow pi_h for a goal, drawn by the goals' weights from those that do not hold; a goal that is reached is
    replaced by another at once. The robots' joint action is drawn from the solution's policy; `greedy`: its first
    maximiser. The same seed gives the same course.
    """
    if steps is not None and steps < 1:
        raise UserError(f"{steps} steps: at least 1 is needed")
    compiled, rng = solution.compiled, np.random.default_rng(seed)
    if compiled.terminal[0]:
        raise UserError(f"{compiled.name} ends before the first step: nothing happens in it")
    most = compiled.horizon or ENDLESS
    steps = most if steps is None else steps if compiled.horizon is None else min(steps, most)
    states, goals, joints, policies = [0], list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    wanted = np.full(len(compiled.humans), -1)
    for t in range(steps):
        s = states[-1]
        if compiled.terminal[s]:
            break
        wanted = _goals(compiled, wanted, compiled.attained[s], rng)
        of_goals = solution.human_policy(t, np.array([s]))[0]
        pi = of_goals[np.arange(len(wanted)), wanted]
        joint = _joint(compiled, pi, solution.at(t).pi[s], rng, greedy)
        row = s * compiled.joint_actions + int(np.ravel_multi_index(tuple(joint), compiled.n_actions))
        entries = slice(int(compiled.indptr[row]), int(compiled.indptr[row + 1]))
        states.append(int(rng.choice(compiled.indices[entries], p=_sure(compiled.probs[entries]))))
        goals.append(wanted)
        joints.append(joint)
        policies.append(pi)
    return Rollout(seed, greedy, np.stack(goals), np.stack(joints), np.stack(policies), np.array(states))


def _goals(
    compiled: Compiled, wanted: Int[np.ndarray, "H"], attained: Bool[np.ndarray, "H G"], rng: np.random.Generator
) -> Int[np.ndarray, "H"]:
    out = wanted.copy()
    for h, goal in enumerate(wanted):
        change = rng.random() < GOAL_RESAMPLE
        if goal >= 0 and not attained[h, goal] and not change:
            continue
        open_ones = np.where(attained[h], 0.0, compiled.goal_weights)
        weights = open_ones if open_ones.sum() > 0 else compiled.goal_weights
        out[h] = rng.choice(len(weights), p=_sure(weights))
    return out


def _joint(
    compiled: Compiled,
    human_pi: Float[np.ndarray, "H A"],
    robot_pi: Float[np.ndarray, "R"],
    rng: np.random.Generator,
    greedy: bool,
) -> Int[np.ndarray, "N"]:
    joint = np.zeros(len(compiled.n_actions), np.int64)
    for h, agent in enumerate(compiled.humans):
        joint[agent] = rng.choice(human_pi.shape[1], p=_sure(human_pi[h]))
    chosen = int(np.argmax(robot_pi)) if greedy else int(rng.choice(len(robot_pi), p=_sure(robot_pi)))
    sizes = tuple(compiled.n_actions[r] for r in compiled.robots)
    if sizes:
        joint[list(compiled.robots)] = np.unravel_index(chosen, sizes)
    return joint


def _sure(weights: np.ndarray) -> np.ndarray:
    """Scaled to sum 1 as exactly as `Generator.choice` wants it."""
    return np.asarray(weights, np.float64) / np.sum(weights, dtype=np.float64)


def robot_action_names(actions: tuple[tuple[str, ...], ...], robots: tuple[int, ...]) -> list[str]:
    """The robots' joint actions in words, the last robot's changing fastest: "forward", or "left + still" of two."""
    if not robots:
        return ["no robot"]
    sizes = tuple(len(actions[r]) for r in robots)
    return [" + ".join(actions[r][a] for r, a in zip(robots, joint, strict=True)) for joint in np.ndindex(*sizes)]
