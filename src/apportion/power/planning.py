"""Robot policies that maximise an expected discounted sum of rewards, among humans who act as the prior says.

Letters: n states, O objectives, R joint actions of the robots, A actions of one human, B joint actions of all humans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from apportion.power import equations as eq
from apportion.power.baselines import Rewards
from apportion.power.compiled import Compiled
from apportion.power.kernel import Kernel
from apportion.power.solution import Solution
from apportion.power.solve import Policy
from apportion.power.sweeps import arrival, phase_one
from apportion.types import UserError

TIE = 1e-9  # relative: values nearer than this are equal, for their rounding differs
CHUNK_BYTES = 64 << 20
STATIONARY = 1e-9  # relative change at which the values of a world without horizon count as found
SWEEPS = 100_000


@dataclass(frozen=True)
class Crowd:
    """What humans do in every state at every time if nobody knows their goals, and where that leads."""

    compiled: Compiled
    kernel: Kernel
    gamma_r: float
    marginals: list[
        list[Float[Tensor, "_ _"]]
    ]  # (n, A) of each time, of each human; one time where there is no horizon

    def arriving(self, t: int, values: Float[Tensor, "m K"]) -> Iterator[tuple[int, int, Float[Tensor, "n R K"]]]:
        """(a, b, gamma_r E of `values` in the successor of states a to b, for each joint action of the robots)."""
        humans = self.marginals[0 if self.compiled.horizon is None else t]
        n = len(humans[0])
        size = max(1, CHUNK_BYTES // (8 * self.kernel.human_actions * self.kernel.robot_actions * values.shape[1]))
        for a in range(0, n, size):
            b = min(a + size, n)
            weights = eq.joint([human[a:b] for human in humans])
            expected = self.kernel.expected(a, b, values)
            over = self.kernel.terminal[a:b, None, None]
            yield a, b, torch.where(over, 0.0, self.gamma_r * torch.einsum("nbrk,nb->nrk", expected, weights))


def make_crowd(solution: Solution) -> Crowd:
    """The humans of a solution: their prior depends on no robot policy, so any solution of the world will do."""
    compiled, params, kernel = solution.compiled, solution.params, solution.kernel
    per_state = 24 * kernel.human_actions * kernel.robot_actions * len(kernel.weights) * len(kernel.sizes)
    size = max(1, CHUNK_BYTES // per_state)
    marginals = []
    for t in range(1 if compiled.horizon is None else compiled.horizon):
        prior = arrival(kernel, params, solution.at(t + 1)).prior
        n = len(compiled.states) if compiled.horizon is None else compiled.reached(t)
        parts = [phase_one(kernel, params, a, min(a + size, n), prior)[0] for a in range(0, n, size)]
        each = zip(*parts, strict=True)  # the chunks of each human
        marginals.append([torch.cat([eq.marginal(pi, kernel.weights) for pi in human]) for human in each])
    return Crowd(compiled, kernel, params.gamma_r, marginals)


@dataclass(frozen=True)
class Plan:
    """The best joint actions of the robots for each objective, and what they bring."""

    best: list[Bool[np.ndarray, "_ R O"]]  # (n, R, O) of each time; one time where there is no horizon
    start: Float[np.ndarray, "O"]  # expected discounted sum from the initial state on

    def policy(self, objective: int) -> Policy:
        """Uniform over the best joint actions for one objective."""

        def act(t: int, n: int) -> np.ndarray:
            best = self.best[min(t, len(self.best) - 1)][:n, :, objective].astype(np.float64)
            return best / best.sum(1, keepdims=True)

        return act


def plan(crowd: Crowd, rewards: Rewards) -> Plan:
    """The policies with the largest expected discounted sum of each reward, by backward induction.

    V(s, t) = r(s, t) + max_a gamma_r E V(s', t + 1). Without a horizon: value iteration, to a relative change of
    `STATIONARY`. Raises UserError where that is not reached.
    """
    if crowd.compiled.horizon is None:
        return _stationary_plan(crowd, rewards)
    horizon = crowd.compiled.horizon
    value = torch.from_numpy(rewards.at(horizon))
    best: list[np.ndarray] = []
    for t in reversed(range(horizon)):
        value, chosen = _improve(crowd, t, torch.from_numpy(rewards.at(t)), value)
        best.append(chosen)
    return Plan(best[::-1], value[0].numpy())


def _stationary_plan(crowd: Crowd, rewards: Rewards) -> Plan:
    reward = torch.from_numpy(rewards.at(0))
    value = _settle(crowd, lambda value: _improve(crowd, 0, reward, value)[0], torch.zeros_like(reward))
    value, best = _improve(crowd, 0, reward, value)
    return Plan([best], value[0].numpy())


def _settle(crowd: Crowd, sweep: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """Repeats `sweep` until it changes nothing beyond `STATIONARY`. Raises UserError after `SWEEPS`."""
    for _ in range(SWEEPS):
        found = sweep(value)
        if bool((found - value).abs().max() <= STATIONARY * (1 + found.abs().max())):
            return found
        value = found
    raise UserError(f"{crowd.compiled.name}: values have not settled in {SWEEPS:,} sweeps; lower gamma_r")


def _improve(
    crowd: Crowd, t: int, reward: Float[Tensor, "n O"], value: Float[Tensor, "m O"]
) -> tuple[Float[Tensor, "n O"], Bool[np.ndarray, "n R O"]]:
    out = torch.empty_like(reward)
    best = np.empty((len(reward), crowd.kernel.robot_actions, reward.shape[1]), bool)
    for a, b, q in crowd.arriving(t, value):
        top = q.amax(1, keepdim=True)
        out[a:b] = reward[a:b] + top[:, 0]
        best[a:b] = (q >= top - TIE * (1 + top.abs())).numpy()
    return out, best


def returns(crowd: Crowd, rewards: Rewards, policy: Policy) -> Float[np.ndarray, "O"]:
    """Expected discounted sum of each reward from the initial state on, if the robots follow `policy`."""
    horizon = crowd.compiled.horizon
    if horizon is None:
        reward = torch.from_numpy(rewards.at(0))
        start = torch.zeros_like(reward)
        return _settle(crowd, lambda value: _follow(crowd, 0, policy, reward, value), start)[0].numpy()
    value = torch.from_numpy(rewards.at(horizon))
    for t in reversed(range(horizon)):
        value = _follow(crowd, t, policy, torch.from_numpy(rewards.at(t)), value)
    return value[0].numpy()


def _follow(
    crowd: Crowd, t: int, policy: Policy, reward: Float[Tensor, "n O"], value: Float[Tensor, "m O"]
) -> Float[Tensor, "n O"]:
    out, pi = torch.empty_like(reward), torch.from_numpy(policy(t, len(reward)))
    for a, b, q in crowd.arriving(t, value):
        out[a:b] = reward[a:b] + torch.einsum("nrk,nr->nk", q, pi[a:b])
    return out


def uniform(compiled: Compiled) -> Policy:
    """Every joint action of the robots is as likely as any other."""
    return lambda t, n: np.full((n, compiled.robot_actions), 1 / compiled.robot_actions)


def do_nothing(compiled: Compiled) -> Policy:
    """Every robot stays still; one that has no such action acts uniformly."""
    row = np.ones(1)
    for robot in compiled.robots:
        count, still = compiled.n_actions[robot], compiled.still[robot]
        own = np.full(count, 1 / count) if still is None else np.eye(count)[still]
        row = np.outer(row, own).ravel()
    return lambda t, n: np.tile(row, (n, 1))


def solved(solution: Solution) -> Policy:
    """The policy that a solution holds."""
    return lambda t, n: solution.at(t).pi[:n]
