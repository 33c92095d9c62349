"""What a human can bring about within k steps of a state: how many outcomes, how spread, and how much of it is theirs.

The channel of human h in state s: the inputs are the A^k sequences of h's actions, the outputs what h then observes.
Meanwhile the robots stay still and the other humans act uniformly at random. Letters: n states, H humans, W sequences,
O observations, k steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from apportion.power.compiled import Compiled
from apportion.types import UserError

try:
    from numba import njit
except ModuleNotFoundError:
    raise UserError("empowerment needs numba: pip install 'apportion[power]'") from None

COUNT: Literal[0] = 0  # columns of what `influence` returns
ENTROPY: Literal[1] = 1
CAPACITY: Literal[2] = 2
BITS = 1e-6  # of the capacity: where Blahut and Arimoto's two bounds have come this near, the iteration ends
ITERATIONS = 5000  # at most; the lower bound is the answer then too
LARGEST = 2**26  # entries of one state's channel: 512 MB


def _kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    return njit(cache=True)(inspect.unwrap(function))  # the tests' import hook wraps every function


def observations(compiled: Compiled) -> Int[np.ndarray, "S H"]:
    """What each human observes of each state: which goals hold, as a number.

    Goals cover every cell on which a human can be, so in a grid with a goal for each cell it is where the human is.
    """
    packed = np.packbits(compiled.attained, axis=2)  # (S, H, bytes)
    rows = np.ascontiguousarray(packed).reshape(-1, packed.shape[2]).view(np.dtype((np.void, packed.shape[2])))
    return np.unique(rows.ravel(), return_inverse=True)[1].reshape(packed.shape[:2]).astype(np.int32)


def influence(compiled: Compiled, steps: int) -> list[Float[np.ndarray, "_ H 3"]]:
    """For k = 1, ..., steps: what k steps of each human can bring about, of the states that have k steps left or more.

    Row s, column h: log2 of the number of observations that can follow (COUNT); the entropy in bits of the observation
    if h too acts uniformly at random (ENTROPY); the capacity in bits of the channel from h's actions to the
    observation (CAPACITY; n-step empowerment, Klyubin, Polani & Nehaniv 2005, found by the algorithm of Blahut 1972 and
    Arimoto 1972). 0 <= CAPACITY <= COUNT, up to `BITS`; without chance the two are equal. Entry k - 1 has one row for
    every state of `compiled.reached(horizon - k)`, or for every state where there is no horizon; a shorter horizon has
    fewer entries. A state without successors is never left. Raises UserError where A^steps sequences do not fit.
    """
    seen = observations(compiled)
    longest = max(compiled.n_actions[h] for h in compiled.humans) ** steps
    if longest * min(int(seen.max()) + 1, len(compiled.states)) > LARGEST:
        raise UserError(
            f"{compiled.name}: empowerment in {steps} steps has {longest:,} sequences of actions, too many: fewer steps"
        )
    out = []
    for k in range(1, steps + 1 if compiled.horizon is None else min(steps, compiled.horizon) + 1):
        n = len(compiled.states) if compiled.horizon is None else compiled.reached(compiled.horizon - k)
        table = np.empty((n, len(compiled.humans), 3))
        for column, human in enumerate(compiled.humans):
            joints, weights = meanwhile(compiled, human)
            rows = compiled.indptr, compiled.indices, compiled.probs, compiled.joint_actions
            table[:, column] = _influence(*rows, joints, weights, np.ascontiguousarray(seen[:, column]), n, k)
        out.append(table)
    return out


def meanwhile(compiled: Compiled, human: int) -> tuple[Int[np.ndarray, "A M"], Float[np.ndarray, "M"]]:
    """The joint actions that may go with each action of `human`, and their probabilities.

    Robots are still; a robot that cannot be still, and every other human, acts uniformly at random.
    """
    grid = np.indices(compiled.n_actions).reshape(len(compiled.n_actions), -1)  # (N, J)
    weight = np.ones(grid.shape[1])
    for agent, count in enumerate(compiled.n_actions):
        still = compiled.still[agent]
        if agent == human:
            continue
        if agent in compiled.robots and still is not None:
            weight *= grid[agent] == still
        else:
            weight /= count
    joints = [np.flatnonzero((grid[human] == action) & (weight > 0)) for action in range(compiled.n_actions[human])]
    return np.stack(joints).astype(np.int64), weight[joints[0]]


@_kernel
def _influence(indptr, indices, probs, joint_actions, joints, weights, seen, n, k):
    """(n, 3) of `influence` for one human and one k."""
    actions = joints.shape[0]
    sequences = actions**k
    size = len(seen)
    ids = np.empty((k + 1, size), np.int64)  # the states that d steps lead to, and their probabilities
    mass = np.empty((k + 1, size))
    filled = np.zeros(k + 1, np.int64)
    place = np.full(size, -1, np.int64)
    column = np.full(seen.max() + 1, -1, np.int64)  # of an observation in the channel
    known = np.empty(len(column), np.int64)
    channel = np.zeros((sequences, min(len(column), size)))
    digits = np.empty(k, np.int64)
    out = np.empty((n, 3))
    for s in range(n):
        ids[0, 0], mass[0, 0], filled[0] = s, 1.0, 1
        outputs = 0
        for w in range(sequences):
            rest, fresh = w, k  # digits from `fresh` on differ from those of the sequence before
            for d in range(k - 1, -1, -1):
                digit = rest % actions
                rest //= actions
                if w == 0 or digit != digits[d]:
                    fresh = d
                digits[d] = digit
            for d in range(fresh, k):
                row = joints[digits[d]]
                filled[d + 1] = _advance(
                    indptr, indices, probs, joint_actions, row, weights,
                    ids[d], mass[d], filled[d], ids[d + 1], mass[d + 1], place,
                )  # fmt: skip
            for i in range(filled[k]):
                o = seen[ids[k, i]]
                if column[o] < 0:
                    column[o] = outputs
                    known[outputs] = o
                    outputs += 1
                channel[w, column[o]] += mass[k, i]
        _measures(channel, outputs, out[s])
        for i in range(outputs):
            column[known[i]] = -1
        for w in range(sequences):
            for i in range(outputs):
                channel[w, i] = 0.0
    return out


@_kernel
def _advance(indptr, indices, probs, joint_actions, joints, weights, ids, mass, count, new_ids, new_mass, place):
    """One step of a distribution over states; how many states it then has. `place` is -1 before and after."""
    total = 0
    for i in range(count):
        base = ids[i] * joint_actions
        for m in range(len(joints)):
            row = base + joints[m]
            share = mass[i] * weights[m]
            first, last = indptr[row], indptr[row + 1]
            for e in range(first, max(last, first + 1)):
                to = indices[e] if last > first else ids[i]
                if place[to] < 0:
                    place[to] = total
                    new_ids[total], new_mass[total] = to, 0.0
                    total += 1
                new_mass[place[to]] += share * (probs[e] if last > first else 1.0)
    for i in range(total):
        place[new_ids[i]] = -1
    return total


@_kernel
def _measures(channel, outputs, out):
    """COUNT, ENTROPY and CAPACITY of a channel (W, `outputs` of O), each of whose outputs is possible, into `out`."""
    sequences = channel.shape[0]
    entropy = 0.0
    for o in range(outputs):
        p = 0.0
        for w in range(sequences):
            p += channel[w, o] / sequences
        entropy -= p * np.log2(p)
    out[0] = np.log2(outputs)
    out[1] = max(entropy, 0.0)
    out[2] = capacity(channel[:, :outputs])


@_kernel
def capacity(channel):
    """max over p(w) of I(w; o) in bits, for p(o|w) = channel (W, O) (Blahut 1972; Arimoto 1972)."""
    first = _distinct(channel)
    inputs, outputs = len(first), channel.shape[1]
    certain = True
    for w in first:
        for o in range(outputs):
            certain = certain and (channel[w, o] < 1e-12 or channel[w, o] > 1.0 - 1e-12)
    if certain:  # each input has one output, and no two the same
        return np.log2(inputs)
    p = np.full(inputs, 1.0 / inputs)
    q = np.empty(outputs)
    gain = np.empty(inputs)
    low = 0.0
    for _ in range(ITERATIONS):
        q[:] = 0.0
        for i in range(inputs):
            for o in range(outputs):
                q[o] += p[i] * channel[first[i], o]
        high, total = 0.0, 0.0
        for i in range(inputs):
            gain[i] = 0.0
            for o in range(outputs):
                r = channel[first[i], o]
                if r > 0.0:
                    gain[i] += r * np.log2(r / q[o])
            high = max(high, gain[i])
            total += p[i] * 2.0 ** gain[i]
        low = np.log2(total)  # low <= capacity <= high
        if high - low < BITS:
            break
        for i in range(inputs):
            p[i] *= 2.0 ** gain[i] / total
    return max(low, 0.0)


@_kernel
def _distinct(channel):
    """The first of each set of equal inputs: the others add nothing to the capacity, and there are many."""
    kept = np.empty(channel.shape[0], np.int64)
    count = 0
    for w in range(channel.shape[0]):
        fresh = True
        for i in range(count):
            apart = 0.0
            for o in range(channel.shape[1]):
                apart = max(apart, abs(channel[kept[i], o] - channel[w, o]))
            fresh = fresh and apart > 1e-12
        if fresh:
            kept[count] = w
            count += 1
    return kept[:count]
