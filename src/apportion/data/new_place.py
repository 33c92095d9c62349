"""A directory that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from apportion.run.files import full_disk
from apportion.types import UserError


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory under another name, which becomes `path` when the block ends well, and is removed otherwise.

    Raises UserError if `path` exists or cannot be made, or the disk is full.
    """
    if path.exists():
        raise UserError(f"{path} exists already: remove it, or give another place")
    temporary = path.with_name(path.name + ".tmp")
    try:
        with full_disk(path, "nothing was kept"):
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                temporary.mkdir(parents=True)
            except OSError as error:
                raise UserError(f"{path} cannot be made: {os.strerror(error.errno or 0)}") from error
            yield temporary
            temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
