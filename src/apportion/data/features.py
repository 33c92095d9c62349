"""Features of a frozen encoder, computed once: one more column of a store, float16, beside its other columns.

STORE/feature.KEY.bin holds the rows (rows, F of each camera one after the other), feature.KEY.json what they are. KEY
is 12 hexadecimal digits of a hash over the encoder's own key (weights, preprocessing), the cameras, and which way up it
saw them: other features get another name. While it grows it is feature.KEY.part; feature.KEY.progress counts episodes.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch

from apportion.data.schema import FLIPPED, ROTATED, Orientation, SetInfo
from apportion.data.store import DemoStore
from apportion.nets.pooled import Encoder
from apportion.run.files import full_disk, sync_directory, write_json
from apportion.types import UserError

Turn = Literal["180", "flip", "none"]
VERSION = 1
_KEPT = "the episodes that are finished are kept, the same command goes on"


@dataclass(frozen=True)
class FeatureColumn:
    """One computed column."""

    key: str  # 12 hexadecimal digits: --features feature:KEY
    encoder: str  # as it was given
    size: int  # numbers of one row, of all cameras together
    turns: dict[str, str]  # camera -> how its images were turned, in the order of the features
    about: dict[str, Any]  # what the key is made of


def default_turns(info: SetInfo, cameras: Sequence[str]) -> dict[str, Turn]:
    """Encoders are to see upright images: the simulator's raw buffer (opengl) is turned by 180 degrees.

    That is how LIBERO's RLDS and LeRobot copies keep it, so that one episode has the same features whichever door it
    came through; it is upright but mirrored, and "flip" would give the true view.
    """
    return {name: "180" if info.cameras[name].orientation == "opengl" else "none" for name in cameras}


def turned(images: np.ndarray, turn: Turn) -> np.ndarray:
    """(n, h, w, 3), turned: by 180 degrees, upside down (flip), or not; always a copy of its own."""
    return np.array({"180": images[:, ::-1, ::-1], "flip": images[:, ::-1], "none": images}[turn], order="C")


def column_key(encoder: Encoder, turns: Mapping[str, Turn], info: SetInfo) -> tuple[str, dict[str, Any]]:
    """KEY, and what it is made of.

    What counts is how the images lay when the encoder saw them: a raw buffer turned by 180 degrees and RLDS as it is
    have the same key, so that a reward fitted to one can be used on the other.
    """
    seen = [[name, _lies(info.cameras[name].orientation, turn)] for name, turn in turns.items()]
    about = {"encoder": encoder.key, "cameras": seen}
    text = json.dumps(about, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12], about


def _lies(orientation: Orientation, turn: Turn) -> str:
    if turn == "none":
        return orientation
    turned_to = (ROTATED if turn == "180" else FLIPPED).get(orientation, "unknown")
    return f"{orientation}, turned {turn}" if turned_to == "unknown" else turned_to


def encode_images(
    images: Mapping[str, np.ndarray], instruction: str, encoder: Encoder, turns: Mapping[str, Turn], batch: int = 32
) -> np.ndarray:
    """Features (O, F) float16 of one episode. `images`: camera -> (O, h, w, 3) uint8, of every camera in `turns`.

    Raises UserError for an encoder that gives another shape, NaN, or numbers that float16 does not hold.
    """
    parts = []
    for camera, turn in turns.items():
        if camera not in images:
            raise UserError(f"there is no camera {camera}; there are {', '.join(images) or 'none'}")
        frames, rows = images[camera], []
        for low in range(0, len(frames), batch):
            chunk = torch.from_numpy(turned(frames[low : low + batch], turn))
            made = encoder(chunk, instruction).detach().float().cpu().numpy()
            if made.shape != (len(chunk), encoder.size):
                raise UserError(f"{encoder.name} gives {made.shape} and not {(len(chunk), encoder.size)}")
            with np.errstate(over="ignore"):
                half = made.astype(np.float16)
            if not np.isfinite(half).all():
                what = "is NaN or infinite" if not np.isfinite(made).all() else "is beyond float16's 65504"
                raise UserError(f"a feature of {encoder.name}, camera {camera}, around frame {low}, {what}")
            rows.append(half)
        parts.append(np.concatenate(rows))
    return np.concatenate(parts, 1)


def compute_features(
    store: DemoStore,
    encoder: Encoder,
    turns: Mapping[str, Turn],
    batch: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> FeatureColumn:
    """The column of this encoder and these cameras (camera -> turn), computed unless it is there.

    A computation that was stopped goes on after its last finished episode. `progress` is told how many rows are done,
    of how many. Raises UserError for cameras that the store has not, and while another process computes this column.
    """
    if not turns:
        raise UserError(f"{store.path} holds no images: features need a camera")
    for camera in turns:
        if f"image.{camera}" not in store.columns:
            known = ", ".join(store.info.cameras) or "none"
            raise UserError(f"{store.path} has no camera {camera}; it has {known}")
    key, about = column_key(encoder, turns, store.info)
    if key not in feature_columns(store):
        with _growing(store.path / f"feature.{key}.part") as part:
            if key not in feature_columns(store):  # another process may have finished it just now
                _grow(store, encoder, turns, batch, part, progress)
                said = {"version": VERSION, "name": encoder.name, "size": encoder.size * len(turns)}
                write_json(_file(store, key, "json"), {**said, "turns": dict(turns), "key": about})
                _file(store, key, "part").rename(_file(store, key, "bin"))
                sync_directory(store.path)
        _file(store, key, "part").unlink(missing_ok=True)
        _file(store, key, "progress").unlink(missing_ok=True)
    return feature_columns(store)[key]


def _grow(
    store: DemoStore,
    encoder: Encoder,
    turns: Mapping[str, Turn],
    batch: int,
    part: BinaryIO,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Appends the episodes that are not yet in `part`."""
    width, total = 2 * encoder.size * len(turns), int(store.rows.sum())
    counter = Path(part.name).with_suffix(".progress")
    done = _finished(counter)
    ends = np.concatenate([[0], np.cumsum(store.rows)])
    if done > len(store) or part.seek(0, os.SEEK_END) < ends[done] * width:
        done = 0
    part.truncate(int(ends[done]) * width)
    for index in range(done, len(store)):
        low, high = int(ends[index]), int(ends[index + 1])
        images = {camera: store.columns[f"image.{camera}"][low:high] for camera in turns}
        try:
            rows = encode_images(images, store.table[index]["language"], encoder, turns, batch)
        except UserError as error:
            raise UserError(f"{store.path}, episode {index}: {error}") from error
        with full_disk(store.path, _KEPT):
            part.write(rows.tobytes())
            part.flush()
            os.fsync(part.fileno())
        write_json(counter, {"episodes": index + 1})
        if progress is not None:
            progress(high, total)


