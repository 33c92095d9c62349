"""What others need of a run of `apportion power train`: its settings, its world, what its humans do, and U_r."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apportion.config import from_json
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.prior import HumanPrior
from apportion.power.learn.priors import make_prior
from apportion.power.learn.worlds import reopen
from apportion.power.world import World
from apportion.run import checkpoint
from apportion.run.rundir import RunDir
from apportion.types import UserError

UR = Callable[[Tensor], Tensor]  # features (n, E) -> U_r (n,), at most -1


def is_trained(path: str | Path) -> bool:
    """Is there a run of `apportion power train`?"""
    try:
        found = json.loads((Path(path) / "config.json").read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("kind") == Phase2Config.__name__


def settings_of(run: Path) -> Phase2Config:
    """What the run was started with. Raises UserError where its config.json does not say so."""
    directory = RunDir.open(run)
    found = directory.config()
    try:
        return from_json(Phase2Config, found)
    except UserError as error:
        raise UserError(f"{directory.config_file}: {error}") from error


def world_of(run: Path) -> World:
    """The world that the run was trained in. Raises UserError where it cannot be made again."""
    path = run / "world.json"
    try:
        return reopen(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}: {error}): train again") from error


@functools.lru_cache(maxsize=4)  # environments side by side share it: asking it changes nothing
def prior_of(run: Path) -> HumanPrior:
    """The human prior of the run, what it has learned included."""
    config, world = settings_of(run), world_of(run)
    prior = make_prior(config.human_prior, world, config.params, steps=0, seed=config.seed, say=_nobody)
    prior.load_state(newest_of(run)[1]["prior"])
    return prior


def u_r_of(run: Path, device: torch.device | str = "cpu") -> UR:
    """U_r (8) as the run's newest checkpoint has it, without gradient, for features on `device`."""
    from apportion.power.learn.estimators import to_device, trained_nets
    from apportion.power.learn.targets import How, Nodes, values

    config, world = settings_of(run), world_of(run)
    nets = to_device(trained_nets(world, config, newest_of(run)[1]["learner"]), torch.device(device))
    how = How.of(config)
    weights = torch.as_tensor(np.asarray(world.goal_weights, np.float32), device=device)
    shape = len(world.humans), len(world.goals)

    def u_r(features: Tensor) -> Tensor:
        never = torch.zeros(len(features), dtype=torch.bool, device=features.device)
        nodes = Nodes(features, never[:, None, None].expand(-1, *shape), never, never)
        with torch.no_grad():
            return values(nets, nodes, how, weights, 0.0).u(config.params.eta)

    return u_r


def newest_of(run: Path, warn: Callable[[str], None] | None = None) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that is whole, and its parts; `warn` is told of damaged ones. Raises UserError."""
    path, parts, _ = checkpoint.newest(RunDir.open(run).checkpoints, warn or _nobody)
    return path, parts


def _nobody(line: str) -> None:
    """Is told, and says nothing: an environment is made many times."""
