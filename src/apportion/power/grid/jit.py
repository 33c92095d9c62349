"""Numba with a cache on disk that follows the sources of every kernel in this folder."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from apportion.types import UserError

try:
    import numba
except ModuleNotFoundError:
    raise UserError("grid worlds need numba: pip install 'apportion[power]'") from None

KERNELS = ("jit.py", "layout.py", "actions.py", "step.py", "loops.py")


def cache_home() -> Path:
    """Where compiled code and compiled worlds are kept: $XDG_CACHE_HOME/apportion, or ~/.cache/apportion."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "apportion"


def _stamp() -> str:
    """Hash of the kernels' sources. Numba alone looks at the caller's file only: it would run a callee's old code."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in KERNELS)).hexdigest()[:16]


# No kernel allocates and all arrays are the caller's: without counting references the rules run four times as fast.
_njit: Any = numba.njit
_NJIT = functools.partial(_njit, _nrt=False)
_FOLDER = str(Path(numba.config.CACHE_DIR or cache_home() / "numba") / _stamp())  # type: ignore[attr-defined]


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