def _finished(counter: Path) -> int:
    """Episodes that were on the disk when a computation was stopped."""
    try:
        return max(0, int(json.loads(counter.read_bytes())["episodes"]))
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # nothing was finished


@contextmanager
def _growing(path: Path) -> Iterator[BinaryIO]:
    """The growing file, for this process alone. Raises UserError while another one has it."""
    try:
        file = path.open("ab")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process computes {path}: wait for it, or stop it; {_KEPT}") from None
        yield file


def _file(store: DemoStore, key: str, suffix: str) -> Path:
    return store.path / f"feature.{key}.{suffix}"


def feature_columns(store: DemoStore) -> dict[str, FeatureColumn]:
    """KEY -> column, of all that are complete."""
    found = {}
    for path in sorted(store.path.glob("feature.*.json")):
        key = path.name.split(".")[1]
        if not re.fullmatch("[0-9a-f]{12}", key) or not _file(store, key, "bin").is_file():
            continue
        try:
            data = json.loads(path.read_bytes())
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']}")
            turns = {str(name): str(turn) for name, turn in data["turns"].items()}
            found[key] = FeatureColumn(key, str(data["name"]), int(data["size"]), turns, data["key"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} cannot be read ({error}): remove it, and compute the features again") from error
    return found


def open_features(store: DemoStore, key: str) -> np.ndarray:
    """The rows (rows, F) float16 of the column KEY, memory-mapped. Raises UserError, with what there is, without it."""
    columns = feature_columns(store)
    if key not in columns:
        there = ", ".join(f"{c.key} ({c.encoder})" for c in columns.values()) or "none"
        hint = f"apportion data features {store.path} --encoder NAME computes one"
        raise UserError(f"{store.path} has no features {key}; it has {there}; {hint}")
    file, size = _file(store, key, "bin"), columns[key].size
    if file.stat().st_size != int(store.rows.sum()) * size * 2:
        raise UserError(f"{file} has not one row for each of the store: remove it, and compute the features again")
    return store.map(f"feature.{key}", np.dtype(np.float16), (size,))
