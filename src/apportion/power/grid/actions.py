"""What one agent's action does to a state, in place. Compiled; r: Rules, s: one state, i: an agent.

p0 holds the cells of the agents that were alive when the step began, -1 for the dead: nobody enters or pushes into
another's, so there are no trains and no swaps.
"""

from __future__ import annotations

from apportion.power.grid.jit import inner
from apportion.power.grid.layout import (
    BUSH,
    CARRY,
    CLOSED,
    COLOUR,
    CONTROL,
    DEAD,
    DETAIL,
    DIR,
    DISABLE,
    DOOR,
    DROP,
    FIELD,
    FLOOR,
    FORCED,
    FORWARD,
    GREY,
    GROUND,
    KILL,
    KIND_COLOUR,
    KIND_FIRST,
    KIND_INSIDE,
    KIND_TYPE,
    LAVA,
    LEFT,
    OPEN,
    PAUSE,
    PAUSED,
    PER_AGENT,
    PICKUP,
    POS,
    PUSHER,
    RIGHT,
    ROBOT,
    STATUS,
    TOGGLE,
    UNSTEADY,
    YELLOW,
)

_KEY, _BOX = 0, 2  # in PORTABLE


@inner
def ahead(r, s, i):
    return s[i * PER_AGENT + POS] + r.delta[s[i * PER_AGENT + DIR]]


@inner
def agent_at(r, s, cell):
    for i in range(r.who.shape[0]):  # noqa: SIM110 - a generator would not compile
        if s[i * PER_AGENT + POS] == cell:
            return True
    return False


@inner
def start_of_another(p0, i, cell):
    for j in range(p0.size):  # noqa: SIM110
        if j != i and p0[j] == cell:
            return True
    return False


@inner
def pushable_at(r, s, cell):
    """0 nothing, 1 a block, 2 a rock."""
    for f in range(r.first_block, r.first_rock):
        if s[f] == cell:
            return 1
    for f in range(r.first_rock, r.first_portable):
        if s[f] == cell:
            return 2
    return 0


@inner
def portable_at(r, s, cell):
    """The field of the key, ball or box that lies there, or -1."""
    for f in range(r.first_portable, r.first_device):
        if s[f] == cell:
            return f
    return -1


@inner
def kind_of(r, field):
    k = 0
    while field >= r.kinds[k + 1, KIND_FIRST]:
        k += 1
    return k


@inner
def covered(r, s, cell):
    """Whether an agent or an object stands on what else is there."""
    return agent_at(r, s, cell) or pushable_at(r, s, cell) != 0 or portable_at(r, s, cell) >= 0


@inner
def open_ground(r, s, cell):
    """Whether objects may stand there: floor, lava, unsteady ground, an open door, a trampled bush."""
    t = r.cells[cell, GROUND]
    if t == DOOR:
        return s[r.cells[cell, FIELD]] == OPEN
    if t == BUSH:
        return s[r.cells[cell, FIELD]] == 1
    return t in (FLOOR, LAVA, UNSTEADY)


@inner
def landing(r, s, i, cell, step, p0):
    """Where the last object of the row that begins at `cell` would land, or -1 if i cannot push it."""
    while True:
        what = pushable_at(r, s, cell)
        if what == 0:
            break
        if what == 2 and r.who[i, PUSHER] == 0:
            return -1
        cell += step
    if not open_ground(r, s, cell) or covered(r, s, cell) or start_of_another(p0, i, cell):
        return -1
    return cell


@inner
def push(r, s, cell, land, step):
    """Moves the row of objects from `cell` to before `land` by one cell, the last first."""
    while land != cell:
        for f in range(r.first_block, r.first_portable):
            if s[f] == land - step:
                s[f] = land
                break
        land -= step


@inner
def forward(r, s, i, p0):
    me = i * PER_AGENT
    cell = ahead(r, s, i)
    if start_of_another(p0, i, cell) or agent_at(r, s, cell):
        return
    step = r.delta[s[me + DIR]]
    if pushable_at(r, s, cell) != 0:
        land = landing(r, s, i, cell, step, p0)
        if land >= 0:
            push(r, s, cell, land, step)
            s[me + POS] = cell  # lava below what is pushed does not kill in this step
        return
    if portable_at(r, s, cell) >= 0:
        return
    if r.cells[cell, GROUND] == BUSH:
        if r.who[i, ROBOT] == 1 or r.who[i, PUSHER] == 1:
            s[r.cells[cell, FIELD]] = 1
        s[me + POS] = cell
    elif open_ground(r, s, cell):
        s[me + POS] = cell
        if r.cells[cell, GROUND] == LAVA:
            s[me + STATUS] |= DEAD


@inner
def pickup(r, s, i):
    field = portable_at(r, s, ahead(r, s, i))
    if field >= 0 and s[i * PER_AGENT + CARRY] == 0:
        s[i * PER_AGENT + CARRY] = kind_of(r, field) + 1
        s[field] = -1


