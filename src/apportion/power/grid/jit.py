"""Numba with a cache on disk that follows the sources of every kernel in this folder."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apportion.power.cache import cache_home
from apportion.types import UserError

try:
    import numba
except ModuleNotFoundError:
    raise UserError("grid worlds need numba: pip install 'apportion[power]'") from None

KERNELS = ("jit.py", "layout.py", "actions.py", "step.py", "loops.py")


def _stamp() -> str:
    """Hash of the kernels' sources. Numba alone looks at the caller's file only: it would run a callee's old code."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in KERNELS)).hexdigest()[:16]


# No kernel allocates and all arrays are the caller's: without counting references the rules run four times as fast.
_njit: Any = numba.njit
_NJIT = functools.partial(_njit, _nrt=False)
_OWN = cache_home() / "numba"
_FOLDER = str(Path(numba.config.CACHE_DIR or _OWN) / _stamp())  # type: ignore[attr-defined]


def claim(folder: Path, days: float = 30.0) -> None:
    """Notes that the code in `folder` is used, and removes what other sources left beside it and nobody used since.

    A stamp of a checkout that is still worked with was noted when it was last run; whoever runs a removed one compiles
    it again. Nothing is removed that is not named and filled as this file does it.
    """
    with contextlib.suppress(OSError):  # a cache is no reason to stop
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        for other in folder.parent.iterdir():
            old = other.stat().st_mtime < time.time() - days * 86_400
            if other != folder and old and re.fullmatch("[0-9a-f]{16}", other.name) and not other.is_symlink():
                files = [path for path in other.rglob("*") if not path.is_dir()]
                if all(path.suffix in (".nbi", ".nbc") for path in files):
                    shutil.rmtree(other, ignore_errors=True)


def inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function that only compiled functions call: the way in from Python, slow to compile, is left out."""
    # unwrap: the tests' import hook wraps every function to check its annotations
    return _NJIT(no_cpython_wrapper=True, no_cfunc_wrapper=True)(inspect.unwrap(function))


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """A compiled function that Python calls; its machine code is kept on disk."""
    before = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    numba.config.CACHE_DIR = _FOLDER  # type: ignore[attr-defined]
    try:
        return _NJIT(cache=True)(inspect.unwrap(function))
    except RuntimeError:  # numba found no folder that it may write to
        print("compiled code cannot be kept, every run compiles it anew: set NUMBA_CACHE_DIR", file=sys.stderr)
        return _NJIT()(inspect.unwrap(function))
    finally:
        numba.config.CACHE_DIR = before  # type: ignore[attr-defined]


if Path(_FOLDER).parent == _OWN:  # a folder that the user named may be shared with other programs
    claim(Path(_FOLDER))
