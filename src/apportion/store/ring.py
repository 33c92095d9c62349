"""Observations in one file, mapped into memory: a ring with rows to spare, so that a checkpoint need not copy them.

The file is safetensors with one tensor, `obs`. An episode's rows are written once, when it closes. The rows to spare
(4 %) keep new ones from going over those of the two newest checkpoints; where that cannot be helped, the episode there
is first put aside in a small file, until the next checkpoint. So a process that is killed at any moment leaves all that
its newest checkpoint names, and nobody asks for what it wrote after that.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import weakref
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from apportion.run.checkpoint import CheckpointDamaged
from apportion.run.files import full_disk, replacing, write_atomic
from apportion.types import Spec, UserError

NAME = "episodes_ring.safetensors"
HEADER = 4096  # bytes before the first row: one page
SPARE = 25  # one row to spare for so many
PROMISES = 2  # checkpoints whose rows are not lost
WORTH = 1000  # rows between two checkpoints that are worth an early one; where fewer, episodes are put aside
_TYPES = {"U8": "uint8", "F32": "float32"}


@dataclass(frozen=True)
class Place:
    """Where an episode's T + 1 observations lie in the ring."""

    number: int
    row: int
    rows: int


class ObsRing:
    """The file's rows as an array, `obs` (size, *obs_shape), and which of them may not be overwritten unsaved."""

    def __init__(self, directory: Path, capacity: int, spec: Spec, warn: Callable[[str], None]):
        """Opens the file, or makes it with all its space reserved, also where it is damaged.

        Raises UserError where the disk has not as much, and for a file of other observations: checkpoints name it.
        """
        self.directory, self.path = directory, directory / NAME
        self.size = capacity + capacity // SPARE
        shape = (self.size, *spec.obs_shape)
        try:
            self.obs = open_ring(self.path)
        except CheckpointDamaged:
            _create(self.path, shape, spec.obs_dtype, warn)
            self.obs = open_ring(self.path)
        if self.obs.shape != shape or self.obs.dtype != spec.obs_dtype:
            raise UserError(
                f"{self.path} holds {len(self.obs):,} {self.obs.dtype} observations of shape {self.obs.shape[1:]}, and "
                f"this run has {self.size:,} {spec.obs_dtype} ones of shape {shape[1:]}: the environment has changed "
                "since; bring it back, or start a new run"
            )
        self._file = os.open(self.path, os.O_RDWR)
        weakref.finalize(self, os.close, self._file)
        self._spare = self.size - capacity
        self._free: int | None = None  # rows that can be written before one of the newest checkpoint's is reached
        self._promised: list[range] = []  # numbers of the episodes of the newest checkpoints
        self._evicted: deque[Place] = deque()  # oldest first
        self._aside: set[int] = set()

    @property
    def files(self) -> list[str]:
        """Names of the files that are needed: the ring, and the episodes put aside."""
        return [NAME, *(aside_path(self.directory, number).name for number in sorted(self._aside))]

    @property
    def save_due(self) -> bool:
        """Should a checkpoint be written soon, so that little has to be put aside?

        After two fifths of the rows to spare: the checkpoint before is to stay whole, too.
        """
        used_up = 0 if self._free is None else self._spare - self._free
        return used_up > 2 * self._spare // 5 >= WORTH

    def write(self, row: int, obs: np.ndarray) -> None:
        """Puts `obs` (n, *obs_shape) into the rows from `row` on. Through the file: an error there is an exception."""
        while self._evicted and (self._evicted[0].row - row) % self.size < len(obs):  # the oldest lies next
            self._put_aside(self._evicted.popleft())
        self.restore(row, obs)
        if self._free is not None:
            self._free -= len(obs)

    def restore(self, row: int, obs: np.ndarray) -> None:
        """The same, where these rows had these observations before."""
        end = min(len(obs), self.size - row)
        for first, part in ((row, obs[:end]), (0, obs[end:])):
            data = np.ascontiguousarray(part, self.obs.dtype).reshape(-1).view(np.uint8).data
            place = HEADER + first * self.obs[0].nbytes
            while len(data):
                done = os.pwrite(self._file, data, place)
                data, place = data[done:], place + done

    def evict(self, place: Place) -> None:
        """This episode is no longer in the store; its rows may be written over as soon as no checkpoint needs them."""
        if self._needed(place.number):
            self._evicted.append(place)

    def promise(self, numbers: range, rows: int) -> None:
        """A new checkpoint needs these live episodes, which take `rows` rows. The oldest needs nothing any more."""
        self._promised = [*self._promised, numbers][-PROMISES:]
        self._free = self.size - rows
        self._evicted = deque(place for place in self._evicted if self._needed(place.number))
        self._aside = {number for number in self._aside if self._needed(number)}

    def sync(self) -> None:
        """Returns when everything written is on the disk."""
        os.fsync(self._file)

    def _needed(self, number: int) -> bool:
        return any(number in numbers for numbers in self._promised)

    def _put_aside(self, place: Place) -> None:
        data = save_arrays({"obs": np.ascontiguousarray(rows_of(self.obs, place.row, place.rows))})
        write_atomic(aside_path(self.directory, place.number), data)
        self._aside.add(place.number)


