"""One door to every format: what lies under a path, and LIBERO's suites by their names."""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

from apportion.data.libero import LiberoSet, Timing
from apportion.data.minari import MinariSet
from apportion.data.rlds import RldsSet
from apportion.data.rlds_meta import read_shards, version_folder
from apportion.data.schema import Demo, DemoSet, Frames, SetInfo
from apportion.data.store import DemoStore
from apportion.types import UserError

SUITES = {
    "libero-spatial": ("libero_spatial",),
    "libero-object": ("libero_object",),
    "libero-goal": ("libero_goal",),
    "libero-10": ("libero_10",),
    "libero-90": ("libero_90",),
    "libero-100": ("libero_90", "libero_10"),
}  # name -> the suites it consists of
_HDF5 = (".hdf5", ".h5")
_FORMATS = "LIBERO's HDF5, RLDS, LeRobot, Minari, or a store that apportion wrote"


def open_demos(path: Path | str, timing: Timing | None = None) -> DemoSet:
    """The set at `path`, whichever format it has. Raises UserError with a hint for what is none.

    `timing`: how LIBERO's files align observations with actions, where their attributes do not tell.
    """
    path = Path(path).expanduser()
    kind = set_format(path)
    if kind is None:
        raise UserError(_hint(path))
    if timing is not None and kind != "libero":
        raise UserError(f"{path} is of format {kind}: --timing is for LIBERO's HDF5 files")
    if kind == "libero":
        return LiberoSet(path, timing)
    if kind == "lerobot":
        from apportion.data.lerobot import LeRobotSet

        return LeRobotSet(path)
    return {"rlds": RldsSet, "minari": MinariSet, "store": DemoStore}[kind](path)


def set_format(path: Path) -> str | None:
    """libero, rlds, lerobot, minari or store; None for what is no set. Looks at names only."""
    if path.is_file():
        beside = path.with_name("metadata.json").is_file() and path.name == "main_data.hdf5"
        return "minari" if beside else "libero" if path.suffix in _HDF5 else None
    marks = {
        "store.json": "store", "dataset_info.json": "rlds", "meta/info.json": "lerobot", "data/metadata.json": "minari"
    }  # fmt: skip
    for mark, kind in marks.items():
        if (path / mark).is_file():
            return kind
    if (path / "metadata.json").is_file() and path.name == "data":
        return "minari"
    if not path.is_dir():
        return None
    if any(re.fullmatch(r"\d+\.\d+\.\d+", p.parent.name) for p in path.glob("*/dataset_info.json")):
        return "rlds"
    if not _hdf5_files(path, "*") and not _hdf5_files(path, "*/*"):
        return None
    others = [p for p in path.iterdir() if p.is_dir() and set_format(p) not in (None, "libero")]
    return None if others else "libero"  # several formats side by side: the user says which


def _hdf5_files(path: Path, pattern: str) -> list[Path]:
    found = {file for suffix in _HDF5 for file in path.glob(pattern + suffix) if file.name != "main_data.hdf5"}
    return sorted(found)


def open_suite(path: Path | str, suite: str, timing: Timing | None = None) -> DemoSet:
    """The demonstrations of one of `SUITES` at or under `path`, as one set."""
    sets = [open_demos(found, timing) for found in find_suite(path, suite)]
    return sets[0] if len(sets) == 1 else JoinedSet(suite, sets)


def find_suite(path: Path | str, suite: str) -> list[Path]:
    """Where the suite's sets lie: `path` itself, or folders in it; two for libero-100 kept as its parts.

    Folders are known by their names (libero_10, libero_10_no_noops), RLDS sets also by the name they give themselves
    (liber_o10). A single set of an unknown name is taken as it is. Raises UserError.
    """
    path = Path(path).expanduser()
    if suite not in SUITES:
        near = difflib.get_close_matches(suite, SUITES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(SUITES)}"
        raise UserError(f"there is no suite {suite}: {hint}")
    if not path.exists():
        raise UserError(_hint(path))
    known = _suite_of(path)
    if known is not None or (set_format(path) and not _sets_in(path)):
        if known not in (None, suite):
            raise UserError(f"{path} holds {known}, not {suite}: give the path of {suite}, or --env {known}")
        return [path]
    inside = _sets_in(path)
    found = [_only(path, part, inside) for part in (suite.replace("-", "_"), *SUITES[suite])]
    if found[0] is not None:
        return [found[0]]
    missing = [part for part, place in zip(SUITES[suite], found[1:], strict=True) if place is None]
    if missing:
        there = ", ".join(p.name for p in inside) or "no set"
        raise UserError(f"{path} holds no {' and no '.join(missing)} (needed for {suite}): there is {there}")
    return [place for place in found[1:] if place is not None]


