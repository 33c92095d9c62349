"""One step of everybody: all successors of a state under a joint action, with their exact probabilities. Compiled.

r: Rules, s: the state, w: scratch (ROWS, N) int64, a and b: (r.most, F) buffers of states with weights pa and pb.
Each stage takes the m states in a to more states in a: normal actions, unsteady ground, magic walls, bushes.
"""

from __future__ import annotations

from apportion.power.grid.actions import (
    agent_at,
    ahead,
    covered,
    execute,
    forward,
    landing,
    portable_at,
    pushable_at,
    start_of_another,
)
from apportion.power.grid.jit import inner
from apportion.power.grid.layout import (
    BUSH,
    CARRY,
    COLOUR,
    DETAIL,
    DIR,
    DROP,
    FIELD,
    FORCED,
    FORWARD,
    GREY,
    GROUND,
    HUMAN,
    KILL,
    KIND_FIRST,
    MAGIC,
    MAGICIAN,
    PAUSE,
    PER_AGENT,
    PICKUP,
    POS,
    STATUS,
    STILL,
    TOGGLE,
    UNSTEADY,
    YELLOW,
)

# Rows of w: per agent, but RESOURCE and SIZE per conflict block; AGENTS, TURN and TARGET per agent that is on unsteady
# ground in the state at hand.
OP, CLASS, START, BLOCK, RESOURCE, SIZE, AGENTS, TURN, TARGET, WINNER, ROWS = range(11)
IDLE, NORMAL, ON_UNSTEADY, TO_MAGIC, TO_BUSH = range(5)
_TEAM = -1  # the resource of all who press a kill button or a pause switch, and of those whom it would stop
_ANY_SIDE = 4


@inner
def copy(source, target):
    for f in range(source.size):  # a slice assignment would take longer to compile than all of the rules
        target[f] = source[f]


@inner
def copy_all(b, pb, m, a, pa):
    for k in range(m):
        copy(b[k], a[k])
        pa[k] = pb[k]


@inner
def enters_magic(r, s, i, cell):
    """Whether i faces an active magic wall from its side, and nobody is in it."""
    if r.cells[cell, GROUND] != MAGIC or r.who[i, MAGICIAN] == 0:
        return False
    if s[r.cells[cell, FIELD]] != 0 or agent_at(r, s, cell):
        return False
    side = (s[i * PER_AGENT + DIR] + 2) & 3
    return r.cells[cell, DETAIL] == _ANY_SIDE or r.cells[cell, DETAIL] == side


@inner
def class_of(r, s, i, op):
    if op != FORWARD:
        return NORMAL
    cell = ahead(r, s, i)
    if enters_magic(r, s, i, cell):
        return TO_MAGIC
    bush = r.cells[cell, GROUND] == BUSH and s[r.cells[cell, FIELD]] == 0 and not covered(r, s, cell)
    if bush and r.who[i, HUMAN] == 1 and r.bush < 1.0:
        return TO_BUSH
    if r.cells[s[i * PER_AGENT + POS], GROUND] == UNSTEADY:
        return ON_UNSTEADY
    return NORMAL


@inner
def presses(r, s, i, op):
    """Whether i presses an enabled kill button or pause switch."""
    if op != TOGGLE or r.who[i, COLOUR] != YELLOW:
        return False
    cell = ahead(r, s, i)
    t = r.cells[cell, GROUND]
    return t in (KILL, PAUSE) and s[r.cells[cell, FIELD]] & 1 == 1 and not covered(r, s, cell)


@inner
def resource(r, s, i, op, p0):
    """The cell that a normal agent wants, or a number below _TEAM that is its own."""
    alone = _TEAM - 1 - i
    cell = ahead(r, s, i)
    if op == FORWARD:
        if pushable_at(r, s, cell) == 0:
            return cell
        land = landing(r, s, i, cell, r.delta[s[i * PER_AGENT + DIR]], p0)
        return land if land >= 0 else alone
    carrying = s[i * PER_AGENT + CARRY] != 0
    if op == PICKUP and not carrying and portable_at(r, s, cell) >= 0:
        return cell
    if op == DROP and carrying and agent_at(r, s, cell):
        return cell
    return alone


