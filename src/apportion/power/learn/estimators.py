"""Networks or tables for a world, made, copied, saved and brought back: where the two kinds differ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from apportion.nets.optim import polyak_
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.features import width
from apportion.power.learn.lookup import Lookup
from apportion.power.learn.networks import Networks, Sizes
from apportion.power.world import World


def make_estimators(world: World, config: Phase2Config, generator: torch.Generator) -> Networks | Lookup:
    """Untrained ones."""
    sizes = Sizes(width(world), len(world.humans), len(world.goals), robot_actions(world))
    if config.estimators == "lookup":
        return Lookup(sizes)
    goals = getattr(world, "goal_features", None)
    params = config.params
    return Networks(
        sizes,
        torch.eye(sizes.goals) if goals is None else torch.as_tensor(np.asarray(goals, np.float32)),
        hidden=config.hidden,
        shared=config.shared_encoder,
        goal_features=config.goal_features,
        dropout=config.dropout,
        q_output=config.q_r_output,
        z_power=params.eta * params.xi,
        generator=generator,
    )


def robot_actions(world: World) -> int:
    """R, joint actions of the robots; one (empty) without robots."""
    return math.prod(len(world.actions[r]) for r in world.robots)


def copy_into(target: Networks | Lookup, nets: Networks | Lookup) -> None:
    """A full copy."""
    if isinstance(target, Lookup) and isinstance(nets, Lookup):
        target.copy_from(nets)
    elif isinstance(target, Networks) and isinstance(nets, Networks):
        polyak_(target, nets, 0.0)


def nets_state(nets: Networks | Lookup) -> dict[str, Any]:
    return nets.state() if isinstance(nets, Lookup) else dict(nets.state_dict())


def load_nets(nets: Networks | Lookup, state: dict[str, Any]) -> None:
    if isinstance(nets, Lookup):
        nets.load_state(state)
    else:
        nets.load_state_dict(state)


def trained_nets(world: World, config: Phase2Config, state: dict[str, Any]) -> Networks | Lookup:
    """Those of a checkpoint's learner, averaged if it averages, on the CPU, without dropout."""
    nets = make_estimators(world, config, torch.Generator())
    load_nets(nets, state.get("average", state["nets"]))
    return nets.eval() if isinstance(nets, Networks) else nets


def to_device(nets: Networks | Lookup, device: torch.device) -> Networks | Lookup:
    return nets.to(device) if isinstance(nets, Networks) else nets