def rows_of(obs: np.ndarray, row: int, rows: int) -> np.ndarray:
    """(rows, *obs_shape) of the ring `obs` from `row` on: a view, or a copy where they go around its end."""
    end = row + rows
    return obs[row:end] if end <= len(obs) else np.concatenate([obs[row:], obs[: end - len(obs)]])


def crc(obs: np.ndarray, before: int = 0) -> int:
    """CRC-32 (SHA-256 takes eight times as long, and there are gigabytes)."""
    return zlib.crc32(np.ascontiguousarray(obs).data, before)


def checksum(obs: np.ndarray, place: Place) -> int:
    """`crc` of these rows of the ring."""
    before_end = min(place.rows, len(obs) - place.row)
    return crc(obs[: place.rows - before_end], crc(obs[place.row : place.row + before_end]))


def aside_path(directory: Path, number: int) -> Path:
    return directory / f"episodes_aside_{number:09d}.safetensors"


def read_aside(directory: Path, number: int, expected: int) -> np.ndarray | None:
    """The observations (T + 1, *obs_shape) of an episode that was put aside, if that is this one and whole."""
    try:
        obs = load_arrays(aside_path(directory, number).read_bytes())["obs"]
    except (OSError, SafetensorError, KeyError):
        return None
    return obs if crc(obs) == expected else None


def open_ring(path: Path) -> np.ndarray:
    """The ring's rows, mapped. Raises CheckpointDamaged if the file is missing or not of the size that it names."""
    try:
        with path.open("rb") as file:
            head = file.read(HEADER)
        about = json.loads(head[8:])["obs"]
        shape, dtype = tuple(about["shape"]), np.dtype(_TYPES[about["dtype"]])
        expected = HEADER + int(np.prod(shape)) * dtype.itemsize
        size = path.stat().st_size
    except OSError as e:
        raise CheckpointDamaged(f"{path} cannot be read ({e.strerror})") from e
    except (ValueError, KeyError, TypeError) as e:
        raise CheckpointDamaged(f"{path} is damaged (its header cannot be read)") from e
    if size != expected:
        raise CheckpointDamaged(f"{path} has {size} bytes instead of {expected}")
    return np.asarray(np.memmap(path, dtype, "r+", HEADER, shape))


def _create(path: Path, shape: tuple[int, ...], dtype: str, warn: Callable[[str], None]) -> None:
    rows = int(np.prod(shape)) * np.dtype(dtype).itemsize
    name = next(name for name, other in _TYPES.items() if other == dtype)
    head = json.dumps({"obs": {"dtype": name, "shape": shape, "data_offsets": [0, rows]}}).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        try:
            with full_disk(path, ""):
                file.write((HEADER - 8).to_bytes(8, "little") + head.ljust(HEADER - 8))
                file.flush()
                _reserve(file.fileno(), HEADER + rows, path, warn)
        except UserError as e:
            free = shutil.disk_usage(path.parent).free
            raise UserError(
                f"--store memmap: {path} takes {(HEADER + rows) / 1e9:.2f} GB, more than its disk will hold "
                f"({free / 1e9:.2f} GB free): make room, give another --runs-dir, or lower --buffer-size"
            ) from e


def _reserve(file: int, size: int, path: Path, warn: Callable[[str], None]) -> None:
    """Gives the open file its size and, where the system can, the space on the disk."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file, 0, size)
            return
        except OSError as e:
            if e.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENODEV):
                raise
    warn(f"the space for {path} ({size / 1e9:.2f} GB) cannot be reserved on this system: see that its disk stays free")
    os.ftruncate(file, size)
