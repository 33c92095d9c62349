"""How far learned values are from the exact ones, over all states that can be reached, and what their policy is worth.

Letters as in equations.py; S states in all. "Reached" is (state, time) with a positive probability at that very time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from apportion.power import equations as eq
from apportion.power.cache import compile_world
from apportion.power.evaluate import UNIFORM, share_of
from apportion.power.memory import refuse_too_large
from apportion.power.params import PowerParams
from apportion.power.planning import uniform
from apportion.power.reach import states_at
from apportion.power.solution import Solution
from apportion.power.solve import CHUNK_BYTES, evaluate, solve
from apportion.power.sweeps import arrival, chunk_states, phase_one
from apportion.power.world import World

ROWS = 4096  # states that the learner is asked about at once
MASS = 1e-6  # without a horizon: the discounted share of all time after which nobody looks any more


class Learned(NamedTuple):
    """What a learner says of n states, in float32 or float64."""

    v_e: Float[np.ndarray, "n H G"]
    x: Float[np.ndarray, "n H"]
    q: Float[np.ndarray, "n R"]  # below 0
    pi: Float[np.ndarray, "n R"]  # sums to 1


Values = Callable[[Shaped[np.ndarray, "n F"], Int[np.ndarray, "n"]], Learned]  # (states, steps so far)


class _When(NamedTuple):
    """The states that can be at time t and go on, and how likely each is if the solved policy is followed."""

    t: int
    states: Int[np.ndarray, "n"]
    occupied: Float[np.ndarray, "n"]


class ExactCheck:
    """The exact solution of a world, in float64, to hold what was learned against. Made once, asked often."""

    def __init__(
        self,
        world: World,
        params: PowerParams,
        *,
        cache: Path | None = None,
        memory_limit: int | None = None,
        max_states: int | None = None,
    ):
        """Compiles and solves. `cache`: a folder of compiled worlds; `memory_limit`: bytes, None: what is free;
        `max_states`: refuse worlds with more.

        Raises UserError for a world that cannot be enumerated, or is too large.
        """
        self.compiled = compile_world(world, cache, memory_limit=memory_limit, max_states=max_states)
        refuse_too_large(self.compiled, CHUNK_BYTES, None, memory_limit, solutions=2)
        self.params, self.memory_limit = params, memory_limit
        self.solution: Solution = solve(self.compiled, params, memory_limit=memory_limit)
        self.v_solved = float(self.solution.at(0).v[0])  # V_r at the start
        self.v_uniform = self._value(uniform(self.compiled), UNIFORM)
        self._times = list(_times(self.solution))

    def errors(self, values: Values) -> dict[str, float]:
        """`values` is asked about all that is reached; terminal states are left out.

        v_h_e, x_h: /mean and /max of |error|, and /relative_mean, its mean over the mean of the exact values.
        log_q_r: /mean and /max of |log(-Q_r) - log(-Q_r exact)|; q_r/relative_mean: of Q_r itself. pi_r/tv_mean,
        /tv_max, /tv_occupancy: total variation of the robots' policy, in [0, 1], the last weighted by how often the
        solved policy comes by (without a horizon: discounted by gamma_r). At the last step pi_r does not matter to V_r
        and is uniform by definition: log_q_r, q_r and pi_r do not count there.
        v_r/start: exact V_r of the learned policy at the start; share: of the way from the uniform policy's to the
        solved one's, 1 for the solution itself, NaN if the two are equal.
        Raises ValueError if `pi` are no probabilities.
        """
        tally, policies = _Tally(), []
        for when in self._times:
            n = len(self.compiled.states) if self.compiled.horizon is None else self.compiled.reached(when.t)
            policy = np.full((n, self.compiled.robot_actions), 1 / self.compiled.robot_actions)
            for a in range(0, len(when.states), ROWS):
                part = _When(when.t, when.states[a : a + ROWS], when.occupied[a : a + ROWS])
                policy[part.states] = self._compare(tally, values, part)
            policies.append(policy)
        start = self._value(lambda t, n: policies[t], "learned")
        share = share_of(start, self.v_uniform, self.v_solved)
        return {**tally.means(), "share": float("nan") if share is None else share, "v_r/start": start}

    def _compare(self, tally: _Tally, values: Values, when: _When) -> Float[np.ndarray, "n R"]:
        """Adds the errors of some states to the tally; returns the learned policy there, rows summing to 1."""
        exact, s = self.solution.at(when.t), when.states
        learned = values(self.compiled.states[s], np.full(len(s), when.t))
        v_e, x, q, pi = (np.asarray(each, np.float64) for each in learned)
        for name, found, wanted in (
            ("v_e", v_e, exact.v_e),
            ("x", x, exact.x),
            ("q", q, exact.q),
            ("pi", pi, exact.pi),
        ):
            if found.shape != (len(s), *wanted.shape[1:]):
                raise ValueError(f"{name} has shape {found.shape}, wanted is {(len(s), *wanted.shape[1:])}")
        if not ((pi >= 0).all() and np.allclose(pi.sum(1), 1, rtol=0, atol=1e-3)):  # NaN fails as well
            raise ValueError(f"pi at time {when.t}: its rows are to be probabilities, with sum 1")
        pi /= pi.sum(1, keepdims=True)
        tally.add("v_h_e", v_e, exact.v_e[s])
        tally.add("x_h", x, exact.x[s])
        if self.compiled.horizon is None or when.t < self.compiled.horizon - 1:
            q = np.minimum(q, eq.END)  # -softplus(y) of a very negative y rounds to 0
            tally.add("log_q_r", np.log(-q), np.log(-exact.q[s]))
            tally.add("q_r", q, exact.q[s])
            tally.add_policies(pi, exact.pi[s], when.occupied)
        return pi

    def _value(self, policy: Callable[[int, int], np.ndarray], name: str) -> float:
        """V_r of a policy at the start."""
        found = evaluate(self.compiled, self.params, policy, name=name, memory_limit=self.memory_limit)
        return float(found.at(0).v[0])


class _Tally:
    """Sums of errors over states, by the name of the value."""

    def __init__(self) -> None:
        self._sums: dict[str, np.ndarray] = {}  # |error|, |exact|, count
        self._largest: dict[str, float] = {}
        self._weighted = np.zeros(2)  # total variation times occupancy, occupancy

    def add(self, name: str, found: np.ndarray, exact: np.ndarray) -> None:
        error = np.abs(found - exact)
        sums = np.array([error.sum(), np.abs(exact).sum(), error.size])
        self._sums[name] = self._sums.get(name, np.zeros(3)) + sums
        self._largest[name] = float(np.maximum(self._largest.get(name, 0.0), error.max(initial=0.0)))  # NaN stays

    def add_policies(
        self, found: Float[np.ndarray, "n R"], exact: Float[np.ndarray, "n R"], occupied: Float[np.ndarray, "n"]
    ) -> None:
        tv = np.abs(found - exact).sum(1) / 2
        self.add("tv", tv, np.zeros_like(tv))
        self._weighted += tv @ occupied, occupied.sum()

    def means(self) -> dict[str, float]:
        """All of `ExactCheck.errors` but the policy's value; 0 where nothing was counted."""
        out = {}
        for name in ("v_h_e", "x_h", "log_q_r"):
            out |= {f"{name}/mean": self._ratio(name, 2), f"{name}/max": self._largest.get(name, 0.0)}
        out |= {f"{name}/relative_mean": self._ratio(name, 1) for name in ("v_h_e", "x_h", "q_r")}
        of_all = {"pi_r/tv_mean": self._ratio("tv", 2), "pi_r/tv_max": self._largest.get("tv", 0.0)}
        return {**out, **of_all, "pi_r/tv_occupancy": _over(*self._weighted)}

    def _ratio(self, name: str, below: int) -> float:
        sums = self._sums.get(name, np.zeros(3))
        return _over(sums[0], sums[below])


