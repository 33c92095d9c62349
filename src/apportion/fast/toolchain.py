"""What compiling needs of this machine; imports nothing heavy, for the command line asks before it loads PyTorch."""

from __future__ import annotations

import os
import shutil


def cxx() -> str:
    """The C++ compiler that PyTorch would call: CXX, or g++."""
    return os.environ.get("CXX", "g++")


def has_cxx() -> bool:
    return shutil.which(cxx()) is not None