@inner
def prepare(r, s, joint, w):
    """What each agent does, in which class, and where it starts. Returns which classes occur, as bits."""
    classes = 0
    for i in range(r.who.shape[0]):
        me = i * PER_AGENT
        forced = s[me + FORCED]
        w[OP, i] = r.ops[joint[i]] if forced == 0 else forced - 1
        w[START, i] = -1 if s[me + STATUS] & 1 else s[me + POS]
        w[CLASS, i] = IDLE
        if s[me + STATUS] == 0 and w[OP, i] != STILL:
            w[CLASS, i] = class_of(r, s, i, w[OP, i])
        classes |= 1 << w[CLASS, i]
    return classes


@inner
def form_blocks(r, s, w):
    """Conflict blocks of the normal agents, numbered as their resources first appear. Returns (blocks, outcomes)."""
    team = False
    for i in range(r.who.shape[0]):
        if w[CLASS, i] == NORMAL and presses(r, s, i, w[OP, i]):
            team = True
    blocks = 0
    for i in range(r.who.shape[0]):
        w[BLOCK, i] = -1
        if w[CLASS, i] != NORMAL:
            continue
        if team and (r.who[i, COLOUR] == GREY or presses(r, s, i, w[OP, i])):
            want = _TEAM
        else:
            want = resource(r, s, i, w[OP, i], w[START])
        block = 0
        while block < blocks and w[RESOURCE, block] != want:
            block += 1
        if block == blocks:
            w[RESOURCE, block] = want
            w[SIZE, block] = 0
            blocks += 1
        w[BLOCK, i] = block
        w[SIZE, block] += 1
    outcomes = 1
    for block in range(blocks):
        outcomes *= w[SIZE, block]
    return blocks, outcomes


@inner
def nth_of_block(w, block, n):
    for i in range(w.shape[1]):
        if w[BLOCK, i] == block:
            if n == 0:
                return i
            n -= 1
    return -1


@inner
def normal_stage(r, s, w, a, pa):
    """One state for each way in which the conflicts can be won."""
    blocks, outcomes = form_blocks(r, s, w)
    for k in range(outcomes):
        row = a[k]
        copy(s, row)
        for i in range(r.who.shape[0]):
            row[i * PER_AGENT + FORCED] = 0
            w[WINNER, i] = 0
        rest = k
        for block in range(blocks):
            i = nth_of_block(w, block, rest % w[SIZE, block])
            rest //= w[SIZE, block]
            w[WINNER, i] = 1
            execute(r, row, i, w[OP, i], w[START])
        for i in range(r.who.shape[0]):
            if w[CLASS, i] == NORMAL and w[WINNER, i] == 0:
                execute(r, row, i, w[OP, i], w[START])
        pa[k] = 1.0 / outcomes
    return outcomes


@inner
def move_unsteady(r, s, w, count):
    """The unsteady agents w[AGENTS, :count] have turned; those that are not in each other's way go on, by index."""
    for k in range(count):
        i = w[AGENTS, k]
        cell = ahead(r, s, i)
        w[TARGET, k] = cell
        if pushable_at(r, s, cell) != 0:
            land = landing(r, s, i, cell, r.delta[s[i * PER_AGENT + DIR]], w[START])
            if land >= 0:
                w[TARGET, k] = land
    for k in range(count):  # nobody has moved yet
        i = w[AGENTS, k]
        blocked = agent_at(r, s, w[TARGET, k]) or start_of_another(w[START], i, w[TARGET, k])
        for j in range(count):
            blocked = blocked or (j != k and w[TARGET, j] == w[TARGET, k])
        w[TURN, k] = 0 if blocked else 1
    for k in range(count):
        if w[TURN, k]:
            forward(r, s, w[AGENTS, k], w[START])


