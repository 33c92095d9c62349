"""`sarm_progress.parquet`: how far along each frame is, by which LeRobot weighs samples when it clones behaviour."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from apportion.data.lerobot_meta import parquet_module
from apportion.data.lerobot_read import LeRobotSet
from apportion.run.files import write_atomic
from apportion.types import UserError


def write_progress(
    path: Path, progress: Iterable[Mapping[str, np.ndarray] | None], frames: LeRobotSet | None = None, model: str = ""
) -> None:
    """Writes what `lerobot-train --sample_weighting.type=rabc` reads, usually <data set>/sarm_progress.parquet.

    One mapping per episode, in order: column -> (T,), a value for each frame, which LeRobot expects to rise from 0 to
    1; it reads `progress_sparse`, or `progress_dense` where it is told to. `frames`: the data set that the file is for,
    from which the numbers of episodes are taken and the lengths checked; with it None stands for an episode of which
    nothing is known: it gets no rows. Raises UserError where they do not fit.
    """
    import pyarrow as pa

    columns: dict[str, list[np.ndarray]] = {}
    entries = None if frames is None else frames.meta.episodes
    index = count = 0
    for count, values in enumerate(progress, 1):
        if values is None and entries is not None and count <= len(entries):
            index += entries[count - 1]["length"]
            continue
        values = values or {}
        lengths = {len(x) for x in values.values()}
        if entries is not None and (count > len(entries) or lengths != {entries[count - 1]["length"]}):
            expected = entries[count - 1]["length"] if count <= len(entries) else "no"
            raise UserError(f"{path}: episode {count - 1} has {expected} frames, its progress {sorted(lengths)} values")
        if len(lengths) != 1 or not all(name.startswith("progress_") for name in values):
            raise UserError(f"{path}: columns of one length called progress_... are needed, got {sorted(values)}")
        steps = lengths.pop()
        number = count - 1 if entries is None else entries[count - 1]["episode_index"]
        rows = {"index": index + np.arange(steps), "episode_index": np.full(steps, number)}
        rows |= {"frame_index": np.arange(steps), **{k: np.asarray(x, np.float32) for k, x in values.items()}}
        for name, part in rows.items():
            columns.setdefault(name, []).append(part)
        index += steps
    if count == 0 or (entries is not None and count != len(entries)):
        expected = "at least one is needed" if entries is None else f"the data set has {len(entries)}"
        raise UserError(f"{path}: progress of {count} episodes, {expected}")
    table = pa.table({name: np.concatenate(parts) for name, parts in columns.items()})
    out = io.BytesIO()
    parquet_module().write_table(table.replace_schema_metadata({"reward_model_path": model}), out)
    write_atomic(path, out.getvalue())
