"""What humans are believed to do (Phase 1), by name: exactly, by shortest paths, learned, or a class of your own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int, Shaped

from apportion.envs.faults import said
from apportion.flags import did_you_mean
from apportion.power.grid.ensemble import Ensemble
from apportion.power.learn.prior import HumanPrior
from apportion.power.learn.prior_exact import ExactPrior
from apportion.power.learn.prior_learned import LearnedPrior
from apportion.power.learn.prior_path import PathPrior
from apportion.power.own import own_class
from apportion.power.params import PowerParams
from apportion.power.world import World
from apportion.types import UserError

NAMES = ("exact", "shortest-path", "learned")


class MemberPriors:
    """A `HumanPrior` of an ensemble: each world's people follow that world's own prior, `priors` in their order."""

    def __init__(self, ensemble: Ensemble, priors: Sequence[HumanPrior]):
        self.ensemble, self.priors = ensemble, tuple(priors)

    def __call__(self, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n H G A"]:
        """pi_h(. | s, g), as in power/learn/prior.py."""
        world = self.ensemble
        most = max(len(world.actions[h]) for h in world.humans)
        out = np.zeros((len(states), len(world.humans), len(world.goals), most), np.float32)
        for m, rows, own in world.members(states):
            out[rows] = self.priors[m](own, t[rows])
        return out

    def state(self) -> dict[str, Any]:
        return {str(m): prior.state() for m, prior in enumerate(self.priors)}

    def load_state(self, state: dict[str, Any]) -> None:
        for m, prior in enumerate(self.priors):
            prior.load_state(state[str(m)])


def make_prior(
    name: str, world: World, params: PowerParams, *, steps: int, seed: int, say: Callable[[str], None]
) -> HumanPrior:
    """The prior called `name`: one of NAMES, or the user's own `module:Class`, made as Class(world, params).

    `steps`: gradient steps of `learned`; 0 leaves it as it was initialised, for `load_state`. `say` is told, in one
    line, what takes long and how it went. Raises UserError for a world that the prior cannot be made for.
    """
    if not world.humans:
        raise UserError(f"{world.name} has no human: whose power is meant?")
    if name == "exact" and isinstance(world, Ensemble):
        return MemberPriors(world, [ExactPrior(member, params, say=say) for member in world.worlds])
    if name == "exact":
        return ExactPrior(world, params, say=say)
    if name == "shortest-path":
        return PathPrior(world, params)
    if name == "learned":
        prior = LearnedPrior(world, params, seed)
        prior.train(steps, say)
        return prior
    if ":" not in name:
        raise UserError(
            f"--human-prior {name}: no such prior{did_you_mean(name, NAMES)}; give {', '.join(NAMES)}, or module:Class"
        )
    return _own_prior(name, world, params)


def _own_prior(name: str, world: World, params: PowerParams) -> HumanPrior:
    """Raises UserError, one line, for whatever is wrong with the user's class."""
    made = own_class(name, "--human-prior ")
    try:
        prior = made(world, params)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"--human-prior {name}(world, params) fails ({said(error)})") from error
    missing = [x for x in ("__call__", "state", "load_state") if not callable(getattr(prior, x, None))]
    if missing:
        raise UserError(f"--human-prior {name} is no prior (power/learn/prior.py): it has no {', '.join(missing)}")
    _try(name, prior, world)
    return prior


def _try(name: str, prior: HumanPrior, world: World) -> None:
    """Asks the user's prior once. Raises UserError if what it says are no probabilities of the right shape."""
    sizes = [len(world.actions[h]) for h in world.humans]
    try:
        found = np.asarray(prior(world.initial()[None], np.zeros(1, np.int64)))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"--human-prior {name}: asked for one state it fails ({type(error).__name__}: {error})"
        ) from error
    wanted = (1, len(sizes), len(world.goals), max(sizes))
    if found.shape != wanted:
        raise UserError(
            f"--human-prior {name} gives an array of shape {found.shape} for one state; wanted is {wanted}: states, "
            "humans, goals, actions"
        )
    beyond = [found[:, h, :, size:] for h, size in enumerate(sizes)]
    if not (np.all(found >= 0) and np.allclose(found.sum(-1), 1, atol=1e-4) and not any(map(np.any, beyond))):
        raise UserError(
            f"--human-prior {name} gives no probabilities in the first state: each human's, for each goal, are to be "
            "at least 0 and sum to 1, and 0 beyond its own actions"
        )
