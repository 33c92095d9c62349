"""What was solved: a layer of numbers for each time, in memory or in a folder that a stopped solve goes on with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer

from apportion.power.compiled import Compiled
from apportion.power.files import load_array, load_compiled, params_json, save_array, save_compiled
from apportion.power.kernel import Kernel, make_kernel
from apportion.power.params import PowerParams, with_values
from apportion.power.sweeps import Layer, Shape, arrival, end_table, layer, phase_one, shape_of
from apportion.run.files import full_disk, write_json
from apportion.types import UserError

SOLVED = "solved"  # the name of the policy that the equations give; evaluated ones have other names
WORLD = "world.json"  # of a folder: what `runs.open_run` makes the world from again
RECORD = "solution.json"  # of a folder: what it is the solution of, and how it went
_COMPILED = "compiled.npz"
IDENTITY = ("digest", "horizon", "params", "policy")  # of a record: what it is the solution of
_ENTRIES = {*IDENTITY, "world", "finished", "seconds"}


@dataclass
class Tables:
    """The table of each time, in a folder or, without one, in memory."""

    folder: Path | None = None
    kept: dict[int, np.ndarray] = field(default_factory=dict)

    def path(self, t: int) -> Path:
        assert self.folder is not None
        return self.folder / "sweeps" / f"t_{t:05d}.npy"

    def put(self, t: int, table: np.ndarray) -> None:
        if self.folder is None:
            self.kept[t] = table
        else:
            save_array(self.path(t), table)

    def get(self, t: int) -> np.ndarray:
        """Raises UserError if its file is damaged or gone."""
        if self.folder is None:
            return self.kept[t]
        if not self.path(t).exists():
            raise UserError(f"{self.path(t)} is missing: give the same command again, which makes it anew")
        return load_array(self.path(t))

    def has(self, t: int) -> bool:
        return t in self.kept if self.folder is None else self.path(t).exists()


@dataclass(frozen=True)
class Solution:
    """V_h^m, V_h^e, X_h, U_r, Q_r, pi_r and V_r of every state at every time; without a horizon all times are one."""

    compiled: Compiled
    params: PowerParams
    policy: str  # SOLVED, or the name of the policy that was evaluated
    tables: Tables
    record: dict[str, Any]  # how it went: seconds, sweeps; without a horizon also residual, converged, unique

    @property
    def shape(self) -> Shape:
        return shape_of(self.compiled)

    def at(self, t: int) -> Layer:
        """Values of the states that t steps or fewer can lead to, [0, compiled.reached(t)).

        Without a way to wait, some of them cannot be at exactly t: their values are of no use, and may be infinite.
        """
        horizon = self.compiled.horizon
        if t < 0:
            raise ValueError(f"t is {t}: at least 0")
        if horizon is None:
            return layer(self.tables.get(0), self.shape)
        if t >= horizon:
            return layer(end_table(self.compiled.reached(horizon), self.shape), self.shape)
        return layer(self.tables.get(t), self.shape)

    def human_policy(self, t: int, states: Integer[np.ndarray, "n"]) -> Float[np.ndarray, "n H G A"]:
        """pi_h(. | s, g) in states below compiled.reached(t); 0 for actions that a human with fewer of them has not."""
        horizon = self.compiled.horizon
        if horizon is not None and t >= horizon:
            raise ValueError(f"t is {t}: nobody acts from {horizon} on")
        if len(states) == 0 or states.min() < 0 or states.max() >= self.at(t).n:
            raise ValueError(f"states are to be in [0, {self.at(t).n}) at t = {t}")
        prior = arrival(self.kernel, self.params, self.at(t + 1)).prior
        found = [phase_one(self.kernel, self.params, int(s), int(s) + 1, prior)[0] for s in states]
        most = max(self.kernel.sizes)
        padded = [[torch.nn.functional.pad(pi, (0, most - pi.shape[2])) for pi in of_state] for of_state in found]
        return torch.stack([torch.stack(of_state, 1)[0] for of_state in padded]).numpy()

    @cached_property
    def kernel(self) -> Kernel:
        return make_kernel(self.compiled)

    @staticmethod
    def load(folder: Path) -> Solution:
        """What `solve` or `evaluate` left in a folder. Raises UserError if it is not there, damaged or not finished."""
        record = read_record(folder)
        if record is None:
            raise UserError(
                f"{folder} holds no solution: apportion power solve WORLD makes one, and apportion power evaluate"
            )
        if not record.get("finished"):
            raise UserError(f"{folder} is not finished: give the same command again, which goes on")
        params = with_values(PowerParams(), record["params"])
        return Solution(load_compiled(folder / _COMPILED), params, record["policy"], Tables(folder), record)


def read_record(folder: Path) -> dict[str, Any] | None:
    """The record in a folder; None if there is none. Raises UserError if it is damaged."""
    path = folder / RECORD
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove {folder}, then solve again") from None
    if not isinstance(record, dict) or not record.keys() >= _ENTRIES:
        raise UserError(f"{path} is damaged (no record of a solve): remove {folder}, then solve again")
    return record


def wanted_record(compiled: Compiled, params: PowerParams, policy: str) -> dict[str, Any]:
    """The record of a solve that has not begun."""
    what = {"digest": compiled.digest, "horizon": compiled.horizon, "params": params_json(params), "policy": policy}
    return {**what, "world": compiled.name, "finished": False, "seconds": 0.0}


def begin(
    folder: Path, compiled: Compiled, wanted: dict[str, Any], world: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Claims a folder for one solve and returns its record, that of an earlier, interrupted one if there is one.

    `world`: the content of world.json, which is there before the first sweep is: a run that is stopped is whole.
    Raises UserError if the folder holds the solution of something else.
    """
    found = read_record(folder)
    if found is not None:
        other, name = told_apart(found, wanted, folder.name.removeprefix("power-"))
        if other:
            raise UserError(
                f"{folder} holds the solution of something else ({other}): give another --name, like --name {name}"
            )
        try:
            load_compiled(folder / _COMPILED)
        except UserError:  # damaged or gone, and known: here it is again
            save_compiled(folder / _COMPILED, compiled)
        if world is not None:
            write_json(folder / WORLD, world)
        return found
    make_folder(folder / "sweeps")
    for stale in (*(folder / "sweeps").glob("*"), *(folder / "searches").glob("*")):
        stale.unlink()  # without a record nobody knows what they belong to
    if world is not None:
        write_json(folder / WORLD, world)
    save_compiled(folder / _COMPILED, compiled)
    write_json(folder / RECORD, wanted)
    return wanted


