"""A run of `apportion power train`, opened: its world, its people, and what it says of any state.

Letters: n states, F fields, H humans, G goals, R joint actions of the robots.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int, Shaped

from apportion.power.grid.ensemble import Ensemble
from apportion.power.learn.act import nodes_of
from apportion.power.learn.config import Phase2Config
from apportion.power.learn.estimators import trained_nets
from apportion.power.learn.networks import Estimators
from apportion.power.learn.prior import HumanPrior
from apportion.power.learn.priors import make_prior
from apportion.power.learn.targets import How, Values, policy, values
from apportion.power.learn.trained import newest_of, settings_of, world_of
from apportion.power.learn.worlds import unseen_worlds
from apportion.power.world import World
from apportion.run import checkpoint

ROWS = 4096  # states that the estimators are asked about at once


@dataclass(frozen=True)
class Opened:
    """A run as one of its checkpoints has it, on the CPU, without dropout."""

    config: Phase2Config
    world: World
    nets: Estimators
    step: int  # environment steps of training so far
    learned_prior: dict[str, Any]  # what the human prior has learned

    def prior(self) -> HumanPrior:
        """What its people do. Takes as long as it took to begin training, unless it was learned."""
        config = self.config
        found = make_prior(
            config.human_prior, self.world, config.params, steps=0, seed=config.seed, say=lambda line: None
        )
        found.load_state(self.learned_prior)
        return found

    def values(self, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Values:
        """V_h^e, X_h, U_r, Q_r, pi_r and V_r, the policy as sharp as beta_r asks for in the end. `t`: steps so far."""
        config = self.config
        how = How.of(config)
        weights = torch.as_tensor(np.asarray(self.world.goal_weights, np.float32))
        with torch.no_grad():
            return values(self.nets, nodes_of(self.world, states, t), how, weights, config.params.beta_r)

    def policy(self, states: Shaped[np.ndarray, "n F"], t: int) -> Float64[np.ndarray, "n R"]:
        """pi_r at one time, any number of states; rows sum to 1 in float64."""
        found = []
        for a in range(0, len(states), ROWS):
            part = states[a : a + ROWS]
            with torch.no_grad():
                pi = policy(self.nets, nodes_of(self.world, part, np.full(len(part), t)), self.config.params.beta_r)
            found.append(pi.double().numpy())
        rows = np.concatenate(found)
        return rows / rows.sum(1, keepdims=True)


def unseen_of(run: Path) -> Ensemble | None:
    """The worlds that a run over a folder of worlds has not learned from; None if there are none."""
    return unseen_worlds(json.loads((run / "world.json").read_bytes()))


def open_trained(run: Path, path: Path | None = None, warn: Callable[[str], None] | None = None) -> Opened:
    """The run at a checkpoint, `path`, or its newest whole one; `warn` is told of each that is damaged.

    Raises UserError where there is none that is whole.
    """
    config, world = settings_of(run), world_of(run)
    parts = newest_of(run, warn)[1] if path is None else checkpoint.load(path)[0]
    nets = trained_nets(world, config, parts["learner"])
    return Opened(config, world, nets, int(parts["loop"]["step"]), parts["prior"])
