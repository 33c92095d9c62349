"""Run folders of `apportion power`: world.json (what was solved), solution.json, compiled.npz and the sweeps."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from apportion.power.own import own_world
from apportion.power.solution import RECORD, WORLD, Solution
from apportion.power.world import World
from apportion.run.files import write_json
from apportion.types import UserError


class Run(NamedTuple):
    """A solved, or evaluated, world."""

    world: World
    solution: Solution


def open_world(source: str, horizon: int | str | None = None) -> World:
    """A grid world by its file or name, or the user's own `module:Class`. `horizon`: steps, or "none" for no end.

    Raises UserError if there is no such world.
    """
    from apportion.power.grid.world import load_world

    if source.endswith(".py"):
        raise UserError(f"{source} is Python: a class of your own is given as {Path(source).stem}:Class")
    own = ":" in source and not Path(source).exists()
    return with_horizon(own_world(source) if own else load_world(source), horizon)


def with_horizon(world: World, horizon: int | str | None) -> World:
    """The same world with another number of steps, "none" for no end; None leaves it as it is."""
    if horizon is None or (None if horizon == "none" else int(horizon)) == world.horizon:
        return world
    if not hasattr(world, "with_horizon"):
        raise UserError(f"{world.name} has no with_horizon(steps): its number of steps is its own")
    return world.with_horizon(None if horizon == "none" else int(horizon))  # type: ignore[attr-defined]


def run_folder(runs_dir: str, name: str) -> Path:
    """RUNS_DIR/power-NAME, where a name loses what is no good in a folder's. Raises UserError where it cannot be."""
    folder = Path(runs_dir) / f"power-{slug(name)}"
    refuse_place(runs_dir, folder)
    return folder


def refuse_place(runs_dir: str, folder: Path) -> None:
    """Raises UserError where `folder`, RUNS_DIR or a run in it, is no folder and none can be made."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise UserError(f"--runs-dir {runs_dir}: {there} is a file, no folder: give another --runs-dir, or --name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--runs-dir {runs_dir}: nothing may be written to {there}: give another")


def slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name)


def world_json(source: str, world: World) -> dict[str, Any]:
    """What `open_run` makes the same world from: the content of its file, or the name of the user's own class."""
    if ":" in source and not Path(source).exists():
        return {"name": world.name, "source": source}
    from apportion.power.grid.parse import read_yaml
    from apportion.power.grid.world import SHIPPED

    path = Path(source) if Path(source).exists() else SHIPPED / f"{source}.yaml"
    return {"name": world.name, "config": read_yaml(path)}


def keep_world(folder: Path, source: str, world: World) -> None:
    """Writes it beside a solution."""
    write_json(folder / WORLD, world_json(source, world))


def open_run(folder: Path) -> Run:
    """Raises UserError if the folder is no finished run."""
    _refuse_others(folder)
    solution = Solution.load(folder)
    path = folder / WORLD
    try:
        kept: dict[str, Any] = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): solve again") from None
    if not isinstance(kept, dict) or not ({"source"} <= kept.keys() or {"name", "config"} <= kept.keys()):
        raise UserError(f"{path} is damaged (no world): solve again")
    return Run(remade(kept, solution.compiled.horizon), solution)


def _refuse_others(folder: Path) -> None:
    """Raises UserError for a sweep, and for a folder of runs, with what to give in its stead."""
    if (folder / RECORD).exists():
        return
    inside = sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    if inside:
        more = f" and {len(inside) - 8} more" if len(inside) > 8 else ""
        raise UserError(f"{folder} is no run, but holds some: give one of {', '.join(map(str, inside[:8]))}{more}")
    if (folder / "sweep.json").exists():
        raise UserError(
            f"{folder} is a sweep, a table (sweep.json) and pictures: for a report solve one of its points, without it"
        )


def remade(kept: dict[str, Any], horizon: int | None) -> World:
    """The world that `world_json` was made of, with so many steps."""
    if "source" in kept:
        world = own_world(kept["source"])
    else:
        from apportion.power.grid.world import GridWorld

        world = GridWorld.from_config(kept["config"], kept["name"])
    return world if world.horizon == horizon else with_horizon(world, "none" if horizon is None else horizon)