def _over(above: float, below: float) -> float:
    """above / below; 0 / 0 is 0."""
    return float(above) if above == 0 else float(np.divide(above, below))


def _times(solution: Solution) -> Iterator[_When]:
    compiled = solution.compiled
    if compiled.horizon is None:
        going = np.flatnonzero(~compiled.terminal)
        yield _When(0, going, _endless_occupancy(solution)[going])
        return
    for t, (states, occupied) in enumerate(zip(states_at(compiled), occupancy(solution), strict=False)):
        if t < compiled.horizon:
            going = states[~compiled.terminal[states]]
            yield _When(t, going, occupied[going])


# -------------------------------------------------------------------- how often the solved policy comes by


def occupancy(solution: Solution) -> Iterator[Float[np.ndarray, "S"]]:
    """For t = 0 to the horizon, the probability of each state, from the start on, under the solution's policies.

    Humans act as pibar, independently: nobody knows their goals. In a terminal state the episode is over, and its
    probability is gone one step later.
    """
    horizon = solution.compiled.horizon
    assert horizon is not None
    now = _at_start(solution)
    yield now
    for t in range(horizon):
        n = solution.compiled.reached(t)
        following = np.zeros(len(now))
        for source, target, probs in _moves(solution, t, n):
            following += np.bincount(target, probs * now[source], len(now))
        now = following
        yield now


