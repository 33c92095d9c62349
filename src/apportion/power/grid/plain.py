"""What a world's file may hold: a run keeps it as JSON, which has fewer kinds of things than YAML."""

from __future__ import annotations

import math
from typing import Any

from apportion.types import UserError

_SCALARS = (str, int, float, bool, type(None))
_INSTEAD = {"set": "a list", "bytes": "text", "date": "text, in quotes", "datetime": "text, in quotes"}


def refuse_what_json_lacks(data: Any, place: str) -> None:
    """Raises UserError, with the entry's place, for what no JSON can hold. Each list and mapping is looked at once."""
    seen: set[int] = set()
    within: set[int] = set()  # the lists and mappings that the one at hand is in

    def look(value: Any, where: str) -> None:
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"{place}: {where}: {value!r} cannot be kept with a run: write text, in quotes")
        if isinstance(value, _SCALARS):
            return
        if not isinstance(value, list | tuple | dict):
            kind = type(value).__name__
            raise UserError(
                f"{place}: {where}: a YAML {kind} cannot be kept with a run: write {_INSTEAD.get(kind, 'text')}"
            )
        if id(value) in within:
            raise UserError(f"{place}: {where}: it holds itself, by an alias: write it out")
        if id(value) in seen:
            return
        seen.add(id(value))
        within.add(id(value))
        for name, entry in value.items() if isinstance(value, dict) else enumerate(value):
            if not isinstance(name, _SCALARS):
                raise UserError(f"{place}: {where}: the key {name!r} cannot be kept with a run: write text")
            look(entry, _inside(where, name, not isinstance(value, dict)))
        within.discard(id(value))

    look(data, "")


def _inside(where: str, name: Any, entry: bool) -> str:
    if entry:
        return f"{where}[{name}]"
    return f"{where}.{name}" if where else str(name)
