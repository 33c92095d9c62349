"""The world of a run: opened by name once, then kept with the run, so that nothing outside it is needed again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from apportion.power.grid.ensemble import Ensemble, from_configs, held_out, read_folder
from apportion.power.learn.config import Phase2Config
from apportion.power.options import horizon_of
from apportion.power.params import check
from apportion.power.runs import open_world, remade, with_horizon, world_json
from apportion.power.world import World
from apportion.types import UserError


def open_kept(config: Phase2Config) -> tuple[World, dict[str, Any]]:
    """The world of `config`, and what `reopen` makes it from. Raises UserError if there is no such world, and for
    parameters that are out of range in it.
    """
    world, kept = _open(config)
    check(config.params, world.horizon)
    return world, kept


def _open(config: Phase2Config) -> tuple[World, dict[str, Any]]:
    source, horizon = config.world, horizon_of(config.horizon)
    if Path(source).is_dir():
        configs = read_folder(Path(source))
        without = list(held_out(configs, config.held_out, config.seed)) if config.held_out else []
        kept = {"name": Path(source).resolve().name, "configs": configs, "held_out": without, "horizon": "own"}
        world = with_horizon(reopen(kept), horizon)
        return world, {**kept, "horizon": world.horizon}
    world = open_world(source, horizon)
    if config.held_out:
        raise UserError(f"--held-out is for a folder of worlds, and {source} is one world: leave it out")
    return world, {**world_json(source, world), "horizon": world.horizon}


def reopen(kept: dict[str, Any]) -> World:
    """The same world again; of a folder, those that are learned from."""
    if "configs" not in kept:
        return remade(kept, kept["horizon"])
    return _ensemble(kept, kept["held_out"])


def unseen_worlds(kept: dict[str, Any]) -> Ensemble | None:
    """Of a folder, the worlds that are kept for testing, encoded as the others; None if there are none."""
    if not kept.get("held_out"):
        return None
    return _ensemble(kept, [name for name in kept["configs"] if name not in kept["held_out"]])


def _ensemble(kept: dict[str, Any], without: list[str]) -> Ensemble:
    worlds, horizon = from_configs(kept["name"], kept["configs"], without), kept["horizon"]
    return worlds if horizon in ("own", worlds.horizon) else worlds.with_horizon(horizon)
