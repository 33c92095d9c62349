"""Packages of the extra `demos`: one line where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType

from apportion.types import UserError


def need(module: str, what: str) -> ModuleType:
    """The module. Raises UserError with the install line if it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        package = module.partition(".")[0].replace("_", "-")
        raise UserError(f"{what} needs {package}: pip install 'apportion[demos]'") from None
