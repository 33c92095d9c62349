"""Means of metrics, kept on the device until they are asked for, and lines of JSON on disk."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apportion.run.files import full_disk, write_atomic
from apportion.types import Metrics


class Accumulator:
    """Running sums of scalar tensors; the host waits for the device only in `flush`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Metrics) -> None:
        """Adds one value each; the names may differ from call to call, and each has its own count."""
        known = [name for name in metrics if name in self._sums]
        if known:
            sums, values = [self._sums[n] for n in known], [metrics[n].detach() for n in known]
            torch._foreach_add_(sums, values)  # pyright: ignore[reportPrivateImportUsage]
        for name, value in metrics.items():
            if name not in self._sums:
                # a copy: a captured graph writes its results to the same place each time
                self._sums[name] = value.detach().to(torch.float32, copy=True)
                self._counts[name] = 0
            self._counts[name] += 1

    def flush(self) -> dict[str, float]:
        """The mean of each name since the last flush; starts anew."""
        if not self._sums:
            return {}
        sums = torch.stack(list(self._sums.values())).tolist()
        means = {name: total / self._counts[name] for name, total in zip(self._sums, sums, strict=True)}
        self._sums, self._counts = {}, {}
        return means

    def state(self) -> dict:
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state(self, state: dict, device: torch.device | str = "cpu") -> None:
        """Sums go to `device`, where the metrics to come will be."""
        self._sums = {name: total.to(device, copy=True) for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON-lines file; a torn last line (a killed run) is left out; no file: no lines."""
    if not path.is_file():
        return []
    return [line for line, _ in _parse(path.read_bytes()) if line is not None]


def _parse(data: bytes) -> list[tuple[dict[str, Any] | None, bytes]]:
    """Each line as a dictionary (None if it is not one, or has no end) and as bytes."""
    out = []
    for raw in data.splitlines(keepends=True):
        try:
            line = json.loads(raw) if raw.endswith(b"\n") else None
        except ValueError:
            line = None
        out.append((line if isinstance(line, dict) else None, raw))
    return out


class JsonLines:
    """Appends dictionaries with a "step" to a file, each with the operating system before `write` returns.

    `truncate_after_step`: on resume, lines of later steps are dropped, for they will be written again. A torn last
    line is always dropped. The caller writes no wall-clock values where the same seed must give the same bytes.
    """

    def __init__(self, path: Path, truncate_after_step: int | None = None):
        self.path = path
        if path.exists():
            old = path.read_bytes()
            kept = b"".join(
                raw
                for line, raw in _parse(old)
                if line is not None and (truncate_after_step is None or line.get("step", 0) <= truncate_after_step)
            )
            if kept != old:
                write_atomic(path, kept)
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)

    def write(self, line: dict[str, Any]) -> None:
        """One line; NaN and infinity become null, for JSON has no word for them. UserError on a full disk."""
        if "step" not in line:
            raise ValueError(f"a line of {self.path.name} needs a step, not only {sorted(line)}")
        data = (json.dumps(_finite(line), allow_nan=False) + "\n").encode()
        size = os.fstat(self._fd).st_size
        try:
            with full_disk(self.path, "the lines before it are kept"):
                while data:  # a nearly full disk takes a part, and says so only at the next write
                    data = data[os.write(self._fd, data) :]
        except BaseException:
            os.ftruncate(self._fd, size)  # no half line
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(x) for x in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
