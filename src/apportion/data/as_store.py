"""Any set of demonstrations as a store to gather from, and which of its columns a fit looks at."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from apportion.config import FitConfig
from apportion.data.batches import Inputs, feature_column
from apportion.data.filters import resize, select
from apportion.data.schema import BadDemo, Camera, DemoSet, Frames, SetInfo, readable, skipped
from apportion.data.store import DemoStore, StoreWriter
from apportion.run.files import write_json
from apportion.types import UserError

_SKIPPED = "skipped.json"  # beside the store in the cache: number in the set -> why it was skipped


def open_any(path: str, suite: str = "", timing: Literal["auto", "before", "after"] = "auto") -> DemoSet:
    """The set at `path`, whatever its format, or LIBERO's `suite` at or under it. Raises UserError.

    `timing`: how HDF5 files align observations with actions; auto: as they tell themselves.
    """
    if timing == "auto" and (Path(path) / "store.json").is_file():
        return DemoStore(path)
    from apportion.data.open import open_demos, open_suite

    known = None if timing == "auto" else timing
    return open_suite(path, suite, known) if suite else open_demos(path, known)


def located(config: FitConfig) -> FitConfig:
    """`config` with the absolute path of its data, and of its suite where that lies in one place. Raises UserError.

    A run may be resumed or audited from anywhere; libero-100 may lie in two places.
    """
    config = replace(config, data=str(Path(config.data).resolve()))
    if not config.suite:
        return config
    from apportion.data.open import find_suite

    found = find_suite(config.data, config.suite)
    return replace(config, data=str(found[0]), suite="") if len(found) == 1 else config


def settled(config: FitConfig, info: SetInfo) -> FitConfig:
    """`config` with the columns of the data spelt out. Raises UserError for what the data does not have."""
    features, proprio, cameras = config.features, config.proprio, config.cameras
    if features == "auto":
        on_cpu = config.device == "cpu"
        features = "proprio" if info.proprio and (on_cpu or not info.cameras) else "pixels"
    if features == "proprio" and not proprio:
        proprio = ("state",) if "state" in info.proprio else tuple(info.proprio)
    if features == "proprio" and not proprio:
        raise UserError(f"{config.data} has no proprioception: take --features pixels")
    if features == "pixels":
        cameras = cameras or tuple(info.cameras)
        if not cameras:
            raise UserError(f"{config.data} has no cameras: take --features proprio")
    elif cameras:
        raise UserError(f"--cameras is a setting of --features pixels, and they are {features} here")
    for flag, names, known in (("--proprio", proprio, info.proprio), ("--cameras", cameras, info.cameras)):
        wrong = next((name for name in names if name not in known), None)
        if wrong is not None:
            raise UserError(f"{flag} {wrong}: {config.data} has {', '.join(known) or 'none'}")
    return replace(config, features=features, proprio=proprio, cameras=cameras)


def as_store(config: FitConfig, demos: DemoSet, cache: Path, say: Callable[[str], None]) -> DemoStore:
    """A store with the columns of the settled `config`: `demos` itself where it is one that fits, else one in `cache`.

    Without pixels no frame is decoded; with them frames come to `image_size` once, here, and not at every batch.
    Raises BadDemo for a bad episode; with --skip-bad the store in `cache` lacks it (`numbers_of`).
    """
    if (cache / "store.json").is_file():
        return DemoStore(cache)
    size = config.image_size
    fits = all((demos.info.cameras[c].height, demos.info.cameras[c].width) == (size, size) for c in config.cameras)
    bad: dict[int, BadDemo] = {}
    if isinstance(demos, DemoStore) and fits:
        # batches are gathered from its columns, past `read`, which is what finds a bad episode
        for _ in readable(range(len(demos)), lambda i: demos.read(i, "none"), bad if config.skip_bad else None):
            pass
        if not bad:
            return demos
    if config.features.startswith("feature:") and bad:
        raise UserError(
            f"--skip-bad with --features {config.features}: {skipped(bad)}; make a store without them (apportion data "
            "convert --skip-bad) and compute its features"
        )
    if config.features.startswith("feature:"):
        raise UserError(
            f"--features {config.features}: cached features lie in a store: apportion data convert {config.data} STORE "
            "--to store, apportion data features STORE --encoder ..., then --data STORE"
        )
    what = f"frames at {size} pixels" if config.cameras else "without frames, which are not needed"
    say(f"writing {len(demos)} episodes of {config.data} to {cache} ({what})")
    bad = _convert(config, demos, cache)
    if bad:
        say(skipped(bad))
    return DemoStore(cache)


def numbers_of(store: DemoStore, cache: Path) -> list[int]:
    """The numbers that the episodes of `as_store(..., cache, ...)` have in the set, which may hold bad ones besides."""
    file = cache.with_name(_SKIPPED)
    gone = {int(number) for number in json.loads(file.read_bytes())} if file.is_file() else set[int]()
    return [number for number in range(len(store) + len(gone)) if number not in gone]


def _convert(config: FitConfig, demos: DemoSet, cache: Path) -> dict[int, BadDemo]:
    """Writes the store; returns the episodes that were skipped."""
    info, frames = demos.info, config.image_size
    cameras = {c: Camera(frames, frames, info.cameras[c].orientation) for c in config.cameras}
    sizes = dict.fromkeys(config.cameras, (frames, frames))
    column = config.return_.removeprefix("column:") if config.return_.startswith("column:") else None
    bad: dict[int, BadDemo] = {}
    want: Frames = "all" if config.cameras else "none"
    cache.parent.mkdir(parents=True, exist_ok=True)
    with StoreWriter(cache, replace(info, cameras=cameras, format="store", path=str(cache))) as out:
        for _, demo in readable(range(len(demos)), lambda i: demos.read(i, want), bad if config.skip_bad else None):
            # every low-dimensional column is kept: small, and other fits and audits may want it
            extra = [name for name in demo.extra if name == column]
            out.add(resize(select(demo, config.cameras, list(demo.proprio), extra), sizes))
        if bad:  # before the store is whole
            write_json(cache.with_name(_SKIPPED), {number: str(error) for number, error in bad.items()})
    return bad


def inputs_of(config: FitConfig, store: DemoStore) -> Inputs:
    """The columns of the settled `config` and their sizes. Raises UserError for a feature that is not there."""
    key = config.features.removeprefix("feature:") if config.features.startswith("feature:") else ""
    return Inputs(
        proprio=tuple((name, _width(store, name)) for name in config.proprio),
        cameras=config.cameras,
        image_size=config.image_size,
        feature=key,
        feature_size=feature_column(store, key).shape[1] if key else 0,
        action=store.columns["action"].shape[1],
    )


def _width(store: DemoStore, name: str) -> int:
    column = store.columns[f"proprio.{name}"]
    if column.ndim != 2:
        raise UserError(f"--proprio {name}: its rows have shape {column.shape[1:]}, and a vector is wanted")
    return column.shape[1]
