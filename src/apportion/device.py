"""The device of a name, or one line that says why there is none."""

from __future__ import annotations

import torch

from apportion.types import UserError


def torch_device(name: str) -> torch.device:
    """The device `name`. Raises UserError where this machine or this build of PyTorch lacks it."""
    try:
        torch.device(name)
    except RuntimeError as error:
        raise UserError(f"--device {name}: there is no such device; cpu, cuda or cuda:1 are some") from error
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0].partition(". ")[0]
        raise UserError(f"--device {name} cannot be used ({why[:200]}): try --device cpu") from error