@inner
def put(r, s, kind, cell):
    """Lays one of this kind on the floor. There is a free field for each that is carried or in a box."""
    for f in range(r.kinds[kind, KIND_FIRST], r.kinds[kind + 1, KIND_FIRST]):
        if s[f] < 0:
            s[f] = cell
            return


@inner
def drop(r, s, i):
    kind = s[i * PER_AGENT + CARRY] - 1
    cell = ahead(r, s, i)
    if kind >= 0 and open_ground(r, s, cell) and not covered(r, s, cell):
        put(r, s, kind, cell)
        s[i * PER_AGENT + CARRY] = 0


@inner
def toggle_door(r, s, i, cell):
    door = r.cells[cell, FIELD]
    if s[door] == OPEN:
        s[door] = CLOSED
    elif s[door] == CLOSED:
        s[door] = OPEN
    else:
        kind = s[i * PER_AGENT + CARRY] - 1
        if kind >= 0 and r.kinds[kind, KIND_TYPE] == _KEY and r.kinds[kind, KIND_COLOUR] == r.cells[cell, DETAIL]:
            s[door] = OPEN


@inner
def set_paused(r, s, paused):
    for j in range(r.who.shape[0]):
        if r.who[j, COLOUR] == GREY:
            if paused:
                s[j * PER_AGENT + STATUS] |= PAUSED
            else:
                s[j * PER_AGENT + STATUS] &= ~PAUSED


@inner
def toggle_control(r, s, i, cell):
    """Grey: the button waits for this agent's next action. Yellow: plays the recorded one, in the next step."""
    button = r.cells[cell, FIELD]
    if s[button] & 1 == 0:
        return
    recorded = (s[button] >> 2) & 15
    if r.who[i, COLOUR] == GREY:
        s[button] = 1 | 2 | (recorded << 2) | ((i + 1) << 6)
    elif r.who[i, COLOUR] == YELLOW and recorded > 0:
        s[((s[button] >> 6) - 1) * PER_AGENT + FORCED] = recorded


@inner
def disable(r, s, terrain):
    """Flips `enabled` of every device of one kind. A pause switch that is on lets go when it is disabled."""
    for d in range(r.device_cell.size):
        if r.cells[r.device_cell[d], GROUND] == terrain:
            field = r.first_device + d
            s[field] ^= 1
            if terrain == PAUSE and s[field] == 2:
                set_paused(r, s, False)


@inner
def toggle(r, s, i):
    cell = ahead(r, s, i)
    if agent_at(r, s, cell) or pushable_at(r, s, cell) != 0:
        return
    field = portable_at(r, s, cell)
    if field >= 0:
        kind = kind_of(r, field)
        if r.kinds[kind, KIND_TYPE] == _BOX:
            s[field] = -1
            if r.kinds[kind, KIND_INSIDE] >= 0:
                put(r, s, r.kinds[kind, KIND_INSIDE], cell)
        return
    t = r.cells[cell, GROUND]
    if t == DOOR:
        toggle_door(r, s, i, cell)
    elif t == KILL:
        if s[r.cells[cell, FIELD]] == 1 and r.who[i, COLOUR] == YELLOW:
            for j in range(r.who.shape[0]):
                if r.who[j, COLOUR] == GREY:
                    s[j * PER_AGENT + STATUS] |= DEAD
    elif t == PAUSE:
        if s[r.cells[cell, FIELD]] & 1 and r.who[i, COLOUR] == YELLOW:
            s[r.cells[cell, FIELD]] ^= 2
            set_paused(r, s, s[r.cells[cell, FIELD]] & 2 != 0)
    elif t == DISABLE:
        if r.who[i, COLOUR] == GREY:
            disable(r, s, r.cells[cell, DETAIL])
    elif t == CONTROL:
        toggle_control(r, s, i, cell)


@inner
def record(r, s, i, op):
    """Control buttons that await this agent's action take this one."""
    for d in range(r.device_cell.size):
        if r.cells[r.device_cell[d], GROUND] == CONTROL:
            field = r.first_device + d
            if s[field] & 2 and s[field] >> 6 == i + 1:
                s[field] = (s[field] & 1) | ((op + 1) << 2) | ((i + 1) << 6)


@inner
def execute(r, s, i, op, p0):
    """One normal action. Who has died or been paused in this step does nothing."""
    me = i * PER_AGENT
    if s[me + STATUS] != 0:
        return
    record(r, s, i, op)
    if op == LEFT:
        s[me + DIR] = (s[me + DIR] + 3) & 3
    elif op == RIGHT:
        s[me + DIR] = (s[me + DIR] + 1) & 3
    elif op == FORWARD:
        forward(r, s, i, p0)
    elif op == PICKUP:
        pickup(r, s, i)
    elif op == DROP:
        drop(r, s, i)
    elif op == TOGGLE:
        toggle(r, s, i)
