"""How a network is told which task it looks at: a vector per task or instruction, embedded by a linear layer.

none: nothing; task: one place per task (a learned embedding); words: the mean over the instruction's words, one place
per word of the training set; vectors: given ones, from a text encoder.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from apportion.data.store import DemoStore
from apportion.types import UserError

Kind = Literal["none", "task", "words", "vectors"]


@dataclass(frozen=True)
class Conditions:
    """The tasks of the episodes learned from. `names` are tasks, or instructions with words and vectors."""

    kind: Kind
    names: tuple[str, ...]
    vectors: np.ndarray  # (names, size) float32
    words: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Entries of a vector; 0 with kind none."""
        return self.vectors.shape[1]

    def number(self, task: str, language: str) -> int:
        """Which of `names` an episode is. Raises UserError for one that was not learned from."""
        if self.kind == "none":
            return 0
        name = task if self.kind == "task" else language
        if name not in self.names:
            raise UserError(
                f"the reward model was not fitted on {'task' if self.kind == 'task' else 'instruction'} {name!r}, only "
                f"on {', '.join(map(repr, self.names[:3]))}{'...' if len(self.names) > 3 else ''}: fit it with "
                "--condition words or vectors to carry over to new tasks"
            )
        return self.names.index(name)

    def vector(self, task: str, language: str) -> np.ndarray:
        """(size,) float32; with words, also for an instruction that is new but shares words with those known."""
        if self.kind == "words":
            return _bag(language, self.words)
        return self.vectors[self.number(task, language)]

    def state(self) -> dict[str, Any]:
        """Everything but the vectors, for JSON."""
        return {"kind": self.kind, "names": list(self.names), "words": list(self.words)}


def conditions(
    kind: str, store: DemoStore, train: Sequence[int], held: Sequence[int], split: str, vectors: str
) -> Conditions:
    """The conditions of the episodes `train`, and after them those of `held` that can be told apart.

    "auto": task, or words where tasks are held out; none with one task.
    """
    entries = [store.table[i] for i in train]
    tasks = sorted({e["task"] for e in entries})
    instructions = sorted({e["language"] for e in entries})
    new = sorted({store.table[i]["language"] for i in held} - set(instructions))
    if kind == "auto":
        kind = "none" if len(tasks) == 1 else "words" if split == "task" else "task"
    if kind == "none":
        return Conditions("none", ("",), np.zeros((1, 0), np.float32))
    if kind == "task":
        return Conditions("task", tuple(tasks), np.eye(len(tasks), dtype=np.float32))
    if instructions == [""]:
        raise UserError(f"--condition {kind}: the episodes carry no instructions; take --condition task")
    if kind == "words":
        words = tuple(sorted({word for text in instructions for word in _split(text)}))
        instructions += [text for text in new if set(_split(text)) & set(words)]
        return Conditions("words", tuple(instructions), np.stack([_bag(t, words) for t in instructions]), words)
    return Conditions("vectors", *_given(vectors, instructions))


def _split(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _bag(text: str, words: tuple[str, ...]) -> np.ndarray:
    out = np.zeros(len(words), np.float32)
    known = [words.index(word) for word in _split(text) if word in words]
    if not known:
        raise UserError(f"no word of the instruction {text!r} is known to the reward model, which learned {len(words)}")
    np.add.at(out, known, 1 / len(known))
    return out


def _given(path: str, needed: list[str]) -> tuple[tuple[str, ...], np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path:
        raise UserError("--condition vectors needs --instructions FILE: safetensors, one vector per instruction")
    try:
        table = load_file(Path(path))
    except (OSError, SafetensorError) as error:
        raise UserError(f"--instructions {path} cannot be read: {error}") from error
    missing = [text for text in needed if text not in table]
    if missing:
        raise UserError(f"--instructions {path}: no vector for {missing[0]!r} ({len(missing)} missing in all)")
    names = (*needed, *sorted(set(table) - set(needed)))
    if len({table[name].shape for name in names}) > 1 or table[names[0]].ndim != 1:
        raise UserError(f"--instructions {path}: the vectors must be of one length each")
    return names, np.stack([table[name] for name in names]).astype(np.float32)
