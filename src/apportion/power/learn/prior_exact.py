"""Phase 1 exactly: what humans do in every state at every time, looked up. For worlds that can be enumerated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Shaped
from torch import Tensor

from apportion.power import equations as eq
from apportion.power.accelerate import fixed_point
from apportion.power.cache import compile_world
from apportion.power.compiled import Compiled
from apportion.power.kernel import Kernel, make_kernel
from apportion.power.learn.starts import ManyStarts
from apportion.power.learn.states import keys_of
from apportion.power.memory import GIB, allowed
from apportion.power.params import PowerParams, check
from apportion.power.sweeps import chunk_states, phase_one
from apportion.power.world import World
from apportion.types import UserError

TOLERANCE = 1e-9  # without a horizon: of the largest change that one more sweep makes to V_h^m
SWEEPS = 3000
CHUNK_BYTES = 16 << 20
_KEY = 150  # bytes of a state's entry in a dictionary, beside its row
INSTEAD = "--human-prior shortest-path or learned needs no table"


class ExactPrior:
    """pi_h in float32, from float64 values, for all states that can be reached, time by time.

    Memory: 4 bytes for each time, state reached by then, human, goal and action. Raises UserError for worlds that
    cannot be enumerated and those whose table does not fit into `memory_limit` bytes (None: a share of what is free).
    """

    def __init__(
        self,
        world: World,
        params: PowerParams,
        *,
        memory_limit: int | None = None,
        say: Callable[[str], None] = lambda line: None,
    ):
        check(params, world.horizon)
        if isinstance(world, ManyStarts):
            raise UserError(f"{world.name} starts in many states, and --human-prior exact knows one start: {INSTEAD}")
        compiled = _compile(world, memory_limit)
        self._refuse_too_large(compiled, memory_limit)
        kernel = make_kernel(compiled)
        self.horizon, self._dtype = compiled.horizon, compiled.states.dtype
        self._number = {key: i for i, key in enumerate(keys_of(compiled.states))}
        self._attained = compiled.attained
        self._sizes, self._still = kernel.sizes, kernel.still
        if compiled.horizon is None:
            self._starts = np.zeros(1, np.int64)
            self._table = _stationary(kernel, params, compiled, say)
        else:
            self._starts, self._table = _backwards(kernel, params, compiled)

    def __call__(self, states: Shaped[np.ndarray, "n F"], t: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n H G A"]:
        """See HumanPrior. Raises ValueError for a state that so many steps do not lead to."""
        numbers = self.numbers(states)
        if self.horizon is None:
            return self._table[numbers]
        t = np.asarray(t, np.int64)
        over = t >= self.horizon
        rows = self._starts[np.minimum(t, self.horizon - 1)] + numbers
        ends = self._starts[np.minimum(t, self.horizon - 1) + 1]
        if np.any(bad := (rows >= ends) & ~over):
            i = int(np.flatnonzero(bad)[0])
            raise ValueError(
                f"state {states[i].tolist()} cannot be reached within {t[i]} steps: it has no policy there"
            )
        found = self._table[np.where(over, 0, rows)]
        if over.any():
            found[over] = self._idle(numbers[over])
        return found

    def numbers(self, states: Shaped[np.ndarray, "n F"]) -> Int[np.ndarray, "n"]:
        """The number of each state. Raises ValueError for one that the initial state does not lead to."""
        keys = keys_of(np.asarray(states, self._dtype))
        try:
            return np.fromiter(map(self._number.__getitem__, keys), np.int64, len(keys))
        except KeyError:
            unknown = next(i for i, key in enumerate(keys) if key not in self._number)
            raise ValueError(
                f"state {states[unknown].tolist()} cannot be reached from the initial state: the exact human prior "
                "does not know it"
            ) from None

    def _idle(self, numbers: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n H G A"]:
        """From the horizon on all actions are worth nothing."""
        attained = torch.from_numpy(self._attained[numbers])
        shape = attained.shape[::2]
        policies = [
            eq.human_policy(torch.zeros((*shape, size)), attained[:, h], 0.0, self._still[h])
            for h, size in enumerate(self._sizes)
        ]
        return _padded(policies)

    def state(self) -> dict[str, Any]:
        """Nothing: it follows from the world."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass

    @staticmethod
    def _refuse_too_large(compiled: Compiled, limit: int | None) -> None:
        n = len(compiled.states)
        times = [n] if compiled.horizon is None else [compiled.reached(t) for t in range(compiled.horizon)]
        humans, goals = compiled.attained.shape[1:]
        row = 4 * humans * goals * max(compiled.n_actions[h] for h in compiled.humans)
        states = n * (_KEY + compiled.states.itemsize * compiled.states.shape[1])
        needs, room = sum(times) * row + states + 2 * CHUNK_BYTES, allowed(limit)
        if needs > room:
            raise UserError(
                f"{compiled.name}: what humans do in {sum(times):,} states, counted with the time, takes "
                f"{needs / GIB:.3g} GiB, and {room / GIB:.3g} are free for it: give fewer steps (--horizon); {INSTEAD}"
            )


