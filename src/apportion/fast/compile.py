"""A learner update as written, or compiled into one graph, in float32 or bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from apportion.fast.toolchain import cxx, has_cxx
from apportion.types import UserError

GRAPHS = 64  # an update has a graph for each combination of its parts that are due, and for shapes that change

P = ParamSpec("P")
R = TypeVar("R")


def _silent(line: str) -> None:
    pass


def check_compiler(device: torch.device) -> None:
    """Raises UserError where this PyTorch or this machine cannot compile an update for `device`."""
    from torch._dynamo import config as dynamo_config  # here: it takes as long to import as all the rest

    if not hasattr(dynamo_config, "trace_autograd_ops"):
        raise UserError(
            f"compiling needs a PyTorch that traces gradients, as 2.13 does; this is {torch.__version__}: "
            "try --no-compile"
        )
    if device.type == "cpu" and not has_cxx():
        raise UserError(f"--compile needs a C++ compiler, and {cxx()} is not here: install one, or try --no-compile")


def accelerate(
    update: Callable[P, R], compiled: bool, bf16: bool, device: torch.device, say: Callable[[str], None] = _silent
) -> Callable[P, R]:
    """`update`, made fast.

    `compiled`: gradients, Adam and target copies of everything it trains in one graph; the same numbers to rounding.
    The first call takes about a minute, as it says by `say`, less once the compiler's cache on disk knows it.
    `bf16`: matrix products in bfloat16 (autocast), parameters and losses in float32; faster only on hardware with
    bfloat16 arithmetic. Raises UserError where nothing can be compiled.
    """
    plain = _in_bf16(update, device.type) if bf16 else update
    if not compiled:
        return plain
    check_compiler(device)
    from torch._dynamo import config as dynamo_config

    traced = torch.compile(plain, fullgraph=True)
    to_say = ["compiling the update (about a minute)"]

    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        while to_say:
            say(to_say.pop())
        with dynamo_config.patch(trace_autograd_ops=True, recompile_limit=GRAPHS):
            return traced(*args, **kwargs)

    return run


def _in_bf16(update: Callable[P, R], device_type: str) -> Callable[P, R]:
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        # no cache of cast weights: within an update the reward network steps, then speaks
        with torch.autocast(device_type, dtype=torch.bfloat16, cache_enabled=False):
            return update(*args, **kwargs)

    return run
