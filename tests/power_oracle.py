"""The rules of the grid worlds once more: plain, slow, obvious Python, written from the specification alone.

A state is hashable: agents, things (blocks, rocks, keys, balls, boxes) and devices by cell. `successors` returns a
dictionary from state to probability. Nothing of the package is imported: tests compare the two.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

STEP = [(1, 0), (0, 1), (-1, 0), (0, -1)]  # dir 0 east, 1 south, 2 west, 3 north
SMALL = ["still", "left", "right", "forward"]
OBJECT = [*SMALL, "pickup", "drop", "toggle"]
ACTIONS = {"small": SMALL, "object": OBJECT, "full": [*OBJECT, "done"], "minimal": ["forward", "left"]}
COLORS = {"r": "red", "g": "green", "b": "blue", "p": "purple", "y": "yellow", "e": "grey"}
TERRAIN = {"La": "lava", "Sw": "switch", "Un": "unsteady"}
SIDES = {"Mn": [1], "Ms": [3], "Mw": [0], "Me": [2], "Ma": [0, 1, 2, 3]}  # the dir of an agent that comes from there
CARRIABLE = ("key", "ball", "box")


class Agent(NamedTuple):
    x: int
    y: int
    dir: int
    dead: bool = False
    paused: bool = False
    carries: tuple[str, str] | None = None  # (kind, colour)
    forced: int | None = None

    @property
    def cell(self):
        return self.x, self.y

    @property
    def ahead(self):
        dx, dy = STEP[self.dir]
        return self.x + dx, self.y + dy


class State(NamedTuple):
    agents: tuple[Agent, ...]
    things: tuple  # sorted ((x, y), (kind, colour))
    devices: tuple  # sorted ((x, y), (kind, ...))


class Oracle:
    """One world. Devices: ("door", colour, "open" | "closed" | "locked"), ("bush", trampled), ("magic", side, active),
    ("kill", enabled), ("pause", enabled, on), ("disable", kind), ("control", enabled, agent, recorded, awaiting)."""

    def __init__(self, config):
        rows = [row.split() for row in config["map"].strip().splitlines()]
        self.width, self.height = len(rows[0]), len(rows)
        self.terrain, things, devices, agents, self.colors = {}, {}, {}, [], []
        for y, row in enumerate(rows):
            for x, code in enumerate(row):
                self.read_cell((x, y), code, things, devices, agents)
        facing = config.get("orientations", [])
        facing = facing if isinstance(facing, list) else []  # "default: all east" in a reference file
        for i, word in enumerate(facing):
            agents[i] = agents[i]._replace(dir="eswn".index(word) if isinstance(word, str) else word)
        self.humans = [i for i, color in enumerate(self.colors) if color == "yellow"]
        self.robots = [i for i, color in enumerate(self.colors) if color == "grey"]
        pushers = [COLORS[letter] for letter in config.get("can_push_rocks", "e")]
        self.may_push_rocks = [color in pushers for color in self.colors]
        self.may_enter_magic = [COLORS.get(c) for c in config.get("can_enter_magic_walls", "")]
        self.stumble = config.get("stumble_probability", 0.5)
        self.solidify = config.get("solidify_probability", 0.1)
        self.bush = config.get("enter_bush_success_prob", 1.0)
        self.horizon = config.get("max_steps", 100)
        kinds = {what[0] for what in [*things.values(), *devices.values()]}
        plain = kinds <= {"block", "rock", "bush", "magic"}
        self.actions = ACTIONS[config.get("action_class", "small" if plain else "object")]
        self.n_actions = (len(self.actions),) * len(self.colors)
        self.still = (self.actions.index("still") if "still" in self.actions else None,) * len(self.colors)
        self.goals = [cells_of(goal) for goal in config.get("possible_goals", [])]
        self.start = freeze(agents, things, devices)

    def read_cell(self, cell, code, things, devices, agents):
        first, second = code
        color = COLORS.get(second)
        if first == "W":
            self.terrain[cell] = "wall"
        elif code in TERRAIN:
            self.terrain[cell] = TERRAIN[code]
        elif code in ("Bl", "Ro"):
            things[cell] = ("block" if code == "Bl" else "rock", "")
        elif code == "Bu":
            devices[cell] = ("bush", False)
        elif code in SIDES:
            devices[cell] = ("magic", code, True)
        elif code in ("Kb", "Ki"):
            devices[cell] = ("kill", True)
        elif code in ("Ps", "Pa"):
            devices[cell] = ("pause", True, False)
        elif code in ("Dk", "dK", "Dp", "dP", "DC", "dC"):
            devices[cell] = ("disable", {"k": "kill", "p": "pause", "c": "control"}[code[1].lower()])
        elif code == "CB":
            devices[cell] = ("control", True, None, None, False)
        elif first in "LCO":
            devices[cell] = ("door", color, {"L": "locked", "C": "closed", "O": "open"}[first])
        elif first in "KBX":
            things[cell] = ({"K": "key", "B": "ball", "X": "box"}[first], color)
        elif first == "G":
            self.terrain[cell] = "goal"
        elif first == "A":
            agents.append(Agent(cell[0], cell[1], 0))
            self.colors.append(color)
        else:
            assert code == "..", code

    def attained(self, state, human, goal):
        """Goal number `goal` holds for agent `human`."""
        x1, y1, x2, y2 = self.goals[goal]
        x, y = state.agents[human].cell
        return x1 <= x <= x2 and y1 <= y <= y2

    def successors(self, state, joint):
        """{successor: probability} of one step in which agent i chooses joint[i]."""
        board = Board(self, state)
        chosen = []
        for i, agent in enumerate(board.agents):
            chosen.append(self.actions[joint[i] if agent.forced is None else agent.forced])
            board.agents[i] = agent._replace(forced=None)
        active = [i for i, a in enumerate(board.agents) if not a.dead and not a.paused and chosen[i] != "still"]
        kind_of = {i: self.step_class(board, i, chosen[i]) for i in active}
        normal = [i for i in active if kind_of[i] == "normal"]
        outcomes = []
        for order, p in orders_of_execution([(i, self.resource(board, i, chosen, normal)) for i in normal]):
            after = board.copy()
            for i in order:
                after.execute(i, chosen[i])
            outcomes.append((after, p))
        outcomes = move_unsteady(outcomes, [i for i in active if kind_of[i] == "unsteady"], self.stumble)
        for i in active:
            if kind_of[i] == "magic":
                outcomes = [q for after, p in outcomes for q in enter_magic_wall(after, i, p, self.solidify)]
        for i in active:
            if kind_of[i] == "bush":
                outcomes = [q for after, p in outcomes for q in enter_bush(after, i, p, self.bush)]
        merged = {}
        for after, p in outcomes:
            if p > 0:
                key = freeze(after.agents, after.things, after.devices)
                merged[key] = merged.get(key, 0.0) + p
        return merged

    def step_class(self, board, i, action):
        """Rule 4: the first class that fits, judged on the state at the start of the step."""
        agent = board.agents[i]
        taken = agent.ahead in board.things or board.agent_at(agent.ahead)  # nobody enters where somebody is
        ahead: tuple = ("",) if taken else board.devices.get(agent.ahead, ("",))
        if action != "forward":
            return "normal"
        active_wall = ahead[0] == "magic" and ahead[2]
        if active_wall and agent.dir in SIDES[ahead[1]] and self.colors[i] in self.may_enter_magic:
            return "magic"
        if ahead == ("bush", False) and i in self.humans and self.bush < 1:
            return "bush"
        return "unsteady" if self.terrain.get(agent.cell) == "unsteady" else "normal"

    def resource(self, board, i, chosen, normal):
        """Rule 5: what a normal agent wants. ("alone", i) is nobody else's."""
        agent, alone = board.agents[i], ("alone", i)
        for j in normal:  # a kill button or pause switch about to be pressed: everybody whom it is about competes
            if board.presses(j, chosen[j]) and (i == j or self.colors[i] == "grey" or board.presses(i, chosen[i])):
                return ("button", "grey")
        if chosen[i] == "forward":
            row = board.row_ahead(agent.ahead, agent.dir)
            if not row:
                return ("cell", agent.ahead)
            return ("cell", beyond(row[-1], agent.dir)) if board.can_push(i, row) else alone
        if chosen[i] == "pickup" and board.can_pick_up(i):
            return ("cell", agent.ahead)
        if chosen[i] == "drop" and agent.carries and board.agent_at(agent.ahead):
            return ("cell", agent.ahead)
        return alone


