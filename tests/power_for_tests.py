"""Grid worlds in tests: the package and the oracle side by side, on the same maps and states."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np

from apportion.power.grid.world import GridWorld
from power_oracle import Agent, Oracle, freeze

STILL, LEFT, RIGHT, FORWARD, PICKUP, DROP, TOGGLE, DONE = range(8)
_DATA = Path(__file__).parent / "data" / "power"
REFERENCES = sorted(path.name.removesuffix(".json.gz") for path in _DATA.glob("*.json.gz"))


def reference(name):
    """A world solved by an independent implementation: the parsed JSON."""
    return json.loads(gzip.decompress((_DATA / f"{name}.json.gz").read_bytes()))


def rows(*lines):
    return "\n".join(lines) + "\n"


def both(config):
    """(GridWorld, Oracle) of one configuration."""
    return GridWorld.from_config(config, "test"), Oracle(config)


def oracle_state(oracle, description):
    """A state in the words of `World.describe`, as the oracle's."""
    agents, things, devices = [], {}, dict(oracle.start.devices)
    for a in description["agents"]:
        carries = (a["carrying"], a["carrying_color"]) if a["carrying"] else None
        status = (a["terminated"], a["paused"])
        agents.append(Agent(a["x"], a["y"], a["dir"], *status, carries, a["forced_next_action"]))
    for thing in description["mobile_objects"]:
        things[thing["x"], thing["y"]] = (thing["type"], thing.get("color", ""))
    for what, x, y, *words in description["mutable_objects"]:
        devices[x, y] = _device(devices[x, y], what, words)
    return freeze(agents, things, devices)


def _device(at_start, what, words):
    if what == "door":
        is_open, locked = words
        return ("door", at_start[1], "open" if is_open else "locked" if locked else "closed")
    if what == "magic_wall":
        return ("magic", at_start[1], words[0])
    if what == "pause_switch":
        on, enabled = words
        return ("pause", enabled, on)
    return ({"bush": "bush", "kill_button": "kill", "control_button": "control"}[what], *words)


def outcomes(world, oracle, state, joint):
    """{oracle state: (package state, probability)} of one step in the package."""
    states, probs = world.transitions(state, np.array(joint))
    found = {}
    for after, p in zip(states, probs, strict=True):
        key = oracle_state(oracle, world.describe(after))
        assert key not in found, "a successor is there twice"
        found[key] = (after, float(p))
    return found


def same_step(world, oracle, state, joint):
    """Asserts that one step has the same outcomes in both; returns those of the package."""
    mine = oracle.successors(oracle_state(oracle, world.describe(state)), joint)
    found = outcomes(world, oracle, state, joint)
    assert {key: round(p, 12) for key, (_, p) in found.items()} == {key: round(p, 12) for key, p in mine.items()}
    return found


def play(config, *joints):
    """[(state, probability)] after the given joint actions; every step is the same in package and oracle."""
    world, oracle = both({"goals_cover": False, **config})
    now = {oracle_state(oracle, world.describe(world.initial())): (world.initial(), 1.0)}
    assert list(now) == [oracle.start]
    for joint in joints:
        after = {}
        for state, p in now.values():
            for key, (following, q) in same_step(world, oracle, state, joint).items():
                after[key] = (following, p * q + after.get(key, (None, 0.0))[1])
        now = after
    return [(key, p) for key, (_, p) in now.items()]


def only(found):
    """The one state that is certain."""
    assert len(found) == 1, found
    return found[0][0]


def chance(found, holds):
    """The probability that `holds(state)`."""
    return sum(p for state, p in found if holds(state))
