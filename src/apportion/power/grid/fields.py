"""States of a grid world: their fields, the first one, and their description in words and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int16

from apportion.power.grid import layout as L
from apportion.power.grid.parse import Settings
from apportion.types import UserError

_MOST_OUTCOMES = 200_000


def _most(layout: L.Layout, settings: Settings) -> int:
    """A bound on the successors of one state and joint action, before equal ones are merged."""
    n = len(layout.agents)
    if (layout.terrain == L.UNSTEADY).any() or settings.magicians:
        bound = 3**n
    elif (layout.terrain == L.BUSH).any() and settings.bush < 1:
        bound = 2**n
    else:
        bound = int(3 ** (n / 3)) + 1  # the largest product of block sizes that sum to n
    if bound > _MOST_OUTCOMES:
        raise UserError(
            f"{n} agents can have {bound:,} outcomes in one step, more than {_MOST_OUTCOMES:,}: use fewer agents"
        )
    return bound + 2  # room for a split before weights of 0 are left out


def make_rules(layout: L.Layout, settings: Settings) -> L.Rules:
    """The flat arrays for the compiled rules."""
    n = len(layout.agents)
    first_block = n * L.PER_AGENT
    first_rock = first_block + len(layout.blocks)
    first_portable = first_rock + len(layout.rocks)
    slots = np.cumsum([0, *layout.kind_slots()])
    first_device = first_portable + int(slots[-1])
    places = [layout.cell(x, y) for x, y, _ in layout.devices]
    cells = np.stack([_bordered(layout.terrain, L.WALL), _bordered(layout.detail, 0), _bordered(layout.detail, 0)], 1)
    cells[:, L.FIELD] = -1
    cells[places, L.FIELD] = first_device + np.arange(len(places))
    roles = (settings.humans, settings.robots, settings.pushers, settings.magicians)
    kinds = [
        (L.PORTABLE.index(k.type), k.colour, layout.kinds.index(k.contains) if k.contains else -1) for k in layout.kinds
    ]
    return L.Rules(
        cells=cells,
        who=np.array(
            [[colour, *(i in role for role in roles)] for i, (_, _, _, colour) in enumerate(layout.agents)], np.int64
        ),
        kinds=np.column_stack([first_portable + slots, np.array([*kinds, (-1, -1, -1)], np.int64)]),
        delta=np.array([1, layout.width + 2, -1, -layout.width - 2], np.int64),
        ops=np.array([L.OPERATIONS.index(name) for name in settings.actions], np.int64),
        device_cell=np.array(places, np.int64),
        first_block=first_block,
        first_rock=first_rock,
        first_portable=first_portable,
        first_device=first_device,
        most=_most(layout, settings),
        stumble=settings.stumble,
        solidify=settings.solidify,
        bush=settings.bush,
    )


def _bordered(inner: np.ndarray, border: int) -> np.ndarray:
    """A map (h, w) with a border around it, flat."""
    return np.pad(inner, 1, constant_values=border).reshape(-1)


def first_state(layout: L.Layout, rules: L.Rules) -> Int16[np.ndarray, "F"]:
    """Where the map puts everything."""
    state = np.full(rules.first_device + len(layout.devices), -1, np.int16)
    for i, (x, y, direction, _) in enumerate(layout.agents):
        state[i * L.PER_AGENT : (i + 1) * L.PER_AGENT] = layout.cell(x, y), direction, 0, 0, 0
    state[rules.first_block : rules.first_rock] = sorted(layout.cell(x, y) for x, y in layout.blocks)
    state[rules.first_rock : rules.first_portable] = sorted(layout.cell(x, y) for x, y in layout.rocks)
    for k, kind in enumerate(layout.kinds):
        cells = [layout.cell(x, y) for x, y, other in layout.portables if other == kind]
        _fill(state, rules, k, cells)
    state[rules.first_device :] = [value for _, _, value in layout.devices]
    return state


def _fill(state: np.ndarray, rules: L.Rules, kind: int, cells: list[int]) -> None:
    """The floor cells of one kind, sorted, those that lie nowhere first."""
    first, last = int(rules.kinds[kind, L.KIND_FIRST]), int(rules.kinds[kind + 1, L.KIND_FIRST])
    state[first:last] = [-1] * (last - first - len(cells)) + sorted(cells)


def _device_words(layout: L.Layout, terrain: int, value: int, ops: np.ndarray) -> list[Any]:
    """What a device's field says, after its name and cell."""
    if terrain == L.DOOR:
        return [value == L.OPEN, value == L.LOCKED]  # open, locked
    if terrain == L.BUSH:
        return [value == 1]  # trampled
    if terrain == L.MAGIC:
        return [value == 0]  # active
    if terrain == L.KILL:
        return [value == 1]  # enabled
    if terrain == L.PAUSE:
        return [bool(value & 2), bool(value & 1)]  # on, enabled
    recorded, agent = (value >> 2) & 15, value >> 6
    action = int(np.flatnonzero(ops == recorded - 1)[0]) if recorded else None
    return [
        bool(value & 1),
        agent - 1 if agent else None,
        action,
        bool(value & 2),
    ]  # enabled, agent, recorded, awaiting