def _compile(world: World, memory_limit: int | None) -> Compiled:
    if not world.enumerable:
        raise UserError(
            f"{world.name} can only be sampled, and --human-prior exact needs transition probabilities: give "
            "--human-prior learned with --robot-belief mean, or module:Class"
        )
    try:
        return compile_world(world, None, memory_limit=memory_limit)
    except UserError as error:
        raise UserError(f"{error}; {INSTEAD}") from None


def _backwards(
    kernel: Kernel, params: PowerParams, compiled: Compiled
) -> tuple[Int[np.ndarray, "times"], Float32[np.ndarray, "rows H G A"]]:
    """(the first row of each time, pi_h of the states that can be reached by then), from the end to the start."""
    assert compiled.horizon is not None
    starts = np.cumsum([0, *(compiled.reached(t) for t in range(compiled.horizon))])
    humans, goals = kernel.attained.shape[1:]
    table = np.empty((int(starts[-1]), humans, goals, max(kernel.sizes)), np.float32)
    value = torch.zeros((compiled.reached(compiled.horizon), humans, goals), dtype=torch.float64)
    for t in reversed(range(compiled.horizon)):
        value = _sweep(kernel, params, value, compiled.reached(t), table[starts[t] : starts[t + 1]])
    return starts, table


def _stationary(
    kernel: Kernel, params: PowerParams, compiled: Compiled, say: Callable[[str], None]
) -> Float32[np.ndarray, "S H G A"]:
    """pi_h at the fixed point that longer and longer horizons lead to: the search starts at V_h^m = 0."""
    n, shape = len(compiled.states), kernel.attained.shape
    table = np.empty((*shape, max(kernel.sizes)), np.float32)

    def f(z: Tensor) -> Tensor:
        return _sweep(kernel, params, z.view(shape), n, table).flatten()

    start = torch.zeros(kernel.attained.numel(), dtype=torch.float64)
    found = fixed_point(f, start, TOLERANCE, SWEEPS, lambda z: z.clamp(0, 1))
    if not found.converged:
        say(f"the human prior has not converged: after {found.sweeps} sweeps V_h^m changes by {found.residual:.1e}")
    f(found.z)
    return table


def _sweep(
    kernel: Kernel, params: PowerParams, following: Float[Tensor, "m H G"], n: int, out: Float32[np.ndarray, "n H G A"]
) -> Float[Tensor, "n H G"]:
    """V_h^m of states [0, n) from that of the time after; what humans do goes into `out`."""
    arriving = eq.first_attainment(kernel.attained[: len(following)], following, params.gamma_h).flatten(1)
    chunk, values = chunk_states(kernel, CHUNK_BYTES), []
    for a in range(0, n, chunk):
        b = min(a + chunk, n)
        policies, value = phase_one(kernel, params, a, b, arriving)
        out[a:b] = _padded(policies)
        values.append(value)
    return torch.cat(values)


def _padded(policies: list[Float[Tensor, "n G _"]]) -> Float32[np.ndarray, "n H G A"]:
    """One array for all humans, 0 beyond a human's own actions."""
    most = max(policy.shape[2] for policy in policies)
    padded = [torch.nn.functional.pad(policy, (0, most - policy.shape[2])) for policy in policies]
    return torch.stack(padded, 1).numpy().astype(np.float32)
