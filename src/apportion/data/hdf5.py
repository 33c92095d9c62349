"""HDF5 files from strangers, read with care: plain numbers that lie in the file itself, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from apportion.data.optional import need
from apportion.data.schema import BadDemo

if TYPE_CHECKING:
    import h5py


def open_hdf5(path: Path) -> h5py.File:
    """The file, to be read. Raises BadDemo for what is no whole HDF5 file."""
    h5py = need("h5py", "reading HDF5")
    if not path.is_file():
        raise BadDemo(f"{path} does not exist, or is no file")
    if path.stat().st_size == 0:
        raise BadDemo(f"{path} is empty: fetch it again")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        why = "it is cut short" if "truncated" in str(error) else "it is no HDF5 file, or damaged"
        raise BadDemo(f"{path}: {why}: fetch it again") from error


def child(group: h5py.Group, name: str, where: str) -> h5py.Group | h5py.Dataset | None:
    """What lies under `name`, or None. Raises BadDemo for a link: it may lead out of the file."""
    import h5py

    try:
        link = group.get(name, getlink=True)
        if link is None:
            return None
        if not isinstance(link, h5py.HardLink):
            raise BadDemo(f"{where}: {name} is a link to elsewhere, which is not followed: copy the data into the file")
        found = group[name]
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise BadDemo(f"{where}: {name} cannot be read, the file is damaged: fetch it again") from error
    return found if isinstance(found, h5py.Group | h5py.Dataset) else None


def subgroup(group: h5py.Group, name: str, where: str) -> h5py.Group:
    """The group `name`. Raises BadDemo where there is none."""
    import h5py

    found = child(group, name, where)
    if not isinstance(found, h5py.Group):
        raise BadDemo(f"{where}: there is no group {name}")
    return found


def dataset(group: h5py.Group, name: str, where: str) -> h5py.Dataset | None:
    """The dataset `name` of numbers or booleans in this file, or None. Raises BadDemo for one of another kind."""
    import h5py

    found = child(group, name, where)
    if not isinstance(found, h5py.Dataset):
        return None
    if found.dtype.kind not in "biuf":
        raise BadDemo(f"{where}: {name} holds {found.dtype} instead of numbers, which is not read")
    return _own(found, name, where)


def _own(found: h5py.Dataset, name: str, where: str) -> h5py.Dataset:
    """`found` itself, whose numbers lie in this file: HDF5 can also map those of other files."""
    if found.external or found.is_virtual:
        raise BadDemo(f"{where}: {name} lies in another file, which is not opened: copy the data into this one")
    return found


def encoded(group: h5py.Group, name: str, where: str) -> h5py.Dataset | None:
    """The dataset `name` if it holds byte strings of unequal lengths (compressed images), which HDF5 calls vlen."""
    import h5py

    found = child(group, name, where)
    if isinstance(found, h5py.Dataset) and h5py.check_vlen_dtype(found.dtype) == np.uint8:
        return _own(found, name, where)
    return None


def names(group: h5py.Group) -> list[str]:
    """What lies in a group, in natural order. Raises BadDemo."""
    try:
        return sorted((str(name) for name in group), key=natural)
    except (RuntimeError, OSError) as error:
        raise BadDemo(f"{group.file.filename}: {group.name} cannot be listed: fetch the file again") from error


def rows(data: h5py.Dataset, where: str, picked: Sequence[int] | None = None) -> np.ndarray:
    """All rows, or those picked, one by one: h5py's own fancy indexing is many times slower. Raises BadDemo."""
    try:
        if picked is None:
            return data[()]
        return np.stack([data[row] for row in picked])
    except (OSError, RuntimeError, ValueError, IndexError, MemoryError) as error:
        name = str(data.name).rpartition("/")[2]
        raise BadDemo(f"{where}: {name} cannot be read, the file is damaged: fetch it again ({error})") from error


def attribute(holder: h5py.Group, name: str, where: str) -> Any:
    """An attribute as str, int, float or bool; None where there is none. Raises BadDemo for what is none of these."""
    try:
        value = holder.attrs.get(name)
    except (OSError, RuntimeError, TypeError) as error:
        raise BadDemo(f"{where}: attribute {name} cannot be read") from error
    if isinstance(value, bytes | np.bytes_):
        return value.decode("utf-8", "replace")
    return value.item() if isinstance(value, np.generic) else value


def natural(name: str) -> tuple[tuple[int, int | str], ...]:
    """A key to sort by: demo_2 before demo_10."""
    parts = re.split(r"(\d+)", name)
    return tuple((0, int(part)) if part.isdecimal() else (1, part) for part in parts if part)