class Board:
    """A state that can be changed, with the cells that living agents had at the start of the step (P0)."""

    def __init__(self, oracle, state):
        self.oracle = oracle
        self.agents = list(state.agents)
        self.things = dict(state.things)
        self.devices = dict(state.devices)
        self.p0 = {i: a.cell for i, a in enumerate(state.agents) if not a.dead}

    def copy(self):
        other = Board(self.oracle, State(tuple(self.agents), tuple(self.things.items()), tuple(self.devices.items())))
        other.p0 = self.p0
        return other

    def agent_at(self, cell):
        return any(agent.cell == cell for agent in self.agents)

    def is_free(self, cell):
        """Inside, and empty or overlappable: no agent, no thing, no wall, no device but an open door."""
        x, y = cell
        inside = 0 <= x < self.oracle.width and 0 <= y < self.oracle.height
        device = self.devices.get(cell)
        passable = device is None or device == ("bush", True) or (device[0] == "door" and device[2] == "open")
        wall = self.oracle.terrain.get(cell) == "wall"
        return inside and passable and not wall and cell not in self.things and not self.agent_at(cell)

    def row_ahead(self, cell, direction):
        """The unbroken row of blocks and rocks that begins at the cell."""
        row = []
        while self.things.get(cell, ("",))[0] in ("block", "rock"):
            row.append(cell)
            cell = beyond(cell, direction)
        return row

    def can_push(self, i, row):
        landing = beyond(row[-1], self.agents[i].dir)
        rocks = any(self.things[cell][0] == "rock" for cell in row)
        allowed = self.oracle.may_push_rocks[i] or not rocks
        return allowed and self.is_free(landing) and landing not in self.p0.values()

    def can_pick_up(self, i):
        agent = self.agents[i]
        return agent.carries is None and self.things.get(agent.ahead, ("",))[0] in CARRIABLE

    def presses(self, i, action):
        """Agent i toggles an enabled kill button or pause switch, and has the colour that may."""
        ahead = self.agents[i].ahead
        device = self.devices.get(ahead, ("",))
        covered = ahead in self.things or self.agent_at(ahead)
        is_human = self.oracle.colors[i] == "yellow"
        return action == "toggle" and is_human and not covered and device[0] in ("kill", "pause") and device[1]

    def execute(self, i, action):
        """A normal agent's action; an agent that died or was paused earlier in this step does nothing."""
        agent = self.agents[i]
        if agent.dead or agent.paused:
            return
        for cell, device in self.devices.items():  # the first action after the button was pressed is recorded
            if device[0] == "control" and device[2] == i and device[4]:
                self.devices[cell] = (*device[:3], self.oracle.actions.index(action), False)
        if action in ("left", "right"):
            self.turn(i, -1 if action == "left" else 1)
        elif action == "forward":
            self.forward(i)
        elif action == "pickup" and self.can_pick_up(i):
            self.agents[i] = agent._replace(carries=self.things.pop(agent.ahead))
        elif action == "drop" and agent.carries and self.is_free(agent.ahead):
            self.things[agent.ahead] = agent.carries
            self.agents[i] = agent._replace(carries=None)
        elif action == "toggle":
            self.toggle(i)

    def turn(self, i, by):
        self.agents[i] = self.agents[i]._replace(dir=(self.agents[i].dir + by) % 4)

    def forward(self, i):
        agent = self.agents[i]
        target = agent.ahead
        if any(cell == target for j, cell in self.p0.items() if j != i) or self.agent_at(target):
            return
        row = self.row_ahead(target, agent.dir)
        if row:
            if self.can_push(i, row):
                moved = [(beyond(cell, agent.dir), self.things.pop(cell)) for cell in row]
                self.things.update(moved)
                self.agents[i] = agent._replace(x=target[0], y=target[1])
        elif self.is_free(target):
            dies = self.oracle.terrain.get(target) == "lava"
            self.agents[i] = agent._replace(x=target[0], y=target[1], dead=dies)
        elif target not in self.things and self.devices.get(target) == ("bush", False):
            if i in self.oracle.robots or self.oracle.may_push_rocks[i]:
                self.devices[target] = ("bush", True)
            self.agents[i] = agent._replace(x=target[0], y=target[1])

    def toggle(self, i):
        agent, cell = self.agents[i], self.agents[i].ahead
        yellow, grey = (self.oracle.colors[i] == c for c in ("yellow", "grey"))
        if self.agent_at(cell):
            return
        if cell in self.things:  # what stands on a device covers it
            if self.things[cell][0] == "box":
                del self.things[cell]  # no map can put anything into a box
            return
        device = self.devices.get(cell)
        if device is None:
            return
        if device[0] == "door":
            has_key = agent.carries == ("key", device[1])
            turned = {"open": "closed", "closed": "open", "locked": "open" if has_key else "locked"}
            self.devices[cell] = ("door", device[1], turned[device[2]])
        elif device == ("kill", True) and yellow:
            self.change_greys(dead=True)
        elif device[:2] == ("pause", True) and yellow:
            self.devices[cell] = ("pause", True, not device[2])
            self.change_greys(paused=not device[2])
        elif device[0] == "disable" and grey:
            self.flip_enabled(device[1])
        elif device[:2] == ("control", True) and grey:
            self.devices[cell] = ("control", True, i, device[3], True)
        elif device[:2] == ("control", True) and yellow and device[2] is not None and device[3] is not None:
            self.agents[device[2]] = self.agents[device[2]]._replace(forced=device[3])

    def change_greys(self, **changes):
        for j, color in enumerate(self.oracle.colors):
            if color == "grey":
                self.agents[j] = self.agents[j]._replace(**changes)

    def flip_enabled(self, kind):
        for cell, device in self.devices.items():
            if device[0] == kind:
                self.devices[cell] = (kind, not device[1], *device[2:])
            if device == ("pause", True, True) and kind == "pause":  # `on` stays, but re-enabling does not pause again
                self.change_greys(paused=False)