def _endless_occupancy(solution: Solution) -> Float[np.ndarray, "S"]:
    """(1 - gamma_r) sum_t gamma_r^t of the probabilities at time t."""
    n, gamma = len(solution.compiled.states), solution.params.gamma_r
    parts = [np.stack([target, source, probs]) for source, target, probs in _moves(solution, 0, n)]
    target, source, probs = np.concatenate(parts, 1)
    places = torch.from_numpy(np.stack([target, source]).astype(np.int64))
    matrix = torch.sparse_coo_tensor(places, torch.from_numpy(probs), (n, n), check_invariants=False).coalesce()
    now, total, left = torch.from_numpy(_at_start(solution)), torch.zeros(n, dtype=torch.float64), 1.0
    while left > MASS and float(now.sum()) > 0:
        total += (1 - gamma) * left * now
        now, left = matrix @ now, gamma * left
    return total.numpy()


def _at_start(solution: Solution) -> Float[np.ndarray, "S"]:
    now = np.zeros(len(solution.compiled.states))
    now[0] = 1.0
    return now


def _moves(solution: Solution, t: int, n: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(from, to, probability) of the moves out of states [0, n) at time t, in chunks; a pair may come up repeatedly.

    Nothing follows on terminal states.
    """
    kernel, params = solution.kernel, solution.params
    prior, pi = arrival(kernel, params, solution.at(t + 1)).prior, solution.at(t).pi
    rows, chunk = kernel.human_actions * kernel.robot_actions, chunk_states(kernel, CHUNK_BYTES)
    for a in range(0, n, chunk):
        b = min(a + chunk, n)
        policies, _ = phase_one(kernel, params, a, b, prior)
        humans = eq.joint([eq.marginal(policy, kernel.weights) for policy in policies])
        acts: Tensor = humans[:, :, None] * torch.from_numpy(np.ascontiguousarray(pi[a:b]))[:, None, :]
        bounds = kernel.indptr[a * rows : b * rows + 1].numpy()
        counts, entries = np.diff(bounds), slice(int(bounds[0]), int(bounds[-1]))
        source = np.repeat(np.repeat(np.arange(a, b), rows), counts)
        probs = np.repeat(acts.reshape(-1).numpy(), counts) * kernel.probs[entries].numpy()
        yield source, kernel.indices[entries].numpy(), probs
