"""The replay on disk: closed episodes in chunks that are written once and shared by the checkpoints that need them.

A chunk holds the episodes that closed between two checkpoints, so a checkpoint costs what is new, not the whole
buffer. Its name carries its hash: a run that goes on from an older checkpoint never writes over another's chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from apportion.run.checkpoint import CheckpointDamaged
from apportion.run.files import file_sha256, full_disk, sha256, write_atomic
from apportion.store.episodes import EpisodeStore, pack, unpack
from apportion.types import Episode

Entry = dict[str, Any]  # {"file": name, "sha256": of the file, "first_id": of its first episode, "count": of episodes}


class ReplayLog:
    """Chunks of closed episodes in one directory. Its state is the list of entries that a checkpoint carries."""

    def __init__(self, directory: Path):
        self.directory = directory
        self._entries: list[Entry] = []

    def write(self, store: EpisodeStore) -> list[Entry]:
        """Writes the episodes since the last write as one new chunk; returns the entries that cover all live ones.

        Chunks of which every episode has been evicted leave the list (`prune` removes their files).
        Raises UserError on a full disk.
        """
        self._entries = [e for e in self._entries if e["first_id"] + e["count"] > store.first_id]
        written = self._entries[-1]["first_id"] + self._entries[-1]["count"] if self._entries else store.first_id
        if written < store.next_id:
            data = save_tensors(pack(store, range(written, store.next_id)))
            digest = sha256(data)
            name = f"episodes_{written:09d}_{digest[:12]}.safetensors"
            with full_disk(self.directory, "the last checkpoint is kept"):
                self.directory.mkdir(parents=True, exist_ok=True)
            write_atomic(self.directory / name, data)
            entry = {"file": name, "sha256": digest, "first_id": written, "count": store.next_id - written}
            self._entries.append(entry)
        return [dict(e) for e in self._entries]

    def verify(self, entries: list[Entry]) -> None:
        """Raises CheckpointDamaged if a chunk is missing, or not what was written, or the list has gaps."""
        number = entries[0]["first_id"] if entries else 0
        for entry in entries:
            path = self._path(entry)
            try:
                digest = file_sha256(path)
            except OSError as e:
                raise CheckpointDamaged(f"replay chunk {path} cannot be read ({e.strerror})") from e
            if digest != entry["sha256"]:
                raise CheckpointDamaged(f"replay chunk {path} is damaged (its hash differs)")
            if entry["first_id"] != number:
                raise CheckpointDamaged(f"replay chunk {path} starts at episode {entry['first_id']}, not at {number}")
            number += entry["count"]

    def read(self, entries: list[Entry], store: EpisodeStore) -> None:
        """Refills `store` with the episodes of `entries`, numbered as they were, and goes on writing after them.

        Raises CheckpointDamaged (see `verify`) before the store is touched.
        """
        self.verify(entries)
        store.refill(entries[0]["first_id"] if entries else 0, self._episodes(entries))
        self._entries = [dict(e) for e in entries]

    def _episodes(self, entries: list[Entry]) -> Iterator[Episode]:
        for entry in entries:  # one chunk in memory at a time
            yield from unpack(load_tensors(self._path(entry).read_bytes()))

    def _path(self, entry: Entry) -> Path:
        if Path(entry["file"]).name != entry["file"]:
            raise CheckpointDamaged(f"replay chunk {entry['file']!r} leads out of {self.directory}")
        return self.directory / entry["file"]

    def prune(self, keep_files: Iterable[str]) -> None:
        """Removes every chunk that is not in `keep_files` (those that the kept checkpoints name)."""
        keep = set(keep_files)
        for path in self.directory.glob("episodes_*"):  # half-written ones, too
            if path.name not in keep:
                path.unlink()