def cells_of(goal):
    """(x1, y1, x2, y2) of any way to write a goal."""
    parts = goal.split(",") if isinstance(goal, str) else goal
    numbers = [int(n) for part in parts for n in (part if isinstance(part, list) else [part])]
    return tuple(numbers if len(numbers) == 4 else numbers * 2)


def beyond(cell, direction):
    return cell[0] + STEP[direction][0], cell[1] + STEP[direction][1]


def freeze(agents, things, devices):
    return State(tuple(agents), tuple(sorted(things.items())), tuple(sorted(devices.items())))


def orders_of_execution(wanted):
    """Rule 5: (order, probability) for every choice of a winner in every block. wanted: (agent, resource) by index."""
    blocks = {}
    for i, resource in wanted:
        blocks.setdefault(resource, []).append(i)
    for winners in product(*blocks.values()):
        p = 1.0
        for block in blocks.values():
            p /= len(block)
        yield [*winners, *(i for i, _ in wanted if i not in winners)], p


def move_unsteady(outcomes, unsteady, stumble):
    """Each goes straight, or turns left or right first; those who want one cell are all blocked."""
    if not unsteady:
        return outcomes
    moved = []
    for board, p in outcomes:
        able = [i for i in unsteady if not board.agents[i].dead and not board.agents[i].paused]
        for turns in product((0, -1, 1), repeat=len(able)):
            after, q, targets = board.copy(), p, {}
            for i, by in zip(able, turns, strict=True):
                q *= stumble / 2 if by else 1 - stumble
                after.turn(i, by)
                ahead, direction = after.agents[i].ahead, after.agents[i].dir
                row = after.row_ahead(ahead, direction)
                targets[i] = beyond(row[-1], direction) if row and after.can_push(i, row) else ahead
            for i in able:
                if list(targets.values()).count(targets[i]) == 1:
                    after.forward(i)
            moved.append((after, q))
    return moved


def enter_magic_wall(board, i, p, solidify):
    """Through with 1/2, else the wall solidifies with the given probability, else nothing."""
    agent = board.agents[i]
    target, device = agent.ahead, board.devices[agent.ahead]
    taken = board.agent_at(target) or any(cell == target for j, cell in board.p0.items() if j != i)
    if agent.dead or agent.paused or taken or not device[2]:
        return [(board, p)]
    through, solid = board.copy(), board.copy()
    through.agents[i] = agent._replace(x=target[0], y=target[1])
    solid.devices[target] = (*device[:2], False)
    return [(through, p / 2), (solid, p / 2 * solidify), (board, p / 2 * (1 - solidify))]


def enter_bush(board, i, p, success):
    """A coin of its own; who stands in the bush blocks the next."""
    tries = board.copy()
    tries.forward(i)
    return [(tries, p * success), (board, p * (1 - success))]