def told_apart(there: dict[str, Any], here: dict[str, Any], name: str) -> tuple[str, str]:
    """How two records differ ("xi 1 there, 2 here"; empty: not at all), and `name` with the new value ("name-xi2")."""
    old, new = there["params"] if isinstance(there["params"], dict) else {}, here["params"]
    both = [(key, short(old.get(key)), short(new.get(key))) for key in {**new, **old} if old.get(key) != new.get(key)]
    told = [(f"{key} {a} there, {b} here", f"-{key}{b}") for key, a, b in both]
    if there.get("digest") != here["digest"] and there.get("world") != here.get("world"):
        told.insert(0, (f"world {there.get('world')} there, {here.get('world')} here", f"-{here.get('world')}"))
    elif there.get("horizon") != here.get("horizon"):
        a, b = there.get("horizon") or "none", here["horizon"] or "none"
        told.insert(0, (f"horizon {a} there, {b} here", f"-horizon{b}"))
    elif there.get("digest") != here["digest"]:
        told.insert(0, ("the map or its rules" if "horizon" in here else "the map, its rules or the horizon", "-2"))
    if there.get("policy") != here.get("policy"):
        told.append(("the policy", "-2"))
    return "; ".join(words for words, _ in told), name + "".join(dict.fromkeys(ending for _, ending in told))


def short(value: Any) -> str:
    """A parameter's value as a user would write it."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def make_folder(folder: Path) -> None:
    """Raises UserError where it cannot be made."""
    try:
        with full_disk(folder, "nothing was written"):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made ({error.strerror}): give another --runs-dir") from None


def finish(folder: Path, record: dict[str, Any]) -> None:
    write_json(folder / RECORD, record)
