"""The user's own `module:Class`: a world is tried before it is used, and whatever raises is told in one line."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from apportion.envs.faults import said
from apportion.power.world import World
from apportion.types import UserError


def own_class(source: str, flag: str = "") -> Any:
    """The user's own `module:Class`. Raises UserError, one line that begins with `flag`, for whatever is wrong."""
    module, _, name = source.partition(":")
    if not (module and name):
        raise UserError(f"{flag}{source}: give module:Class")
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise UserError(f"{flag}{source}: there is no module {error.name}") from None
    except Exception as error:  # whatever the user's own file does wrong
        raise UserError(f"{flag}{source} cannot be imported ({said(error)})") from error
    try:
        return getattr(found, name)
    except AttributeError:
        raise UserError(f"{flag}{source}: {module} has no {name}") from None


@contextmanager
def own_faults(*sources: str) -> Iterator[None]:
    """What the user's own code, that of the `sources` that are module:Class, raises meanwhile becomes a UserError.

    It names the file, the line and the function. Their code is what lies in the directory of their module, or of the
    one that defines the class; every other exception passes.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        theirs = {module for source in sources if ":" in source for module in _modules(source)}
        places = {_place(module) for module in theirs if not module.startswith("apportion.")}
        files = ((frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__))
        own = [(code, line) for code, line in files if Path(code.co_filename).parent in places]
        if not own:
            raise
        code, line = own[-1]
        raise UserError(
            f"{code.co_qualname} ({Path(code.co_filename).name}, line {line}) raised {said(error)}; "
            "APPORTION_TRACEBACK=1 shows how it was called"
        ) from error


def _modules(source: str) -> tuple[str, str]:
    """Where the user says the class is, and where it is defined."""
    module, _, name = source.partition(":")
    return module, getattr(getattr(sys.modules.get(module), name, None), "__module__", module)


def _place(module: str) -> Path | None:
    """The directory of a module's file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return None if file is None else Path(file).parent


def own_world(source: str) -> World:
    """The user's own world. Raises UserError for whatever is wrong, as far as one step shows it.

    The step is taken in another one of its kind: a world may be one that only goes on from where it is.
    """
    made = own_class(source)
    try:
        tried, world = made(), made()
    except Exception as error:
        raise UserError(f"{source}() fails ({said(error)})") from error
    wanted = [*World.__annotations__, *(x for x in vars(World) if not x.startswith("_"))]
    missing = [x for x in wanted if not hasattr(world, x)]
    if missing:
        raise UserError(f"{source} is no World (power/world.py): it has no {', '.join(missing)}")
    try:
        with own_faults(source):
            _try(source, tried)
    except UserError:
        raise
    except Exception as error:  # what it says has a form that cannot even be looked at
        raise UserError(f"{source} is no World as in power/world.py: {said(error)}") from error
    return world


def _try(source: str, world: World) -> None:
    """Takes one step from the first state. Raises UserError where what the world says is not of the form asked for."""
    agents, goals = len(world.agents), len(world.goals)
    for what, count in (("actions", len(world.actions)), ("still", len(world.still))):
        if count != agents:
            raise UserError(f"{source}: {what} has {count} entries for {agents} agents")
    weights = np.asarray(world.goal_weights, np.float64)
    if weights.shape != (goals,) or not np.isclose(weights.sum(), 1):
        raise UserError(f"{source}: goal_weights are to be {goals} numbers, of the goals, that sum to 1")
    first = np.asarray(world.initial())
    if first.ndim != 1:
        raise UserError(f"{source}: initial() is one state, a row of numbers; its shape is {first.shape}")
    two, joint = np.stack([first, first]), np.zeros((2, agents), np.int64)
    _shaped(source, "terminal", world.terminal(two), (2,), "bool")
    _shaped(source, "attained", world.attained(two), (2, len(world.humans), goals), "bool")
    encoded = np.asarray(world.encode(two))
    _shaped(source, "encode", encoded, (2, encoded.size // 2), "float32")
    if world.enumerable:
        offsets, states, probs = world.successors(two, joint)
        _shaped(source, "successors: offsets", offsets, (3,))
        _shaped(source, "successors: states", states, (int(offsets[-1]), len(first)))
        _shaped(source, "successors: probs", probs, (int(offsets[-1]),))
        if not np.isclose(np.sum(probs), 2):
            raise UserError(f"{source}: successors gives probabilities whose sum is {np.sum(probs) / 2:g}, not 1")
    _shaped(source, "sample", world.sample(two[:1], joint[:1], np.zeros(1)), (1, len(first)))


def _shaped(source: str, what: str, found: Any, wanted: tuple[int, ...], kind: str = "") -> None:
    array = np.asarray(found)
    if array.shape != wanted or kind not in ("", array.dtype.name):
        raise UserError(
            f"{source}: {what} gives {array.dtype.name} of shape {array.shape}; wanted is "
            f"{f'{kind} of ' if kind else ''}shape {wanted}, of {wanted[0]} asked for (power/world.py)"
        )