class JoinedSet:
    """Several sets, one after the other. Raises UserError where their cameras or columns differ."""

    def __init__(self, name: str, sets: Sequence[DemoSet]):
        self._sets = list(sets)
        self._ends = list(accumulate(map(len, sets)))
        first = sets[0].info
        for other in (s.info for s in sets[1:]):
            for what in ("cameras", "proprio", "action"):
                mine, theirs = getattr(first, what), getattr(other, what)
                if mine != theirs:
                    raise UserError(f"{first.path} and {other.path} differ in {what}: {mine} against {theirs}")
        self._info = replace(first, name=name)

    @property
    def info(self) -> SetInfo:
        return self._info

    @property
    def paths(self) -> list[str]:
        """Where the sets lie."""
        return [part.info.path for part in self._sets]

    def __len__(self) -> int:
        return self._ends[-1]

    def read(self, index: int, frames: Frames = "all") -> Demo:
        """As any set's; the source's path begins with the path of the set that it is from."""
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index} of {len(self)}")
        number = bisect_right(self._ends, index)
        part = self._sets[number]
        demo = part.read(index - self._ends[number] + len(part), frames)
        return replace(demo, source=replace(demo.source, path=str(Path(part.info.path) / demo.source.path)))

    def close(self) -> None:
        for part in self._sets:
            part.close()


def _sets_in(path: Path) -> list[Path]:
    """The folders in `path` that are sets by themselves; none if it is a set's own folder."""
    if not path.is_dir() or set_format(path) not in (None, "libero"):
        return []
    return sorted(p for p in path.iterdir() if p.is_dir() and set_format(p))


def _only(path: Path, part: str, inside: list[Path]) -> Path | None:
    found = [p for p in inside if _suite_of(p) == part.replace("_", "-")]
    if len(found) > 1:  # rollouts beside the released demonstrations
        found = [p for p in found if p.name.lower().replace("-", "_") in (part, f"{part}_no_noops")] or found
    if len(found) > 1:
        raise UserError(f"{path} holds {part} more than once ({', '.join(p.name for p in found)}): give one of them")
    return found[0] if found else None


def _suite_of(path: Path) -> str | None:
    """The suite that a folder's name, or an RLDS set's own name, stands for."""
    names = [path.name, path.parent.name if re.fullmatch(r"\d+\.\d+\.\d+", path.name) else ""]
    for name in names:
        found = re.match(r"libero_?(spatial|object|goal|100|10|90)(?!\d)", re.sub(r"[^a-z0-9]", "_", name.lower()))
        if found:
            return f"libero-{found[1]}"
    if set_format(path) == "rlds":
        name = read_shards(version_folder(path), None)[0].replace("_", "")  # liber_o10
        found = re.match(r"libero(spatial|object|goal|100|10|90)(?!\d)", name)
        return f"libero-{found[1]}" if found else None
    return None


def _hint(path: Path) -> str:
    """One line about a path at which there is no set."""
    if not path.exists():
        parent = next((p for p in path.absolute().parents if p.is_dir()), Path("/"))
        lost = path.absolute().relative_to(parent).parts[0]
        near = difflib.get_close_matches(lost, [p.name for p in parent.iterdir()], n=1)
        return f"{path} does not exist" + (
            f": did you mean {parent / near[0]}?" if near else f": {parent} has no {lost}"
        )
    if path.is_file():
        if ".tfrecord" in path.name or path.name in ("dataset_info.json", "features.json"):
            return f"{path} is one file of an RLDS set: give its folder, {path.absolute().parent}"
        if path.suffix in (".parquet", ".mp4", ".jsonl"):
            return f"{path} is one file of a LeRobot set: give the folder that holds meta/info.json"
        return f"{path} is no file of demonstrations: give {_FORMATS}"
    if any(".tfrecord" in p.name for p in path.iterdir()):
        return f"{path} has TFRecords but no dataset_info.json: fetch that and features.json too"
    inside = sorted(p for pattern in ("*", "*/*") for p in path.glob(pattern) if p.is_dir() and set_format(p))
    inside = _hdf5_files(path, "*") + [p for p in inside if not any(q in inside for q in p.parents)]
    if inside:
        names = ", ".join(str(p.relative_to(path)) for p in inside[:8]) + (", ..." if len(inside) > 8 else "")
        return f"{path} holds {len(inside)} sets of demonstrations: give one of them: {names}"
    empty = not any(path.iterdir())
    return f"{path} is empty" if empty else f"{path} holds no demonstrations: give the folder of {_FORMATS}"
