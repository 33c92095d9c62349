"""Writing to disk so that a crash leaves the old file or the new one, and a full disk one clear line."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from apportion.types import UserError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space left, quota exceeded, file size limit


@contextmanager
def full_disk(where: Path, kept: str) -> Iterator[None]:
    """Turns "no space left" while writing `where` into a UserError that ends with what was kept."""
    try:
        yield
    except OSError as e:
        if e.errno not in _FULL:
            raise
        raise UserError(f"cannot write {where}: {os.strerror(e.errno)}; {kept}; make room, then go on") from e


def write_synced(path: Path, data: bytes) -> None:
    """Writes `data` and returns when it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_directory(path: Path) -> None:
    """Returns when the names in this directory are on the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` in one step when the block ends well, and is removed otherwise.

    A reader, or a crash, finds the old content or the new. The file's name is its own, NAME.PID-RANDOM.tmp: of two
    processes that write `path` at once, the last one's content stays, whole. A killed one leaves its file, which
    nobody reads. Raises UserError on a full disk.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with full_disk(path, "what was there before is kept"), temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_atomic(path: Path, data: bytes) -> None:
    """Replaces `path` by `data` in one step (see `replacing`)."""
    with replacing(path) as file:
        file.write(data)


def write_json(path: Path, data: Any) -> None:
    """`data` as indented JSON, atomically."""
    write_atomic(path, (json.dumps(data, indent=1) + "\n").encode())


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
