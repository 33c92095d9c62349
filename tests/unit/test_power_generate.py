"""Generated worlds: what stands on the map, who is who, and that a seed is a world."""

from __future__ import annotations

import pytest

from apportion.power.grid.generate import bystander_world, obstacle_world
from apportion.power.grid.world import GridWorld
from apportion.types import UserError

CODES = {
    "push": ["Ae", "Ay", "Ay", "Ro", "Ro"],
    "pull": ["Ae", "Ay", "Ay", "Kr", "Lr", "Lr"],
    "freeze": ["Ae", "Ag", "Ay", "Ps"],
}


def cells(config: dict) -> dict[tuple[int, int], str]:
    rows = config["map"].splitlines()
    return {(x, y): code for y, row in enumerate(rows) for x, code in enumerate(row.split())}


@pytest.mark.parametrize("kind", ["push", "pull", "freeze"])
def test_bystander_worlds_hold_what_their_kind_says(kind: str) -> None:
    for seed in range(20):
        config = bystander_world(kind, seed, floor=8, size=4)
        found = cells(config)
        assert sorted(code for code in found.values() if code not in ("We", "..")) == CODES[kind]
        floor = {cell for cell, code in found.items() if code not in ("We", "Ps")}
        assert len(floor) == 8
        reached, frontier = set(), [next(iter(floor))]
        while frontier:
            x, y = cell = frontier.pop()
            reached.add(cell)
            frontier += [c for c in ((x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)) if c in floor - reached]
        assert reached == floor
        world = GridWorld.from_config(config, kind)
        assert world.settings.warnings == ()
        who = config["metadata"]
        assert sorted(world.humans) == sorted((who["user"], who["bystander"])) and len(world.robots) == 1


def test_who_is_frozen_is_the_bystander() -> None:
    """Pausing is of grey agents: there the bystander is grey, the user green, and the robot yellow."""
    for seed in range(10):
        config = bystander_world("freeze", seed)
        agents = [code for _, code in sorted(cells(config).items(), key=lambda item: item[0][::-1]) if code[0] == "A"]
        who = config["metadata"]
        assert (agents[who["user"]], agents[who["bystander"]]) == ("Ag", "Ae")
        assert GridWorld.from_config(config, "freeze").robots == (agents.index("Ay"),)


def test_a_seed_is_a_world() -> None:
    assert bystander_world("push", 3) == bystander_world("push", 3)
    assert len({bystander_world("push", seed)["map"] for seed in range(30)}) > 25
    assert obstacle_world(4, 1) == obstacle_world(4, 1) != obstacle_world(4, 2)


def test_obstacle_worlds_have_so_many_blocks() -> None:
    for blocks in (0, 2, 10, 18):
        codes = list(cells(obstacle_world(blocks, 0)).values())
        assert (codes.count("Bl"), codes.count("Ay"), codes.count("Ae")) == (blocks, 1, 1)
        assert len(codes) - codes.count("We") == 20


def test_slips_are_told_in_one_line() -> None:
    with pytest.raises(UserError, match="no kind of bystander world 'shove'; there are push, pull, freeze"):
        bystander_world("shove", 0)
    with pytest.raises(UserError, match="17 cells of floor: from 6 to size x size, which is 16"):
        bystander_world("push", 0, floor=17)
    with pytest.raises(UserError, match="19 blocks: 5 x 4 cells hold 0 to 18 and two agents"):
        obstacle_world(19, 0)
