"""One more column in the tables of a LeRobot data set, and in what `meta/` says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.lerobot_meta import parquet_module
from apportion.data.lerobot_read import whole_table
from apportion.data.lerobot_stats import as_lists, merged, vector_stats
from apportion.data.schema import BadDemo, Source
from apportion.run.files import write_json
from apportion.types import UserError

_ABOUT = b"huggingface"  # the features once more, in each table's schema


def add_lerobot_column(root: Path, name: str, files: Mapping[str, Sequence[tuple[Source, np.ndarray]]]) -> list[str]:
    """Adds the feature `name` in place. `files`: table -> its episodes' columns (T,) float32; videos stay as they are.

    Other episodes in these tables get NaN and no statistics; a damaged table without a column to add stays as it is,
    for another one BadDemo is raised. Row groups stay as they were, one of them in memory at a time.
    """
    info: dict[str, Any] = json.loads((root / "meta" / "info.json").read_bytes())
    if name in info["features"]:
        raise UserError(f"the data set has a feature {name} already: give another --name")
    for path, episodes in files.items():
        try:
            _extend(root / path, name, {source.index: column for source, column in episodes})
        except BadDemo:
            if episodes:
                raise
            (root / f"{path}.tmp").unlink(missing_ok=True)
    numbered = {source.index: column for episodes in files.values() for source, column in episodes}
    stats = {number: {name: vector_stats(column)} for number, column in sorted(numbered.items())}
    whole, lines = root / "meta" / "stats.json", root / "meta" / "episodes_stats.jsonl"
    if whole.is_file():
        write_json(whole, {**json.loads(whole.read_bytes()), **as_lists(merged(list(stats.values())))})
    if lines.is_file():
        entries = [json.loads(line) for line in lines.read_text("utf-8").splitlines() if line.strip()]
        for entry in entries:
            entry["stats"] |= as_lists(stats.get(entry["episode_index"], {}))
        lines.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), "utf-8")
    info["features"][name] = {"dtype": "float32", "shape": [1], "names": None}
    write_json(root / "meta" / "info.json", info)
    return [f"column {name} in {len(files)} table(s)"]


def _extend(file: Path, name: str, columns: Mapping[int, np.ndarray]) -> None:
    import pyarrow as pa

    parquet, grown = parquet_module(), file.with_name(file.name + ".tmp")
    seen: dict[int, int] = dict.fromkeys(columns, 0)  # rows of each episode so far
    with whole_table(str(file)):
        reader = parquet.ParquetFile(file)
    with reader:
        schema = reader.schema_arrow.append(pa.field(name, pa.float32()))
        schema = schema.with_metadata(_with_feature(reader.schema_arrow.metadata or {}, name))
        with parquet.ParquetWriter(grown, schema) as writer:
            for group in range(reader.num_row_groups):
                with whole_table(str(file)):
                    table = reader.read_row_group(group)
                values = np.full(len(table), np.nan, np.float32)
                numbers = table["episode_index"].to_numpy()
                for number in columns.keys() & np.unique(numbers).tolist():
                    rows = np.flatnonzero(numbers == number)
                    values[rows] = columns[number][seen[number] : seen[number] + len(rows)]
                    seen[number] += len(rows)
                table = table.append_column(name, pa.array(values)).replace_schema_metadata(schema.metadata)
                writer.write_table(table, row_group_size=max(1, len(table)))
    grown.replace(file)


def _with_feature(metadata: Mapping[bytes, bytes], name: str) -> dict[bytes, bytes]:
    """The schema's metadata, Hugging Face's list of features extended where there is one."""
    if _ABOUT not in metadata:
        return dict(metadata)
    about: dict[str, Any] = json.loads(metadata[_ABOUT])
    about.setdefault("info", {}).setdefault("features", {})[name] = {"dtype": "float32", "_type": "Value"}
    return {**metadata, _ABOUT: json.dumps(about).encode()}
