"""Batches from a store of demonstrations: clips and their steps, gathered column by column from its memory maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from apportion.data.clips import Clips, path
from apportion.data.schema import Demo, DemoSet, Frames
from apportion.data.store import DemoStore
from apportion.store.sample import choose_steps
from apportion.types import UserError

Window = Literal["transition", "state", "both"]
# rows gathered for a step: (s, s'); (s, what was before s); (s, s', what was before s)


@dataclass(frozen=True)
class Inputs:
    """Which columns a network sees, and how many entries they have. Proprioception first, in this order."""

    proprio: tuple[tuple[str, int], ...]  # name, entries
    cameras: tuple[str, ...]
    image_size: int  # pixels, of every camera
    feature: str  # KEY of a cached feature, "" for none
    feature_size: int
    action: int

    @property
    def vector(self) -> int:
        """Entries of everything but the images."""
        return sum(size for _, size in self.proprio) + self.feature_size


@dataclass(frozen=True)
class DemoBatch:
    """k steps (or states) of each of m clips. `w` rows were gathered for each, see `Window`."""

    vector: Float[Tensor, "w m k v"]
    images: dict[str, Tensor]  # camera -> (w, m, k, h, w, 3) uint8
    act: Float[Tensor, "m k a"]
    condition: Int[Tensor, "m"]  # number of its task or instruction
    mask: Bool[Tensor, "m k"]
    value: Float[Tensor, "m"]  # return of the clip
    length: Int[Tensor, "m"]  # its steps
    label: Float[Tensor, "m l"]  # of its k states; l = 0 where there is none

    def to(self, device: torch.device) -> DemoBatch:
        """The same batch on `device`."""
        if device.type == "cpu":
            return self
        moved = {n: x.to(device, non_blocking=True) for n, x in vars(self).items() if isinstance(x, Tensor)}
        return DemoBatch(images={n: x.to(device, non_blocking=True) for n, x in self.images.items()}, **moved)


def split(
    store: DemoStore, val_share: float, by: Literal["episode", "task"] = "episode", seed: int = 0
) -> tuple[list[int], list[int]]:
    """Numbers of the episodes to learn from, and of those held out: a share of all episodes, or of all tasks.

    By episode the share is held out of successes and failures separately, so that both sides see both: at least one
    of each outcome that two episodes have. Raises UserError where one side would be empty.
    """
    rng = np.random.default_rng(seed)
    if val_share == 0:
        return list(range(len(store))), []
    groups: dict[str, list[int]] = {}
    for i, entry in enumerate(store.table):
        groups.setdefault(entry["task"] if by == "task" else str(entry["success"]), []).append(i)
    if by == "task":
        names = sorted(groups)
        if len(names) < 2:
            raise UserError("--split task needs two tasks at least, and the data has one: take --split episode")
        held = set(rng.permutation(len(names))[: max(1, round(val_share * len(names)))].tolist())
        val = [i for n, name in enumerate(names) if n in held for i in groups[name]]
    else:
        val = []
        for name in sorted(groups):
            order = rng.permutation(groups[name]).tolist()
            val += order[: max(round(val_share * len(order)), min(1, len(order) - 1))]
        val = val or [int(rng.integers(len(store)))]
    chosen = set(val)
    train = [i for i in range(len(store)) if i not in chosen]
    if not train:
        raise UserError(f"--val-share {val_share} leaves none of {len(store)} episodes to learn from")
    return train, sorted(val)


class Columns:
    """The columns of a store that `inputs` names, ready to be gathered from."""

    def __init__(self, store: DemoStore, inputs: Inputs):
        self.inputs, self.start = inputs, store.start
        # plain arrays over the same memory: a memmap makes every gather an object of its own class, at a price
        self.vectors = [np.asarray(store.columns[f"proprio.{name}"]) for name, _ in inputs.proprio]
        if inputs.feature:
            self.vectors.append(np.asarray(feature_column(store, inputs.feature)))
        self.cameras = {name: np.asarray(store.columns[f"image.{name}"]) for name in inputs.cameras}
        self.action = np.asarray(store.columns["action"])

    def vector(self, rows: np.ndarray) -> np.ndarray:
        """(..., v) float32 of rows (...) of the store, one gather per column."""
        parts = [column.take(rows, 0).astype(np.float32, copy=False) for column in self.vectors]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([np.zeros((*rows.shape, 0), np.float32), *parts], -1)

    def images(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """camera -> (..., h, w, 3) uint8."""
        return {name: column.take(rows, 0) for name, column in self.cameras.items()}


def feature_column(store: DemoStore, key: str) -> np.ndarray:
    """The cached feature `key` of a store, (rows, d). Raises UserError where it has not been computed."""
    from apportion.data.features import open_features

    return open_features(store, key)


def gather(
    columns: Columns,
    clips: Clips,
    state: np.ndarray,
    window: Window,
    grippers: np.ndarray,
    mask: np.ndarray | None = None,
    label: np.ndarray | None = None,
) -> DemoBatch:
    """The states, or steps, `state` (m, k) of `clips`.

    While a clip runs back its actions are those that were taken, negated; entries marked in `grippers` (a,) bool, which
    are commands and no motions, are kept. An action belongs to a step: for the window "state" it is left empty.
    """
    base, top = columns.start[clips.episode][:, None], clips.top[:, None]
    here, after = path(top, state), path(top, state + 1)
    before = path(top, np.maximum(state - 1, 0))
    rows = base + np.stack(
        {"transition": [here, after], "state": [here, before], "both": [here, after, before]}[window]
    )
    if window == "state":
        act = np.zeros((*state.shape, 0), np.float32)
    else:
        forth = state < top
        act = columns.action[base + np.where(forth, here, here - 1)]
        act = np.where(forth[..., None] | grippers, act, -act)
    return DemoBatch(
        vector=torch.from_numpy(columns.vector(rows)),
        images={name: torch.from_numpy(x) for name, x in columns.images(rows).items()},
        act=torch.from_numpy(act),
        condition=torch.from_numpy(clips.task),
        mask=torch.from_numpy(np.ones(state.shape, bool) if mask is None else mask),
        value=torch.from_numpy(clips.value.astype(np.float32)),
        length=torch.from_numpy(clips.length),
        label=torch.from_numpy(np.zeros((len(state), 0), np.float32) if label is None else label),
    )


def subset_steps(clips: Clips, k: int | None, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """min(k, T) distinct steps of each clip, (m, k), and which of them count; None: all steps. The rest is step 0."""
    step = choose_steps(clips.length, int(clips.length.max()) if k is None else k, rng)
    mask = step < clips.length[:, None]
    return np.where(mask, step, 0), mask


def random_states(clips: Clips, rng: np.random.Generator) -> np.ndarray:
    """One state of each clip, (m, 1), uniformly, the first and the last included."""
    return (rng.random((len(clips.length), 1)) * (clips.length[:, None] + 1)).astype(np.int64)


def is_command(action: np.ndarray) -> np.ndarray:
    """Which entries of actions (n, a) take no more than three values: open, close, stay; (a,) bool."""
    return np.array([len(np.unique(column)) <= 3 for column in action.T], bool)


def row_chunks(store: DemoStore, episodes: Sequence[int]) -> Iterator[np.ndarray]:
    """The rows of each of `episodes`, one array each: for statistics that must not need memory in proportion."""
    for i in episodes:
        yield np.arange(store.start[i], store.start[i] + store.rows[i])


def step_chunks(store: DemoStore, episodes: Sequence[int]) -> Iterator[np.ndarray]:
    """As `row_chunks`, without the row after the last action, where no action was taken."""
    for i in episodes:
        yield np.arange(store.start[i], store.start[i] + store.length[i])


def demo_vector(demo: Demo, inputs: Inputs) -> np.ndarray:
    """What `Columns.vector` gives, for all rows of one episode: (O, v) float32. Raises UserError for what is missing.

    Cached features travel as the low-dimensional observation "feature:KEY" (`apportion.data.batches.read_demo`).
    """
    names = [*inputs.proprio]
    if inputs.feature:
        names.append((f"feature:{inputs.feature}", inputs.feature_size))
    parts = []
    for name, size in names:
        if name not in demo.proprio:
            hint = "compute it: apportion data features" if name.startswith("feature:") else "convert the same data"
            there = ", ".join(demo.proprio) or "none"
            raise UserError(f"the reward model needs {name}, and the episode has only {there}: {hint}")
        if demo.proprio[name].shape[1] != size:
            raise UserError(f"the reward model needs {name} of {size} entries, not {demo.proprio[name].shape[1]}")
        parts.append(demo.proprio[name])
    rows = demo.observations if names else len(next(iter(demo.images.values())))
    return np.concatenate([np.zeros((rows, 0), np.float32), *parts], 1).astype(np.float32)


def read_demo(demos: DemoSet, index: int, inputs: Inputs, frames: Frames = "none") -> Demo:
    """Episode `index` with everything that a model with these `inputs` needs, and `frames`, whichever is more.

    Cached features are included where `demos` is a store.
    """
    demo = demos.read(index, "all" if inputs.cameras else frames)
    if inputs.feature and isinstance(demos, DemoStore):
        low = int(demos.start[index])
        rows = feature_column(demos, inputs.feature)[low : low + int(demos.rows[index])]
        demo.proprio[f"feature:{inputs.feature}"] = np.asarray(rows, np.float32)
    return demo