def describe(layout: L.Layout, rules: L.Rules, state: np.ndarray) -> dict[str, Any]:
    """A state in the form of the published reference values; what those do not have is described in their manner."""
    agents = []
    for i, (_, _, _, colour) in enumerate(layout.agents):
        cell, direction, status, carry, forced = (int(v) for v in state[i * L.PER_AGENT : (i + 1) * L.PER_AGENT])
        x, y = layout.xy(cell)
        kind = layout.kinds[carry - 1] if carry else None
        agent = {"index": i, "color": L.COLOURS[L.LETTERS[colour]], "x": x, "y": y, "dir": direction}
        agent |= {"terminated": bool(status & L.DEAD), "paused": bool(status & L.PAUSED)}
        agent |= {"carrying": kind.type if kind else None}
        agent |= {"carrying_color": L.COLOURS[L.LETTERS[kind.colour]] if kind else None}
        if kind and kind.contains:
            agent["carrying_contains"] = str(kind.contains)
        agent["forced_next_action"] = int(np.flatnonzero(rules.ops == forced - 1)[0]) if forced else None
        agents.append(agent)
    mobile = []
    for name, first, last in _pushables(rules):
        for cell in state[first:last]:
            x, y = layout.xy(int(cell))
            mobile.append({"type": name, "x": x, "y": y})
    for k, kind in enumerate(layout.kinds):
        for cell in state[rules.kinds[k, L.KIND_FIRST] : rules.kinds[k + 1, L.KIND_FIRST]]:
            if cell >= 0:
                x, y = layout.xy(int(cell))
                entry = {"type": kind.type, "x": x, "y": y, "color": L.COLOURS[L.LETTERS[kind.colour]]}
                mobile.append(entry | ({"contains": str(kind.contains)} if kind.contains else {}))
    mutable = []
    for k, (x, y, _) in enumerate(layout.devices):
        terrain = int(layout.terrain[y, x])
        words = _device_words(layout, terrain, int(state[rules.first_device + k]), rules.ops)
        mutable.append([L.TERRAIN[terrain], x, y, *words])
    return {"agents": agents, "mobile_objects": mobile, "mutable_objects": mutable}


def _pushables(rules: L.Rules) -> tuple[tuple[str, int, int], tuple[str, int, int]]:
    return ("block", rules.first_block, rules.first_rock), ("rock", rules.first_rock, rules.first_portable)


def parse(layout: L.Layout, rules: L.Rules, description: dict[str, Any]) -> Int16[np.ndarray, "F"]:
    """The state that a description means; a step count in it is no part of the state. Raises UserError."""
    state = first_state(layout, rules)
    for name, kind in (("agents", dict), ("mobile_objects", dict), ("mutable_objects", list)):
        _check_list(name, description.get(name, []), kind)
    try:
        _parse_agents(layout, rules, description["agents"], state)
        _parse_mobile(layout, rules, description["mobile_objects"], state)
        _parse_devices(layout, rules, description["mutable_objects"], state)
    except KeyError as error:
        raise UserError(f"state: {error.args[0]!r} is missing") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"state: not a description of a state: {error}") from None
    return state


def _check_list(name: str, entries: Any, kind: type) -> None:
    if not isinstance(entries, list):
        raise UserError(f"state: not a description of a state: {name}: a list is wanted, not {entries!r}")
    for i, entry in enumerate(entries):
        if not isinstance(entry, kind):
            wanted = "mapping" if kind is dict else "list"
            raise UserError(f"state: not a description of a state: {name}[{i}]: a {wanted} is wanted, not {entry!r}")


def _cell(layout: L.Layout, x: Any, y: Any, what: str) -> int:
    if type(x) is not int or type(y) is not int or not (0 <= x < layout.width and 0 <= y < layout.height):
        raise UserError(f"state: {what} at ({x}, {y}) is outside the map of {layout.width} x {layout.height} cells")
    if layout.terrain[y, x] == L.WALL:
        raise UserError(f"state: {what} at ({x}, {y}) is in a wall")
    return layout.cell(x, y)


def _kind(layout: L.Layout, type_: Any, colour: Any, contains: Any, what: str) -> int:
    for k, kind in enumerate(layout.kinds):
        inside = str(kind.contains) if kind.contains else None
        if (kind.type, L.COLOURS[L.LETTERS[kind.colour]], inside) == (type_, colour, contains):
            return k
    raise UserError(f"state: {what}: this world has no {colour or ''} {type_}".replace("  ", " "))


