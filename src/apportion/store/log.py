"""The replay on disk: closed episodes in chunks that are written once and shared by the checkpoints that need them.

A chunk holds the episodes that closed between two checkpoints, so a checkpoint costs what is new, not the whole
buffer. Its name carries its hash: a run that goes on from an older checkpoint never writes over another's chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from apportion.run.checkpoint import CheckpointDamaged
from apportion.run.files import file_sha256, full_disk, sha256, write_atomic
from apportion.store.episodes import EpisodeStore, pack, unpack
from apportion.store.ring import Place, checksum, open_ring, read_aside
from apportion.types import Episode

Entry = dict[str, Any]  # {"file": name, "sha256": of the file, "first_id": of its first episode, "count": of episodes}
# and for a store with a ring: {"ring": name of its file, "live": number of the first episode that lies in it whole}
CHUNK_BYTES = 2**26  # of observations in a chunk: what writing or reading it takes, some times over, in memory


class ReplayLog:
    """Chunks of closed episodes in one directory. Its state is the list of entries that a checkpoint carries.

    Of a store whose observations are in a ring on the disk, chunks hold everything else, and a checksum of them.
    """

    def __init__(self, directory: Path):
        self.directory = directory
        self._entries: list[Entry] = []

    def write(self, store: EpisodeStore) -> list[Entry]:
        """Writes the episodes since the last write as new chunks; returns the entries that cover all live ones.

        Chunks of which every episode has been evicted leave the list (`prune` removes their files).
        Raises UserError on a full disk.
        """
        if store.ring is not None:
            store.ring.sync()
        self._entries = [e for e in self._entries if e["first_id"] + e["count"] > store.first_id]
        written = self._entries[-1]["first_id"] + self._entries[-1]["count"] if self._entries else store.first_id
        for numbers in _chunks(store, written):
            self._entries.append(self._write_chunk(store, numbers))
        if store.ring is not None:
            self._entries = [{**e, "ring": store.ring.path.name, "live": store.first_id} for e in self._entries]
        return [dict(e) for e in self._entries]

    def _write_chunk(self, store: EpisodeStore, numbers: range) -> Entry:
        data = save_tensors(pack(store, numbers, obs=store.ring is None))
        digest = sha256(data)
        name = f"episodes_{numbers.start:09d}_{digest[:12]}.safetensors"
        with full_disk(self.directory, "the last checkpoint is kept"):
            self.directory.mkdir(parents=True, exist_ok=True)
        write_atomic(self.directory / name, data)
        return {"file": name, "sha256": digest, "first_id": numbers.start, "count": len(numbers)}

    def verify(self, entries: list[Entry]) -> None:
        """Raises CheckpointDamaged if a chunk is missing, or not what was written, or the list has gaps.

        Reads everything, the ring's rows too.
        """
        number = entries[0]["first_id"] if entries else 0
        for entry in entries:
            path = self._path(entry["file"])
            try:
                digest = file_sha256(path)
            except OSError as e:
                raise CheckpointDamaged(f"replay chunk {path} cannot be read ({e.strerror})") from e
            if digest != entry["sha256"]:
                raise CheckpointDamaged(f"replay chunk {path} is damaged (its hash differs)")
            if entry["first_id"] != number:
                raise CheckpointDamaged(f"replay chunk {path} starts at episode {entry['first_id']}, not at {number}")
            number += entry["count"]
        if entries and "ring" in entries[0]:
            path = self._path(entries[0]["ring"])
            obs = open_ring(path)
            for place, crc in self._places(entries):
                if checksum(obs, place) != crc and read_aside(self.directory, place.number, crc) is None:
                    raise CheckpointDamaged(f"{path}: observations of episode {place.number} are damaged, or gone")

    def read(self, entries: list[Entry], store: EpisodeStore, verified: bool = False) -> None:
        """Refills `store` with the episodes of `entries`, numbered as they were, and goes on writing after them.

        Raises CheckpointDamaged (see `verify`) before the store is touched. `verified`: that has just been done.
        """
        if not verified:
            self.verify(entries)
        if store.ring is None:
            store.refill(entries[0]["first_id"] if entries else 0, self._episodes(entries))
        elif entries:
            places = list(self._places(entries))
            for place, crc in places:
                if (aside := read_aside(self.directory, place.number, crc)) is not None:
                    store.ring.restore(place.row, aside)  # what has overwritten it belongs to no checkpoint
            live = places[0][0]
            episodes = islice(self._episodes(entries, store.ring.obs), live.number - entries[0]["first_id"], None)
            store.refill(live.number, episodes, ring_row=live.row)
        else:
            store.refill(0, iter(()))
        store.promise()
        self._entries = [dict(e) for e in entries]

    def _episodes(self, entries: list[Entry], ring: np.ndarray | None = None) -> Iterator[Episode]:
        for entry in entries:  # one chunk in memory at a time
            yield from unpack(load_tensors(self._path(entry["file"]).read_bytes()), ring)

    def _places(self, entries: list[Entry]) -> Iterator[tuple[Place, int]]:
        """Where each live episode's observations lie in the ring, and their checksum."""
        for entry in entries:
            chunk = load_tensors(self._path(entry["file"]).read_bytes())
            columns = (chunk[name].tolist() for name in ("row", "length", "crc"))
            for number, (row, length, crc) in enumerate(zip(*columns, strict=True), start=entry["first_id"]):
                if number >= entry["live"]:
                    yield Place(number, row, length + 1), crc

    def _path(self, name: str) -> Path:
        if Path(name).name != name:
            raise CheckpointDamaged(f"replay chunk {name!r} leads out of {self.directory}")
        return self.directory / name

    def prune(self, keep_files: Iterable[str]) -> None:
        """Removes every file that is not in `keep_files` (those that the kept checkpoints name)."""
        keep = set(keep_files)
        for path in self.directory.glob("episodes_*"):  # half-written ones, too
            if path.name not in keep:
                path.unlink()


def _chunks(store: EpisodeStore, first: int) -> Iterator[range]:
    """The numbers of the live episodes from `first` on, in parts of CHUNK_BYTES of observations or one episode."""
    numbers = range(first, store.next_id)
    size = store.obs[0].nbytes
    taken = 0
    for number, length in zip(numbers, store.lengths[first - store.first_id :].tolist(), strict=True):
        taken += (length + 1) * size
        if taken > CHUNK_BYTES and number > first:
            yield range(first, number)
            first, taken = number, (length + 1) * size
    if first < numbers.stop:
        yield range(first, numbers.stop)
