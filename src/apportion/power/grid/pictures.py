"""The pictures of a solved grid world: its start, one course of events, power and policy over places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apportion.power.grid.draw import Picture, picture, scene
from apportion.power.grid.maps import Moment, policy_map, power_map
from apportion.power.grid.story import story
from apportion.power.grid.world import GridWorld
from apportion.power.rollout import Rollout
from apportion.power.solution import Solution

MOMENTS = 8  # at most, of a course of events
MAPS = (1 / 4, 1 / 2, 3 / 4)  # of the course: when maps are drawn


@dataclass(frozen=True)
class Shown:
    name: str  # of its file
    title: str
    caption: str
    picture: Picture


def pictures(world: GridWorld, solution: Solution, rollout: Rollout) -> list[Shown]:
    """All pictures for a page or a folder; those of policies where there are robots."""
    times = np.unique(np.linspace(0, rollout.steps - 1, min(MOMENTS, rollout.steps)).round().astype(int)).tolist()
    how = "takes its most probable action" if rollout.greedy else "draws its actions"
    found = [
        Shown("world", "The world", "The initial state.", picture(scene(world), width=6)),
        Shown(
            "story",
            "The course in pictures",
            f"One course (seed {rollout.seed}; the robot {how}). Below each moment: how probable each action of the "
            "robot is; dark and on the map: what it does. At the bottom: the humans' power in bits, log2 of X_h.",
            story(world, solution, rollout, times),
        ),
    ]
    when = sorted({min(round(share * rollout.steps), rollout.steps - 1) for share in MAPS})
    moments = [_moment(solution, rollout, t) for t in when]
    found.append(
        Shown(
            "power",
            "Power over places",
            "The power that a human would have if it stood elsewhere and everything else were the same (mean over "
            "facings); ringed: where it is; blank: where it cannot have come by then.",
            power_map(world, solution, moments),
        )
    )
    found += [_policy(world, solution, moments, robot) for robot in world.robots]
    return found


def _policy(world: GridWorld, solution: Solution, moments: list[Moment], robot: int) -> Shown:
    name = world.agents[robot]
    caption = (
        f"What the {name} would most probably do if it stood elsewhere and looked to the side on which the sign is; "
        "framed: where it is; no sign: several actions are equally probable; blank: where it cannot have come by then."
    )
    return Shown(
        f"policy-{name.replace(' ', '-')}",
        f"Policy of the {name}",
        caption,
        policy_map(world, solution, moments, robot),
    )


def _moment(solution: Solution, rollout: Rollout, t: int) -> Moment:
    horizon = solution.compiled.horizon
    left = "" if horizon is None else f", {horizon - t} to go"
    return Moment(t, int(rollout.states[t]), f"t = {t}{left}")
