"""One more column of numbers per step, in a copy of a set of demonstrations and in that set's own format.

Everything else is copied as it is: images are not decoded, other columns not rewritten. The copy grows under another
name and takes its own when it is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from apportion.data.hdf5 import dataset, subgroup
from apportion.data.optional import need
from apportion.data.schema import SetInfo, Source
from apportion.run.files import full_disk, write_json
from apportion.types import UserError

Column = Mapping[Source, np.ndarray]  # of every episode that could be read: (T,) float32


def add_column(
    info: SetInfo, source: Path, out: Path, name: str, values: Column, progress: Column, about: str
) -> list[str]:
    """Copies the set at `source` to `out` with the column; returns, in words, where it lies.

    LIBERO and Minari: the dataset rewards_NAME beside rewards; RLDS: the step feature reward_NAME; LeRobot: the column
    reward.NAME, and `progress` (in [0, 1]) as sarm_progress.parquet; a store: the extra column reward_NAME. `about`:
    one sentence kept with it. An episode without `values` gets no dataset in HDF5, NaN in LeRobot's and the store's
    column and no row of progress; in RLDS, where every record must have every feature, its record is left out. Raises
    UserError where `out` exists or lies in `source`, the column exists, or the disk is full.
    """
    for path in {episode.path for episode in values}:
        if info.format != "store" and (PurePath(path).is_absolute() or ".." in PurePath(path).parts):
            raise UserError(f"{path} does not lie in {source}: only files of the copy are written to")
    with copied(source, out) as copy:
        match info.format:
            case "libero" | "minari":
                return _hdf5(info, copy, f"rewards_{name}", values, about)
            case "rlds":
                from apportion.data.rlds_column import add_rlds_column

                return add_rlds_column(copy, f"reward_{name}", by_file(values), about)
            case "lerobot":
                return _lerobot(copy, f"reward.{name}", values, progress, about)
            case "store":
                return _store(copy, f"extra.reward_{name}", values)


def check_place(source: Path, out: Path) -> None:
    """Raises UserError where a copy of `source` cannot be made at `out`."""
    here, there = source.resolve(), out.resolve()
    if out.exists():
        raise UserError(f"--out {out} exists already: remove it, or give another place")
    if there.is_relative_to(here) or here.is_relative_to(there):
        raise UserError(f"--out {out} and the data {source} lie in one another: give a place of its own")


@contextmanager
def copied(source: Path, out: Path) -> Iterator[Path]:
    """A copy of a file or folder under another name, which becomes `out` when the block ends well."""
    check_place(source, out)
    copy = out.with_name(out.name + ".tmp")
    try:
        with full_disk(out, "nothing was kept"):
            _remove(copy)
            try:
                copy.parent.mkdir(parents=True, exist_ok=True)
                _copy(source, copy)
            except (PermissionError, NotADirectoryError, FileExistsError) as error:
                raise UserError(f"--out {out} cannot be written: {os.strerror(error.errno or 0)}") from error
            yield copy
            copy.rename(out)
    finally:
        _remove(copy)


def _copy(source: Path, copy: Path) -> None:
    """Contents of links, not links, and writable: what is changed later must not be the original."""
    if source.is_file():
        shutil.copyfile(source, copy)
        return
    shutil.copytree(source, copy, copy_function=shutil.copyfile)
    for folder in (copy, *(path for path in copy.rglob("*") if path.is_dir())):
        folder.chmod(0o755)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()


def by_file(values: Column) -> dict[str, list[tuple[Source, np.ndarray]]]:
    """File -> its episodes, in their order in the file."""
    files: dict[str, list[tuple[Source, np.ndarray]]] = defaultdict(list)
    for source, column in values.items():
        files[source.path].append((source, column))
    return {path: sorted(found, key=lambda pair: pair[0].index) for path, found in files.items()}


def _hdf5(info: SetInfo, copy: Path, name: str, values: Column, about: str) -> list[str]:
    h5py = need("h5py", "writing HDF5")
    for path, episodes in by_file(values).items():
        places = (copy, copy / path, copy / "data" / path)  # Minari: paths begin in the folder data
        file = next((place for place in places if place.is_file()), None)
        if file is None or file.suffix not in (".hdf5", ".h5", ".tmp"):
            raise UserError(f"{path} is no HDF5 file: only Minari's HDF5 form can be labelled; convert it to a store")
        with h5py.File(file, "r+") as handle:
            holder = subgroup(handle, "data", path) if info.format == "libero" else handle
            for source, column in episodes:
                group = subgroup(holder, source.name, path)
                if name in group:
                    raise UserError(f"{path}, {source.name}: it has a dataset {name} already: give another --name")
                actions = dataset(group, "actions", path)
                lead = 0 if actions is None else len(actions) - len(column)  # None: Minari's actions of several parts
                data = group.create_dataset(name, data=np.concatenate([np.zeros(lead, np.float32), column]))
                data.attrs["about"] = about
                if lead:  # observations lie after the actions, and what was seen before action 0 is not stored
                    data.attrs["first_rows_unknown"] = lead
    return [f"dataset {name} beside rewards, in {len(by_file(values))} file(s)"]


def _lerobot(copy: Path, name: str, values: Column, progress: Column, about: str) -> list[str]:
    from apportion.data.lerobot import LeRobotSet, write_progress
    from apportion.data.lerobot_column import add_lerobot_column

    frames = LeRobotSet(copy)
    tables = [str(frames.meta.data_file(entry).relative_to(copy)) for entry in frames.meta.episodes]
    where = add_lerobot_column(copy, name, {**dict.fromkeys(tables, ()), **by_file(values)})
    known = {source.index: {"progress_sparse": column} for source, column in progress.items()}
    columns = [known.get(entry["episode_index"]) for entry in frames.meta.episodes]
    write_progress(copy / "sarm_progress.parquet", columns, frames, about)
    return [*where, "progress_sparse in sarm_progress.parquet"]


def _store(copy: Path, name: str, values: Column) -> list[str]:
    about: dict[str, Any] = json.loads((copy / "store.json").read_bytes())
    table: list[dict[str, Any]] = json.loads((copy / "episodes.json").read_bytes())
    if name in about["columns"]:
        raise UserError(f"the store has a column {name} already: give another --name")
    (copy / "store.json").unlink()  # written last: where it is, the store is whole
    with (copy / f"{name}.bin").open("wb") as file:
        for entry in table:
            column = np.zeros(entry["rows"], np.float32)
            column[: entry["length"]] = values.get(Source(*entry["source"]), np.nan)
            column.tofile(file)
    about["columns"][name] = {"dtype": "float32", "shape": []}
    write_json(copy / "store.json", about)
    return [f"column {name}"]
