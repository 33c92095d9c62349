"""Compiled worlds, kept on disk under the hash of what they follow from: compiled once, then read."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import sys
from pathlib import Path
from typing import Protocol, runtime_checkable

from apportion.power.compiled import Compiled
from apportion.power.enumerate import enumerate_world
from apportion.power.files import load_compiled, save_compiled
from apportion.power.world import World
from apportion.types import UserError

_FORMAT = 1  # of the files: raise it when Compiled or its file changes


def cache_home() -> Path:
    """Where compiled worlds and compiled code are kept: $XDG_CACHE_HOME/apportion, or ~/.cache/apportion."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apportion"


@runtime_checkable
class Compiles(Protocol):
    """A world that compiles itself faster than state by state, and knows the hash of its content."""

    @property
    def digest(self) -> str: ...

    def compile(self, *, max_states: int | None = None, memory_limit: int | None = None) -> Compiled: ...


def compile_world(
    world: World, cache: Path | None, *, max_states: int | None = None, memory_limit: int | None = None
) -> Compiled:
    """The compiled world, read from the folder `cache` if it is there, else compiled and kept there; None: not kept.

    A world without a digest of its own is compiled each time. A damaged file is told in one line, and made again.
    Raises UserError for a world with more than `max_states` states, or that takes more than `memory_limit` bytes.
    """
    if not isinstance(world, Compiles):
        return enumerate_world(world, **({} if max_states is None else {"max_states": max_states}))
    if cache is None:
        return world.compile(max_states=max_states, memory_limit=memory_limit)
    path = cache / f"{hashlib.sha256(f'{_FORMAT} {world.digest}'.encode()).hexdigest()[:32]}.npz"
    compiled = _kept(path, world.digest)
    if compiled is None:
        compiled = world.compile(max_states=max_states, memory_limit=memory_limit)
        _keep(path, compiled)
    elif max_states is not None and len(compiled.states) > max_states:
        raise UserError(
            f"{world.name} has {len(compiled.states):,} states, at most {max_states:,} are allowed: give fewer steps "
            "(--horizon), or allow more (--max-states; training: --check-states)"
        )
    return dataclasses.replace(compiled, name=world.name)


def _kept(path: Path, digest: str) -> Compiled | None:
    """What is in the file; None if there is none, or if it is damaged, which is said."""
    try:
        if not path.exists():
            return None
        compiled = load_compiled(path)
        if compiled.digest == digest:
            return compiled
        reason = "it is of another world"
    except Exception as error:  # damaged bytes make numpy and zipfile raise almost anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    print(f"{path}: this compiled world is damaged ({reason}); it is compiled again", file=sys.stderr)
    return None


def _keep(path: Path, compiled: Compiled) -> None:
    """Writes the file. Where that is not possible, one line says why: a cache is no reason to stop."""
    own = path.with_name(f"{path.stem}-{os.getpid()}.npz")  # two processes may compile the same world
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_compiled(own, compiled)
        own.replace(path)
    except (OSError, UserError) as error:
        with contextlib.suppress(OSError):
            own.unlink()
        print(f"the compiled world is not kept in {path.parent}: {error}", file=sys.stderr)
