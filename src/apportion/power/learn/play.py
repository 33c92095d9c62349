"""What happens when the learned policy plays: one episode among the run's own people, and their learned power."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from apportion.power.course import Course
from apportion.power.learn.act import Actor
from apportion.power.learn.opened import Opened
from apportion.power.rollout import ENDLESS, GOAL_RESAMPLE
from apportion.power.world import World
from apportion.types import UserError

GREEDY = 1e12  # a beta_r so large that equally probable actions alone are left to chance


@dataclass(frozen=True)
class Played:
    """One course, and what was learned of its states."""

    seed: int
    greedy: bool
    course: Course
    x: Float[np.ndarray, "T H"]  # X_h as learned
    u: Float[np.ndarray, "T"]  # U_r
    v: Float[np.ndarray, "T"]  # V_r
    pi: Float[np.ndarray, "T R"]


def play(run: Opened, seed: int = 0, steps: int | None = None, *, greedy: bool = False) -> Played:
    """One episode, as in training but without exploration, of at most `steps` (default: to the horizon; without one
    30), or until the rules end it. People keep their goals as usual, whatever was learned with. `greedy`: the robots
    take an action that is most probable. The same seed gives the same course.

    Raises UserError for fewer steps than 1, and for a world that is over before it begins.
    """
    if steps is not None and steps < 1:
        raise UserError(f"--steps {steps}: at least 1 is needed")
    most = run.world.horizon or steps or ENDLESS
    steps = most if steps is None else min(steps, most)
    own = {"num_envs": 1, "seed": seed, "steps_per_episode": steps, "num_episodes": run.config.steps}
    alone = replace(run.config, goal_resample_prob=GOAL_RESAMPLE, **own)
    actor = Actor(run.world, run.prior(), alone, "play")
    beta = GREEDY if greedy else run.config.params.beta_r
    taken = actor.collect(steps, run.nets, beta, epsilon=0.0)
    again = np.flatnonzero(taken.t[1:] == 0)
    count = int(again[0]) + 1 if len(again) else steps
    if run.world.terminal(taken.state[:1])[0]:
        raise UserError(f"{run.world.name} ends before the first step: nothing happens in it")
    states, t = np.concatenate([taken.state[:1], taken.next_state[:count]]), taken.t[:count]
    found = run.values(states[:-1], t)
    x = found.x.double().numpy()
    course = Course(taken.goals[:count], taken.joint[:count], np.log2(x), states)
    others = (found.u(run.config.params.eta), found.v, found.pi)
    return Played(seed, greedy, course, x, *(each.double().numpy() for each in others))


def as_shown(world: World, course: Course) -> tuple[World, Course]:
    """An ensemble's course as one of that member's own world; any other as it is."""
    from apportion.power.grid.ensemble import Ensemble
    from apportion.power.grid.planes import roles

    if not isinstance(world, Ensemble):
        return world, course
    ((number, _, own),) = world.members(course.states)
    member = world.worlds[number]
    joint = np.zeros_like(course.joint)
    joint[:, list(roles(member))] = course.joint
    return member, replace(course, states=own, joint=joint)
