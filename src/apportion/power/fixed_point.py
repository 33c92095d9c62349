"""Without a horizon the values define each other in a circle: a fixed point, led in by beta_r.

V_h^m needs no robot and comes first. Then z = (V_h^e, ln(-V_r)) is sought with F(z) = z, F being one sweep of Phase 2.
For a given robot policy F contracts by the discounts. With pi_r made from V_r it need not, and there may be several
solutions. So beta_r rises from 0, where the solution is unique, in steps, each starting from the last one's solution;
and a second search, from arbitrary values and from above in beta_r, looks for another solution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from apportion.power import equations as eq
from apportion.power.accelerate import Found, fixed_point
from apportion.power.compiled import Compiled
from apportion.power.files import load_array, save_array
from apportion.power.kernel import Kernel
from apportion.power.params import PowerParams
from apportion.power.solution import Tables
from apportion.power.sweeps import Arrival, Outcome, check_power, layer, phase_one, phase_two, shape_of

TOLERANCE = 1e-10  # of the largest change that one sweep makes to V_h^e or V_h^m and, relatively, to V_r
ROUGH = 1e-5  # where only a start for the next search is wanted
SWEEPS = 3000  # of one search
LADDER = (0.125, 0.25, 0.5, 1.0)  # shares of beta_r on the way up
ABOVE = 4.0  # the second search comes down from this times beta_r
SAME = 1e-6  # largest difference in V_h^m, or total variation of robot policies, of what counts as one solution
_KEEP_EVERY = 50  # sweeps between two files of a search, which an interrupted solve goes on from
Progress = Callable[[str, int, int], None]  # what is done, sweeps done, sweeps in all (0: not known)


@dataclass
class Limits:
    """How hard to search: for tests, and for those who have the time."""

    tolerance: float = TOLERANCE
    sweeps: int = SWEEPS


@dataclass
class _Search:
    """One world's searches: what they share, and how many sweeps they took."""

    compiled: Compiled
    kernel: Kernel
    params: PowerParams
    chunk: int
    folder: Path | None
    progress: Progress | None
    limits: Limits
    policies: list[Tensor] = field(default_factory=list)  # of each human, (S, G, A)
    sweeps: int = 0

    def run(self, name: str, f: Callable[[Tensor], Tensor], start: Tensor, tolerance: float) -> Found:
        """`fixed_point` from `start`, or from where an interrupted search of this name had come to."""
        path = None if self.folder is None else self.folder / "searches" / f"{name.replace(' ', '_')}.npy"
        if path is not None and path.exists():
            start = torch.tensor(load_array(path), device=self.kernel.device)

        def watch(z: Tensor, residual: float, sweeps: int) -> None:
            if self.progress is not None:
                self.progress(f"{name}, residual {residual:.0e}", sweeps, 0)
            if path is not None and sweeps % _KEEP_EVERY == 0:
                _keep(path, z)

        found = fixed_point(f, start, tolerance, self.limits.sweeps, self.inside, watch)
        self.sweeps += found.sweeps
        if path is not None:
            _keep(path, found.z)
        return found

    def chunks(self) -> list[tuple[int, int]]:
        n = len(self.compiled.states)
        return [(a, min(a + self.chunk, n)) for a in range(0, n, self.chunk)]

    def inside(self, z: Tensor) -> Tensor:
        """z with its V_h^e, or V_h^m, in [0, 1]. Entries beyond these are ln(-V_r), which may be any number."""
        return torch.cat([z[: self.kernel.attained.numel()].clamp(0, 1), z[self.kernel.attained.numel() :]])

    def values(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(V_h^e, V_r) of z."""
        n = len(self.compiled.states)
        return z[:-n].view(self.kernel.attained.shape), -torch.exp(z[-n:])

    def arrive(self, v_m: Tensor) -> Tensor:
        return eq.first_attainment(self.kernel.attained, v_m, self.params.gamma_h).flatten(1)

    def phase_two(self, z: Tensor, beta_r: float, policy: Tensor | None) -> Outcome:
        """One sweep over all states."""
        v_e, v_r = self.values(z)
        arriving = Arrival(v_e.flatten(1)[:0], self.arrive(v_e), v_r[:, None])  # the prior is settled by now
        params = replace(self.params, beta_r=beta_r)
        parts = []
        for a, b in self.chunks():
            pi = None if policy is None else policy[a:b]
            human = [each[a:b] for each in self.policies]
            parts.append(phase_two(self.kernel, params, a, b, human, arriving, pi))
        return Outcome(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def solve_stationary(
    compiled: Compiled,
    kernel: Kernel,
    params: PowerParams,
    tables: Tables,
    chunk: int,
    policy: Float[np.ndarray, "S R"] | None,
    progress: Progress | None,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Puts the one table of a world without a horizon into `tables`; returns how it went, for the record.

    converged, residual, sweeps; unique (None: a second search was not able to tell), difference (of two searches: the
    larger of that in V_h^m and of the total variation of the robot policies), statement (the same in words).
    """
    search = _Search(compiled, kernel, params, chunk, tables.folder, progress, limits or Limits())
    if tables.folder is not None:
        (tables.folder / "searches").mkdir(exist_ok=True)
    v_m, prior, prior_above = _prior(search)
    given = None if policy is None else torch.tensor(policy, device=kernel.device)
    main = _rise(search) if given is None else _given(search, "policy", given, search.limits.tolerance)
    done = search.phase_two(main.z, params.beta_r, given)
    other = None if given is not None or params.beta_r == 0 else _from_above(search)
    apart = 0.0
    if other is not None and other.converged:
        elsewhere = search.phase_two(other.z, params.beta_r, None).pi
        apart = float((elsewhere - done.pi).abs().sum(1).max()) / 2
    table = _table(compiled, v_m, done)
    check_power(layer(table, shape_of(compiled)), "without a horizon")
    tables.put(0, table)
    ends = Ends(
        main=main,
        prior=prior,
        prior_above=prior_above,
        above=other,
        apart=apart,
        beta_r=params.beta_r,
        given=given is not None,
    )
    told = {"converged": ends.converged, "residual": max(main.residual, prior.residual), "sweeps": search.sweeps}
    return {**told, "unique": ends.unique, "difference": ends.difference, "statement": statement(ends, search.sweeps)}


@dataclass(frozen=True)
class Ends:
    """Where the searches of one world ended."""

    main: Found  # of (V_h^e, ln(-V_r)): the solution's, or the given policy's
    prior: Found  # of V_h^m, from 0
    prior_above: Found  # and from 1
    above: Found | None  # a second one of the solution; None: the policy is given, or beta_r is 0
    apart: float  # total variation of the robot policies of `main` and `above`
    beta_r: float
    given: bool  # the values are those of a given policy

    @property
    def prior_apart(self) -> float:
        """The largest difference of V_h^m."""
        return float((self.prior_above.z - self.prior.z).abs().max())

    @property
    def difference(self) -> float:
        return max(self.prior_apart, self.apart)

    @property
    def converged(self) -> bool:
        return self.main.converged and self.prior.converged

    @property
    def unique(self) -> bool | None:
        """None: not known, for a second search, or the first, did not converge."""
        known = self.prior_above.converged and (self.above is None or self.above.converged)
        return self.difference <= SAME if known and self.converged else None


def _prior(search: _Search) -> tuple[Tensor, Found, Found]:
    """V_h^m, from below (the limit of longer and longer horizons); where that search ended, and one from above."""
    shape = search.kernel.attained.shape

    def f(z: Tensor) -> Tensor:
        arriving = search.arrive(z.view(shape))
        parts = [phase_one(search.kernel, search.params, a, b, arriving)[1] for a, b in search.chunks()]
        return torch.cat(parts).flatten()

    zero = torch.zeros(shape, dtype=torch.float64, device=search.kernel.device).flatten()
    below = search.run("prior", f, zero, search.limits.tolerance)
    above = search.run("prior from above", f, torch.ones_like(zero), search.limits.tolerance)
    v_m = below.z.view(shape)
    arriving = search.arrive(v_m)
    found = [phase_one(search.kernel, search.params, a, b, arriving)[0] for a, b in search.chunks()]
    search.policies = [torch.cat(each) for each in zip(*found, strict=True)]
    return v_m, below, above


def _given(search: _Search, name: str, policy: Tensor, tolerance: float) -> Found:
    """The values of a given robot policy: V_h^e alone first, since U_r may be infinite until it has settled."""
    n, humans, goals = search.kernel.attained.shape
    start = torch.zeros(n * humans * goals + n, dtype=torch.float64, device=policy.device)

    def alone(z: Tensor) -> Tensor:
        return search.phase_two(torch.cat([z, start[-n:]]), 0.0, policy).v_e.flatten()

    settled = search.run(f"{name} V_h^e".replace("^", ""), alone, start[:-n], tolerance)
    done = search.phase_two(torch.cat([settled.z, start[-n:]]), 0.0, policy)
    check_power(layer(_table(search.compiled, done.v_e, done), shape_of(search.compiled)), "without a horizon")
    guess = torch.log(-done.u.mean().clamp(max=eq.END) / (1 - search.params.gamma_r))  # were U_r the same everywhere
    return search.run(name, _joint(search, 0.0, policy), torch.cat([settled.z, guess.expand(n)]), tolerance)


def _joint(search: _Search, beta_r: float, policy: Tensor | None) -> Callable[[Tensor], Tensor]:
    def f(z: Tensor) -> Tensor:
        done = search.phase_two(z, beta_r, policy)
        return torch.cat([done.v_e.flatten(), torch.log(-done.v)])

    return f


def _rise(search: _Search) -> Found:
    """beta_r from 0 up, each search from the last one's end. The result is that of the last; earlier ones may fail."""
    robots = search.kernel.robot_actions
    uniform = torch.full((len(search.compiled.states), robots), 1 / robots, dtype=torch.float64)
    beta_r, tolerance = search.params.beta_r, search.limits.tolerance
    found = _given(search, "beta_r 0", uniform.to(search.kernel.device), tolerance if beta_r == 0 else ROUGH)
    for share in LADDER if beta_r > 0 else ():
        beta = share * beta_r
        found = search.run(f"beta_r {beta:g}", _joint(search, beta, None), found.z, tolerance if share == 1 else ROUGH)
    return found


def _from_above(search: _Search) -> Found:
    """A second search: from values at random, first at a much larger beta_r."""
    n, humans, goals = search.kernel.attained.shape
    rng = np.random.default_rng(0)
    hopes = rng.random(n * humans * goals)
    depth = np.log(10 ** rng.random(n) / (1 - search.params.gamma_r))  # V_r between that of U_r = -1 and U_r = -10
    start = torch.tensor(np.concatenate([hopes, depth]), device=search.kernel.device)
    high = ABOVE * search.params.beta_r
    found = search.run(f"from above, beta_r {high:g}", _joint(search, high, None), start, ROUGH)
    beta_r = search.params.beta_r
    return search.run(f"from above, beta_r {beta_r:g}", _joint(search, beta_r, None), found.z, search.limits.tolerance)


def _table(compiled: Compiled, v_m: Tensor, done: Outcome) -> np.ndarray:
    parts = (v_m.flatten(1), done.v_e.flatten(1), done.x, done.u[:, None], done.q, done.pi, done.v[:, None])
    return torch.cat(parts, 1).cpu().numpy()


def statement(ends: Ends, sweeps: int) -> str:
    """What is known of the values, in words: each sentence names the search that it is about."""
    residual = f"after {sweeps:,} sweeps the residual is {max(ends.main.residual, ends.prior.residual):.1e}"
    if not ends.converged:
        return (
            f"NOT CONVERGED {_where(ends)}: {residual}. These are no solution's values; {_way_out(ends)} makes it one"
        )
    if ends.unique is None:
        second = "a second search" if ends.prior_above.converged else "a second search for V_h^m"
        return f"converged: {residual}; {second} did not converge, so whether there are other solutions is open"
    if not ends.unique:
        return f"converged: {residual}; but NOT UNIQUE: {'; and '.join(_others(ends))}"
    if ends.given or ends.above is None:
        policy = "a given policy" if ends.given else "the uniform policy, which is that of beta_r = 0,"
        return f"converged: {residual}; {policy} has no other solution"
    return f"converged: {residual}; a search from elsewhere ends in the same solution"


def _where(ends: Ends) -> str:
    """Which search failed. V_h^m knows neither beta_r nor the robots' policy."""
    if ends.main.converged:
        return "in V_h^m, what humans expect"
    return "for the given policy" if ends.given else f"at beta_r {ends.beta_r:g}"


def _way_out(ends: Ends) -> str:
    if ends.main.converged:
        return "a smaller beta_h, a smaller gamma_h, or a horizon"
    return ("" if ends.given else "a smaller beta_r, ") + "a smaller discount, or a horizon"


def _others(ends: Ends) -> list[str]:
    """Where the other solutions are, and which one this is."""
    found = []
    if ends.prior_apart > SAME:
        found.append(
            f"V_h^m, what humans expect, has another solution, up to {ends.prior_apart:.2g} away. This is the one that "
            "ever longer horizons come to"
        )
    if ends.apart > SAME:
        found.append(
            f"a search from elsewhere ends in another solution, up to {ends.apart:.2g} away in total variation. This "
            "is the one that grows out of beta_r = 0"
        )
    return found


def _keep(path: Path, z: Tensor) -> None:
    save_array(path, z.cpu().numpy())
