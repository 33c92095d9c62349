"""How a command ends: in an exit code, and one line where something was wrong or is left to do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def guarded(verb: Callable[[], int]) -> int:
    """Run `verb`; a user's slip, Ctrl-C and a closed pipe end in one line and an exit code, not in a traceback.

    With APPORTION_TRACEBACK set, the line of a slip comes after its traceback: for those who write environments.
    """
    try:
        return verb()
    except KeyboardInterrupt as stop:
        print(f"\napportion: stopped{f': {stop}' if str(stop) else ''}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at exit
        return 141
    except Exception as error:
        from apportion.types import UserError

        if not isinstance(error, UserError):
            raise
        if os.environ.get("APPORTION_TRACEBACK"):
            import traceback

            traceback.print_exc()
        print(f"apportion: {error}", file=sys.stderr)
        return 2


def with_way_back(run: Path, work: Callable[[], T]) -> T:
    """Do `work`; after Ctrl-C say how to go on, if there is anything to go on with."""
    try:
        return work()
    except KeyboardInterrupt:
        begun = (run / "config.json").exists() or (run / "seeds.json").exists()
        raise KeyboardInterrupt(
            f"go on with apportion resume {run}" if begun else "before anything was begun"
        ) from None


def ended(run: Path) -> int:
    """Exit code of a run that returned: after a first Ctrl-C it has saved, said so, and is not finished."""
    return 0 if json.loads((run / "run.json").read_text()).get("finished") else 130
