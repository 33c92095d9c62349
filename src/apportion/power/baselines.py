"""What others let an assistant maximise: measures of how much a human can bring about, which need no goals.

Each is a number for every state, worked out exactly by `channels.influence` from what k steps of a human can lead to.
In the sources the assistant learns, from samples, a policy with the largest expected discounted sum of its number; here
`planning` finds that policy exactly, with the same belief about the humans as ours. While the number itself is worked
out the robots stay still and other humans act uniformly at random, as in Yang et al. 2025: an assistant that sees the
humans' policies would need none of these measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from apportion.flags import did_you_mean
from apportion.power.channels import CAPACITY, COUNT, ENTROPY, influence
from apportion.power.compiled import Compiled
from apportion.types import UserError

STEPS = 3  # of the humans; Yang et al. 2025 use 3


@dataclass(frozen=True)
class Objective:
    """One baseline: which measure, of whom. `counted`: the number of outcomes itself, not its logarithm."""

    name: str
    about: str
    measure: Literal[0, 1, 2]  # COUNT, ENTROPY or CAPACITY
    everyone: bool = False  # the sum over all humans; otherwise the user alone
    counted: bool = False


OBJECTIVES = (
    # Du, Tiomkin, Kiciman, Polani, Abbeel & Dragan 2020 (arXiv 2006.14796): the logarithm of the number of states that
    # n steps of the human can lead to, which is the empowerment if nothing is left to chance
    Objective("ave", "AvE: log2 of the number of outcomes the user can reach", COUNT),
    # Franzmeyer, Malinowski & Henriques 2022 (arXiv 2107.09598): the number of states that the other can be in after n
    # steps, and the entropy of that state. The latter needs a policy: uniform, where none is assumed to be known
    Objective("discrete-choice", "number of outcomes the user can reach", COUNT, counted=True),
    Objective("entropic-choice", "entropy of the outcome if the user acts at random", ENTROPY),
    # Klyubin, Polani & Nehaniv 2005, "Empowerment: a universal agent-centric measure of control"; as an assistant's
    # objective for one human, and summed over all of them, in Yang, Cakmak & Kleiman-Weiner 2025 (arXiv 2511.04177)
    Objective("empowerment", "n-step empowerment of the user: the channel's capacity", CAPACITY),
    Objective("joint-empowerment", "sum of all humans' n-step empowerment", CAPACITY, everyone=True),
)


def chosen(names: Sequence[str]) -> tuple[Objective, ...]:
    """Objectives by name, in the order given. Raises UserError for a name that there is not."""
    known = {objective.name: objective for objective in OBJECTIVES}
    for name in names:
        if name not in known:
            raise UserError(f"no baseline {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}")
    return tuple(known[name] for name in names)


class Rewards:
    """The objectives' numbers for every state, O columns, as rewards on arrival.

    With t steps gone of a horizon of T, humans have min(steps, T - t) steps to look ahead: what could follow only after
    the end is not counted. At the end, and where the rules end the episode, all are 0.
    """

    def __init__(self, compiled: Compiled, objectives: Sequence[Objective], user: int, steps: int = STEPS):
        """`user`: which of the humans, from 0; `steps` >= 1. Raises UserError for others, as `influence` does."""
        if not 0 <= user < len(compiled.humans):
            raise UserError(f"user {user}: {compiled.name} has humans 0 to {len(compiled.humans) - 1}")
        if steps < 1:
            raise UserError(f"{steps} steps of empowerment: at least 1")
        self.compiled, self.objectives = compiled, tuple(objectives)
        self._tables = [self._columns(table, user) for table in influence(compiled, steps)]

    def _columns(self, table: Float[np.ndarray, "n H 3"], user: int) -> Float[np.ndarray, "n O"]:
        out = np.empty((len(table), len(self.objectives)))
        for column, objective in enumerate(self.objectives):
            measured = table[:, :, objective.measure]
            out[:, column] = measured.sum(1) if objective.everyone else measured[:, user]
            if objective.counted:
                out[:, column] = 2.0 ** out[:, column]
        out[self.compiled.terminal[: len(out)]] = 0.0
        return out

    def at(self, t: int) -> Float[np.ndarray, "n O"]:
        """What states [0, reached(t)) are worth with t steps gone; all states at all times if there is no horizon."""
        horizon = self.compiled.horizon
        if horizon is None:
            return self._tables[-1]
        if t >= horizon:
            return np.zeros((self.compiled.reached(horizon), len(self.objectives)))
        return self._tables[min(len(self._tables), horizon - t) - 1][: self.compiled.reached(t)]
