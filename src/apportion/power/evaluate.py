"""Policies by name, and how good one is between the uniform policy and the solution."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from apportion.flags import did_you_mean
from apportion.power.cache import Compiles
from apportion.power.compiled import Compiled
from apportion.power.enumerate import enumerate_world
from apportion.power.memory import refuse_too_large
from apportion.power.params import PowerParams
from apportion.power.planning import do_nothing, solved, uniform
from apportion.power.solution import IDENTITY, SOLVED, Solution
from apportion.power.solve import CHUNK_BYTES, Policy, Progress, evaluate, solve
from apportion.power.world import World
from apportion.run.files import file_sha256
from apportion.types import UserError

UNIFORM = "uniform"
NAMED = {UNIFORM: uniform, "do-nothing": do_nothing}


@dataclass(frozen=True)
class RunPolicy:
    """The robots' policy of a run, of `apportion power solve` or of `apportion power train`."""

    params: dict[str, Any]  # values of PowerParams that it was made for
    horizon: int | None
    identity: str  # of what it is
    on: Callable[[Compiled], Policy]  # raises UserError for another world, or another horizon


def policy_run(word: str) -> RunPolicy | None:
    """The run whose policy `word` means; None for a policy by name. Raises UserError if it is neither."""
    if word in NAMED:
        return None
    folder = Path(word)
    if not folder.is_dir():
        raise UserError(
            f"--policy {word}: no such folder{did_you_mean(word, NAMED)}; give {', '.join(NAMED)}, or a run of "
            "apportion power solve or train"
        )
    if (folder / "config.json").exists():
        return _trained_policy(folder)
    run = Solution.load(folder)

    def on(compiled: Compiled) -> Policy:
        _same_horizon(word, run.compiled.name, run.compiled.horizon, compiled.horizon)
        if run.compiled.digest != compiled.digest:
            raise _another_world(word, run.compiled.name)
        return solved(run)

    identity = json.dumps([run.record[entry] for entry in IDENTITY])
    return RunPolicy(run.record["params"], run.compiled.horizon, identity, on)


def _trained_policy(folder: Path) -> RunPolicy:
    """Of the newest checkpoint. Its parameters are those that it was trained with."""
    from apportion.power.learn.opened import open_trained, unseen_of
    from apportion.power.learn.trained import is_trained, newest_of, settings_of, world_of

    if not is_trained(folder):
        raise UserError(f"--policy {folder} is no run of apportion power: give one of its solve or train")
    world = world_of(folder)

    def on(compiled: Compiled) -> Policy:
        _same_horizon(str(folder), world.name, world.horizon, compiled.horizon)
        run = open_trained(folder)
        for its in filter(None, (run.world, unseen_of(folder))):
            states = _own_states(its, compiled)
            if states is not None:
                there = replace(run, world=its)
                return lambda t, n, there=there, states=states: there.policy(states[:n], t)
        raise _another_world(str(folder), world.name)

    identity = file_sha256(newest_of(folder)[0] / "manifest.json")
    return RunPolicy(asdict(settings_of(folder).params), world.horizon, identity, on)


def _own_states(world: World, compiled: Compiled) -> Shaped[np.ndarray, "S F"] | None:
    """The compiled states as `world` has them; None if they are another world's."""
    from apportion.power.grid.ensemble import Ensemble

    if isinstance(world, Ensemble):
        same = [m for m, member in enumerate(world.worlds) if member.digest == compiled.digest]
        return world.rows(same[0], compiled.states) if same else None
    if isinstance(world, Compiles):
        return compiled.states if world.digest == compiled.digest else None
    try:
        return compiled.states if enumerate_world(world).digest == compiled.digest else None
    except UserError:  # it cannot be enumerated, and what was compiled could
        return None


def _same_horizon(word: str, name: str, there: int | None, here: int | None) -> None:
    """Raises UserError for a policy that was made for another number of steps."""
    if there != here:
        steps = f"{there or 'none'} there, {here or 'none'} here"
        raise UserError(
            f"--policy {word} is for another horizon ({steps}): leave --horizon out, unless {name} is another world"
        )


def _another_world(word: str, name: str) -> UserError:
    return UserError(f"--policy {word} is a policy for another world ({name})")


def policy_of(word: str, compiled: Compiled) -> Policy:
    """The policy called `word`: a name, or the folder of a run of the same world. Raises UserError for others."""
    run = policy_run(word)
    return NAMED[word](compiled) if run is None else run.on(compiled)


def policy_name(word: str) -> str:
    """What a record calls the policy: of a run, its folder's name and a hash of what it is.

    So a folder may be called `solved`, and values of a run that has been replaced, or trained further, are not taken
    for those of the new one.
    """
    run = policy_run(word)
    if run is None:
        return word
    return f"{Path(word).resolve().name} {hashlib.sha256(run.identity.encode()).hexdigest()[:8]}"


def share(policy: Solution, worst: Solution, best: Solution) -> float | None:
    """(V_policy - V_uniform) / (V_solved - V_uniform) at the start; None where the two are equal.

    1 is the solution of the equations, whose policy is soft: a greedier one can come to more than 1.
    """
    return share_of(*(float(each.at(0).v[0]) for each in (policy, worst, best)))


def share_of(value: float, worst: float, best: float) -> float | None:
    """`share`, of values of V_r at the start."""
    gain = best - worst
    return None if abs(gain) <= 1e-12 * abs(worst) else (value - worst) / gain


def with_bounds(
    compiled: Compiled,
    params: PowerParams,
    word: str,
    device: str = "cpu",
    progress: Progress | None = None,
    memory_limit: int | None = None,
    folder: Path | None = None,
    world: dict[str, Any] | None = None,
) -> tuple[Solution, Solution, Solution]:
    """The values of the policy `word`, of the uniform one and of the solution.

    With `folder` the first is a run there, and the bounds are runs in FOLDER/bounds; `world` as in `solve`.
    """
    bounds = len({word, UNIFORM})
    refuse_too_large(compiled, CHUNK_BYTES, folder, memory_limit, solutions=1 + bounds)

    def judged(policy: str, place: Path | None) -> Solution:
        return evaluate(
            compiled,
            params,
            policy_of(policy, compiled),
            name=policy_name(policy),
            folder=place,
            world=world,
            device=device,
            progress=progress,
            memory_limit=memory_limit,
        )

    found = judged(word, folder)
    worst = found if word == UNIFORM else judged(UNIFORM, folder and folder / "bounds" / UNIFORM)
    best = solve(
        compiled,
        params,
        folder=folder and folder / "bounds" / SOLVED,
        world=world,
        device=device,
        progress=progress,
        memory_limit=memory_limit,
    )
    return found, worst, best