@inner
def unsteady_stage(r, w, a, pa, m, b, pb):
    """Straight on with 1 - stumble, or a turn to the left or right first, each independently."""
    out = 0
    for source in range(m):
        count = 0
        for i in range(r.who.shape[0]):
            if w[CLASS, i] == ON_UNSTEADY and a[source, i * PER_AGENT + STATUS] == 0:
                w[AGENTS, count] = i
                count += 1
        turns = 1
        for _ in range(count):
            turns *= 3
        for k in range(turns):
            weight, rest = pa[source], k
            copy(a[source], b[out])
            for n in range(count):
                turn = rest % 3  # 0 straight, 1 right, 2 left
                rest //= 3
                weight *= 1.0 - r.stumble if turn == 0 else 0.5 * r.stumble
                field = w[AGENTS, n] * PER_AGENT + DIR
                b[out, field] = (b[out, field] + (3 if turn == 2 else turn)) & 3
            if weight > 0.0:
                move_unsteady(r, b[out], w, count)
                pb[out] = weight
                out += 1
    return out


@inner
def magic_agent(r, w, i, a, pa, m, b, pb):
    """Through with 1/2; else the wall turns solid with `solidify`; else nothing."""
    out = 0
    for source in range(m):
        copy(a[source], b[out])
        pb[out] = pa[source]
        cell = ahead(r, a[source], i)
        may = a[source, i * PER_AGENT + STATUS] == 0 and not start_of_another(w[START], i, cell)
        if not may or not enters_magic(r, a[source], i, cell):
            out += 1
            continue
        b[out, i * PER_AGENT + POS] = cell
        pb[out] *= 0.5
        out += 1
        for solid in range(2):
            weight = 0.5 * (r.solidify if solid else 1.0 - r.solidify)
            if weight > 0.0:
                copy(a[source], b[out])
                if solid:
                    b[out, r.cells[cell, FIELD]] = 1
                pb[out] = pa[source] * weight
                out += 1
    return out


@inner
def bush_agent(r, w, i, a, pa, m, b, pb):
    """Into the bush with probability `bush`, if nobody is in it by now."""
    out = 0
    for source in range(m):
        copy(a[source], b[out])
        cell = ahead(r, a[source], i)
        free = not covered(r, a[source], cell) and not start_of_another(w[START], i, cell)
        if not free or a[source, i * PER_AGENT + STATUS] != 0:
            pb[out] = pa[source]
            out += 1
            continue
        if r.bush > 0.0:
            forward(r, b[out], i, w[START])
            pb[out] = pa[source] * r.bush
            out += 1
            copy(a[source], b[out])
        pb[out] = pa[source] * (1.0 - r.bush)
        out += 1
    return out


@inner
def sort_fields(s, first, last):
    """Insertion sort: identical objects are interchangeable, and almost in order."""
    for f in range(first + 1, last):
        value = s[f]
        g = f
        while g > first and s[g - 1] > value:
            s[g] = s[g - 1]
            g -= 1
        s[g] = value


@inner
def merge(r, a, pa, m):
    """Brings each state to its one form and adds up the weights of equal ones."""
    kept = 0
    for k in range(m):
        row = a[k]
        sort_fields(row, r.first_block, r.first_rock)
        sort_fields(row, r.first_rock, r.first_portable)
        for kind in range(r.kinds.shape[0] - 1):
            sort_fields(row, r.kinds[kind, KIND_FIRST], r.kinds[kind + 1, KIND_FIRST])
        same = -1
        for j in range(kept):
            equal = True
            for f in range(row.size):
                if a[j, f] != row[f]:
                    equal = False
                    break
            if equal:
                same = j
                break
        if same >= 0:
            pa[same] += pa[k]
        else:
            if kept != k:
                copy(row, a[kept])
                pa[kept] = pa[k]
            kept += 1
    return kept


@inner
def outcomes_of(r, s, joint, w, a, pa, b, pb):
    """All successors, each once, in a[:m] with probabilities pa[:m]. Returns m."""
    classes = prepare(r, s, joint, w)
    m = normal_stage(r, s, w, a, pa)
    if classes & (1 << ON_UNSTEADY):
        m = unsteady_stage(r, w, a, pa, m, b, pb)
        copy_all(b, pb, m, a, pa)
    for stage in (TO_MAGIC, TO_BUSH):
        if classes & (1 << stage):
            for i in range(r.who.shape[0]):
                if w[CLASS, i] == stage:
                    if stage == TO_MAGIC:
                        m = magic_agent(r, w, i, a, pa, m, b, pb)
                    else:
                        m = bush_agent(r, w, i, a, pa, m, b, pb)
                    copy_all(b, pb, m, a, pa)
    return merge(r, a, pa, m)