def _parse_agents(layout: L.Layout, rules: L.Rules, agents: list[dict[str, Any]], state: np.ndarray) -> None:
    if len(agents) != len(layout.agents):
        raise UserError(f"state: it has {len(agents)} agents, the world has {len(layout.agents)}")
    seen: dict[int, int] = {}
    for i, agent in enumerate(agents):
        what = f"agent {i}"
        colour = L.COLOURS[L.LETTERS[layout.agents[i][3]]]
        if agent.get("index", i) != i or agent.get("color", colour) != colour:
            raise UserError(f"state: entry {i} of agents must be agent {i}, which is {colour}")
        cell = _cell(layout, agent["x"], agent["y"], what)
        if cell in seen:
            raise UserError(f"state: {what} and agent {seen[cell]} are both at ({agent['x']}, {agent['y']})")
        seen[cell] = i
        if agent["dir"] not in (0, 1, 2, 3):
            raise UserError(f"state: {what}: dir is 0 east, 1 south, 2 west or 3 north, not {agent['dir']!r}")
        status = L.DEAD * bool(agent.get("terminated")) + L.PAUSED * bool(agent.get("paused"))
        carry, forced = agent.get("carrying"), agent.get("forced_next_action")
        kind = (
            _kind(layout, carry, agent.get("carrying_color"), agent.get("carrying_contains"), what) + 1 if carry else 0
        )
        if forced is not None and (type(forced) is not int or not 0 <= forced < len(rules.ops)):
            raise UserError(f"state: {what}: forced_next_action is one of {len(rules.ops)} actions, not {forced!r}")
        operation = 0 if forced is None else int(rules.ops[forced]) + 1
        state[i * L.PER_AGENT : (i + 1) * L.PER_AGENT] = cell, agent["dir"], status, kind, operation


def _parse_mobile(layout: L.Layout, rules: L.Rules, objects: list[dict[str, Any]], state: np.ndarray) -> None:
    for name, first, last in _pushables(rules):
        cells = [_cell(layout, o["x"], o["y"], name) for o in objects if o["type"] == name]
        if len(cells) != last - first:
            raise UserError(f"state: it has {len(cells)} {name}s, the world has {last - first}")
        state[first:last] = sorted(cells)
    lying: list[list[int]] = [[] for _ in layout.kinds]
    for o in objects:
        if o["type"] not in ("block", "rock"):
            kind = _kind(layout, o["type"], o.get("color"), o.get("contains"), "mobile_objects")
            lying[kind].append(_cell(layout, o["x"], o["y"], o["type"]))
    carried = [int(c) - 1 for c in state[L.CARRY : rules.first_block : L.PER_AGENT]]
    for k, slots in enumerate(layout.kind_slots()):
        if len(lying[k]) + carried.count(k) > slots:
            raise UserError(f"state: more than {slots} {layout.kinds[k]}s, the most that this world can have")
        _fill(state, rules, k, lying[k])
    standing = [int(c) for c in state[rules.first_block : rules.first_device] if c >= 0]
    standing += [int(c) for c in state[L.POS : rules.first_block : L.PER_AGENT]]
    twice = next((c for c in standing if standing.count(c) > 1), None)
    if twice is not None:
        raise UserError(f"state: two things stand at {layout.xy(twice)}")


def _parse_devices(layout: L.Layout, rules: L.Rules, entries: list[list[Any]], state: np.ndarray) -> None:
    at = {(x, y): k for k, (x, y, _) in enumerate(layout.devices)}
    left = dict(at)
    for name, x, y, *words in entries:
        k = left.pop((x, y), None)
        if k is None or L.TERRAIN[layout.terrain[y, x]] != name:
            raise UserError(f"state: mutable_objects: this world has no {name} at ({x}, {y}), or it is there twice")
        value = _device_value(int(layout.terrain[y, x]), words, rules)
        if value is None:
            expected = _device_words(layout, int(layout.terrain[y, x]), layout.devices[k][2], rules.ops)
            raise UserError(f"state: mutable_objects: {name} at ({x}, {y}): {words!r} does not read like {expected!r}")
        state[rules.first_device + k] = value
    if left:
        (x, y), _ = left.popitem()
        raise UserError(f"state: mutable_objects: the {L.TERRAIN[layout.terrain[y, x]]} at ({x}, {y}) is missing")


def _device_value(terrain: int, words: list[Any], rules: L.Rules) -> int | None:
    """The inverse of _device_words; None where the words do not fit."""
    if terrain == L.CONTROL:
        return _control_value(words, rules)
    if len(words) != (2 if terrain in (L.DOOR, L.PAUSE) else 1) or not all(isinstance(word, bool) for word in words):
        return None
    if terrain == L.DOOR:
        return {(True, False): L.OPEN, (False, False): L.CLOSED, (False, True): L.LOCKED}.get((words[0], words[1]))
    if terrain == L.PAUSE:
        return 2 * words[0] + words[1]
    return int(not words[0] if terrain == L.MAGIC else words[0])


def _control_value(words: list[Any], rules: L.Rules) -> int | None:
    if len(words) != 4 or not isinstance(words[0], bool) or not isinstance(words[3], bool):
        return None
    enabled, agent, action, awaiting = words
    if agent is not None and (type(agent) is not int or not 0 <= agent < len(rules.who)):
        return None
    if action is not None and (type(action) is not int or not 0 <= action < len(rules.ops) or agent is None):
        return None
    if awaiting and agent is None:
        return None
    recorded = 0 if action is None else int(rules.ops[action]) + 1
    return enabled + 2 * awaiting + 4 * recorded + 64 * (0 if agent is None else agent + 1)
