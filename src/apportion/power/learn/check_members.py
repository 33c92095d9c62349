"""Several worlds held against their exact solutions: those that were learned from, and those that never were seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from apportion.power.grid.ensemble import Ensemble
from apportion.power.learn.check import ExactCheck, Learned
from apportion.power.params import PowerParams
from apportion.power.world import World

Ask = Callable[[World, np.ndarray, np.ndarray], Learned]  # (world, states, steps so far)


class MembersCheck:
    """`ExactCheck` of each world of one or two ensembles."""

    def __init__(self, worlds: Ensemble, test: Ensemble | None, params: PowerParams, max_states: int):
        self.groups = [("", worlds)] + ([] if test is None else [("held_out/", test)])
        self.checks = [
            [ExactCheck(member, params, max_states=max_states) for member in of.worlds] for _, of in self.groups
        ]

    def errors(self, ask: Ask) -> dict[str, float]:
        """The means over worlds of what `ExactCheck.errors` says, "held_out/..." of those kept for testing.

        Also "share/least", of the world that goes worst. NaN where a measure is defined in none of them (a share where
        no policy gains anything, say).
        """
        out: dict[str, float] = {}
        for (prefix, ensemble), checks in zip(self.groups, self.checks, strict=True):
            found = [check.errors(_of_member(ask, ensemble, m)) for m, check in enumerate(checks)]
            for name in found[0]:
                out[prefix + name] = _over_defined(np.mean, [each[name] for each in found])
            out[f"{prefix}share/least"] = _over_defined(np.min, [each["share"] for each in found])
        return out


def _over_defined(statistic: Callable[[np.ndarray], Any], values: list[float]) -> float:
    defined = np.array(values)[~np.isnan(values)]
    return float(statistic(defined)) if len(defined) else float("nan")


def _of_member(ask: Ask, ensemble: Ensemble, m: int) -> Callable[[np.ndarray, np.ndarray], Learned]:
    return lambda states, t: ask(ensemble, ensemble.rows(m, states), t)
