"""A fault inside an environment, as one line that says which environment, when and what to try."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from apportion.types import UserError

TRY = "try `apportion check` on it"


def said(error: BaseException) -> str:
    """`RuntimeError: boom`, in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def check_finite(what: str, values: np.ndarray, where: Callable[[int], tuple[str, int, int]]) -> None:
    """Raises UserError for the first NaN or infinity in `values` (N, ...), one row for each environment.

    `what` is "observation", "reward" or "action"; `where` gives a row's environment in words, its step and its seed.
    """
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return
    row, *entry = (int(x) for x in np.argwhere(~np.isfinite(values))[0])
    environment, step, seed = where(row)
    name = f"{what} entry {entry[0] if len(entry) == 1 else tuple(entry)}" if entry else what
    who, advice = environment, TRY
    if what == "action":
        who, advice = f"the policy, for {environment},", "a network has diverged: try lower learning rates"
    raise UserError(
        f"{who} gave {values[(row, *entry)]} as {name}, at step {step} of its episode with seed {seed}: {advice}"
    )
