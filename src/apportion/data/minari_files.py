"""The two ways in which Minari keeps episodes, behind one face: a path of names -> the column under it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from apportion.data.hdf5 import child, dataset, encoded, names, open_hdf5, rows, subgroup
from apportion.data.optional import need
from apportion.data.schema import BadDemo

if TYPE_CHECKING:
    import h5py

_HDF5 = "main_data.hdf5"


@runtime_checkable
class Episode(Protocol):
    """One episode, opened. Every method raises BadDemo for what is missing or damaged."""

    file: str  # relative to the folder data
    where: str  # the same in words, for messages

    def numbers(self, path: tuple[str, ...]) -> np.ndarray: ...

    def images(self, path: tuple[str, ...], picked: Sequence[int], count: int) -> np.ndarray | list[bytes]:
        """Those of `count` frames that are `picked`: as pixels, or as JPEG."""
        ...

    def text(self, path: tuple[str, ...]) -> str:
        """The first entry."""
        ...

    def infos(self) -> Iterator[tuple[str, np.ndarray]]: ...


class Hdf5Episodes:
    def __init__(self, folder: Path):
        self._file = open_hdf5(folder / _HDF5)

    def episode(self, index: int) -> Hdf5Episode:
        where = f"{self._file.filename}, episode_{index}"
        return Hdf5Episode(subgroup(self._file, f"episode_{index}", where), where)

    def close(self) -> None:
        self._file.close()


class Hdf5Episode:
    file = _HDF5

    def __init__(self, group: h5py.Group, where: str):
        self._group, self.where = group, where

    def numbers(self, path: tuple[str, ...]) -> np.ndarray:
        holder, name = self._holder(path)
        found = dataset(holder, name, self.where)
        if found is None or found.ndim == 0:
            raise BadDemo(f"{self.where}: {'/'.join(path)} is missing")
        return rows(found, self.where)

    def images(self, path: tuple[str, ...], picked: Sequence[int], count: int) -> np.ndarray | list[bytes]:
        holder, name = self._holder(path)
        found = encoded(holder, name, self.where)
        found = dataset(holder, name, self.where) if found is None else found
        if found is None or found.ndim == 0:
            raise BadDemo(f"{self.where}: camera {'/'.join(path[1:])} is missing")
        if len(found) != count:
            raise BadDemo(f"{self.where}: camera {'/'.join(path[1:])} has {len(found)} frames instead of {count}")
        if found.ndim > 2:
            every = len(picked) == count
            return rows(found, self.where, None if every else picked)
        try:
            return [np.asarray(found[row]).tobytes() for row in picked]
        except (OSError, RuntimeError, ValueError) as error:
            raise BadDemo(f"{self.where}: {'/'.join(path)} cannot be read, the file is damaged ({error})") from error

    def text(self, path: tuple[str, ...]) -> str:
        import h5py

        holder, name = self._holder(path)
        found = child(holder, name, self.where)
        if not isinstance(found, h5py.Dataset) or h5py.check_string_dtype(found.dtype) is None or not len(found):
            raise BadDemo(f"{self.where}: {'/'.join(path)} holds no text")
        return str(found.asstr(errors="replace")[0])

    def infos(self) -> Iterator[tuple[str, np.ndarray]]:
        if "infos" in self._group:
            yield from self._numbers_in(subgroup(self._group, "infos", self.where), ())

    def _numbers_in(self, group: h5py.Group, path: tuple[str, ...]) -> Iterator[tuple[str, np.ndarray]]:
        import h5py

        for name in names(group) if len(path) < 8 else ():
            found = child(group, name, self.where)
            if isinstance(found, h5py.Group):
                yield from self._numbers_in(found, (*path, name))
            elif isinstance(found, h5py.Dataset) and found.dtype.kind in "biuf" and found.ndim:
                checked = dataset(group, name, self.where)
                assert checked is not None
                yield ".".join((*path, name)), rows(checked, self.where)

    def _holder(self, path: tuple[str, ...]) -> tuple[h5py.Group, str]:
        group = self._group
        for name in path[:-1]:
            group = subgroup(group, name, self.where)
        return group, path[-1]


class ArrowEpisodes:
    def __init__(self, folder: Path, kind: str):
        self._folder, self._kind = folder, kind

    def episode(self, index: int) -> ArrowEpisode:
        arrow = need("pyarrow.dataset", "reading Minari's arrow and parquet forms")
        folder = self._folder / str(index)
        where = f"{folder}, episode_{index}"
        if not folder.is_dir():
            raise BadDemo(f"{where}: there is no such folder")
        try:
            files = sorted(str(file) for file in folder.glob("*.*") if file.name != "metadata.json")
            table = arrow.dataset(files, format=self._kind).to_table().combine_chunks()
        except (OSError, ValueError) as error:
            raise BadDemo(f"{where}: it cannot be read: {str(error).splitlines()[0]}") from error
        return ArrowEpisode(table, str(index), where)

    def close(self) -> None:
        """Nothing stays open between episodes."""


class ArrowEpisode:
    """Every column is filled up to T + 1 rows: of those that have one row per action the last is cut off."""

    def __init__(self, table: Any, file: str, where: str):
        self._table, self.file, self.where = table, file, where

    def numbers(self, path: tuple[str, ...]) -> np.ndarray:
        try:
            values = _array(self._column(path))
        except TypeError as error:
            raise BadDemo(f"{self.where}: {'/'.join(path)} holds {error}") from error
        return values if path[0] == "observations" else values[:-1]

    def images(self, path: tuple[str, ...], picked: Sequence[int], count: int) -> np.ndarray | list[bytes]:
        column = self._column(path)
        if len(column) != count:
            raise BadDemo(f"{self.where}: camera {'/'.join(path[1:])} has {len(column)} frames instead of {count}")
        if "binary" in str(column.type):
            return [column[row].as_py() for row in picked]
        return _array(column)[list(picked)]

    def text(self, path: tuple[str, ...]) -> str:
        return str(self._column(path)[0].as_py())

    def infos(self) -> Iterator[tuple[str, np.ndarray]]:
        if "infos" in self._table.column_names:
            infos = self._column(("infos",))
            for name in (field.name for field in infos.type):
                with suppress(TypeError, ValueError):  # texts, lists of unequal lengths
                    yield name, _array(infos.field(name))

    def _column(self, path: tuple[str, ...]) -> Any:
        try:
            column = self._table.column(path[0]).combine_chunks()
            for name in path[1:]:
                column = column.field(name.removeprefix("_index_"))
        except (KeyError, AttributeError) as error:
            raise BadDemo(f"{self.where}: {'/'.join(path)} is missing") from error
        return column


def _array(column: Any) -> np.ndarray:
    """(n, ...) numbers of a column of numbers, or of lists of one length."""
    values = column.flatten() if "fixed_size_list" in str(column.type) else column
    array = values.to_numpy(zero_copy_only=False)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{column.type} instead of numbers")
    return array if values is column else array.reshape(len(column), -1)
