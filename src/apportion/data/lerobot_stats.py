"""The statistics that LeRobot normalises with: per feature min, max, mean, std, count and quantiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
Stats = dict[str, dict[str, np.ndarray]]  # feature -> statistic -> array of at least one dimension
_SIDE = 128  # larger pictures are thinned out to about as many rows and columns


def vector_stats(values: np.ndarray) -> dict[str, np.ndarray]:
    """Of (T, ...) numbers, over T; plain numbers give arrays of shape (1,)."""
    x = values.astype(np.float64)
    x = x[:, None] if x.ndim == 1 else x
    found = {"min": x.min(0), "max": x.max(0), "mean": x.mean(0), "std": x.std(0), "count": np.array([len(x)])}
    return found | dict(zip(QUANTILES, np.quantile(x, list(QUANTILES.values()), axis=0), strict=True))


def image_stats(frames: np.ndarray) -> dict[str, np.ndarray]:
    """Of (T, h, w, 3) uint8, per colour, (3, 1, 1), scaled to [0, 1]; of about 100 of the frames, as LeRobot samples.

    `count` is the number of frames that were looked at.
    """
    n = max(min(len(frames), 100), min(int(len(frames) ** 0.75), 10_000))
    step = max(1, round(max(frames.shape[1:3]) / _SIDE))
    picked = np.round(np.linspace(0, len(frames) - 1, n)).astype(int)
    pixels = np.stack([frames[i, ::step, ::step] for i in picked]).reshape(-1, 3)
    level = np.arange(256)
    found: dict[str, list[float]] = {name: [] for name in ("min", "max", "mean", "std", *QUANTILES)}
    for colour in range(3):
        counts = np.bincount(pixels[:, colour], minlength=256)  # 256 bins say all there is to say of bytes
        share = counts / counts.sum()
        mean = float((share * level).sum())
        found["min"].append(float(np.flatnonzero(counts)[0]))
        found["max"].append(float(np.flatnonzero(counts)[-1]))
        found["mean"].append(mean)
        found["std"].append(float(np.sqrt((share * (level - mean) ** 2).sum())))
        for name, q in QUANTILES.items():
            found[name].append(float(np.searchsorted(np.cumsum(share), q)))
    return {k: np.array(v).reshape(3, 1, 1) / 255 for k, v in found.items()} | {"count": np.array([n])}


def merged(parts: Sequence[Stats]) -> Stats:
    """Of a whole set from those of its episodes. Its quantiles are means of theirs, weighted, as LeRobot has them."""
    return {key: _merged([part[key] for part in parts]) for key in parts[0]}


def _merged(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    count = np.array([int(p["count"][0]) for p in parts])
    stacked = {name: np.stack([p[name] for p in parts]) for name in parts[0]}

    def weighted(values: np.ndarray) -> np.ndarray:
        return np.tensordot(count / count.sum(), values, axes=1)

    mean = weighted(stacked["mean"])
    variance = weighted(stacked["std"] ** 2 + (stacked["mean"] - mean) ** 2)
    found = {"min": stacked["min"].min(0), "max": stacked["max"].max(0), "mean": mean, "std": np.sqrt(variance)}
    found["count"] = np.array([count.sum()])
    return found | {name: weighted(stacked[name]) for name in QUANTILES}


def as_lists(stats: Stats) -> dict[str, dict[str, Any]]:
    """For JSON and parquet."""
    return {key: {name: values.tolist() for name, values in of.items()} for key, of in stats.items()}
