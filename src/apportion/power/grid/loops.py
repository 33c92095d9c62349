"""Many states at once: successors of a batch, one drawn successor each, and the numbering of states. Compiled.

All of the rules are compiled into `batch` alone: once, because that takes seconds.
"""

from __future__ import annotations

import numpy as np

from apportion.power.grid.jit import inner, kernel
from apportion.power.grid.step import copy, outcomes_of


@kernel
def batch(r, states, joints, first, w, a, pa, b, pb, offsets, out, probs):
    """Successors of pairs `first` on, into out and probs from offsets[first]; w, a, pa, b, pb: scratch, see step.py.

    Returns the first pair not done: it stops where the room left in `out` might not be enough.
    """
    n = offsets[first]
    for k in range(first, states.shape[0]):
        if n + r.most > probs.size:
            return k
        m = outcomes_of(r, states[k], joints[k], w, a, pa, b, pb)
        for j in range(m):
            copy(a[j], out[n + j])
            probs[n + j] = pa[j]
        n += m
        offsets[k + 1] = n
    return states.shape[0]


@kernel
def pick(offsets, probs, noise, picked):
    """Per pair, the number of the successor in whose share of [0, 1) the noise falls."""
    for k in range(noise.size):
        j, left = offsets[k], noise[k]
        while j < offsets[k + 1] - 1 and left >= probs[j]:
            left -= probs[j]
            j += 1
        picked[k] = j


@inner
def slot_of(states, row, table):
    """The slot of the hash table that holds this state's number, or the empty one where it belongs."""
    h = np.uint64(1469598103934665603)
    for f in range(row.size):
        h = (h ^ np.uint64(np.uint16(row[f]))) * np.uint64(1099511628211)
    h ^= h >> np.uint64(29)
    mask = table.size - 1
    slot = np.int64(h & np.uint64(mask))
    while table[slot] >= 0:
        known = states[table[slot]]
        equal = True
        for f in range(row.size):
            if known[f] != row[f]:
                equal = False
                break
        if equal:
            break
        slot = (slot + 1) & mask
    return slot


@kernel
def number(states, count, table, rows, numbers):
    """Each row's number; rows not seen before are appended to `states`. Returns how many states are known then.

    `states` has room for all rows, `table` (a power of two long, -1 where empty) is at most half full then.
    """
    for k in range(rows.shape[0]):
        slot = slot_of(states, rows[k], table)
        if table[slot] < 0:
            table[slot] = count
            copy(rows[k], states[count])
            count += 1
        numbers[k] = table[slot]
    return count


@kernel
def enter(states, count, table):
    """Enters the first `count` states, all different, into an empty table."""
    for k in range(count):
        table[slot_of(states, states[k], table)] = k
