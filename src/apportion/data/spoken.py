"""LIBERO's names of tasks and its instructions."""

from __future__ import annotations


def spoken(task: str) -> str:
    """The instruction in a task's name, from after the scene: KITCHEN_SCENE3_turn_on_the_stove: turn on the stove."""
    words = task.split("_")
    scene = max((i for i, word in enumerate(words) if "SCENE" in word), default=-1)
    return " ".join(words[scene + 1 :])


def unquoted(text: str) -> str:
    """`text` without space and quotes around it: LIBERO's instructions come with stray ones."""
    return text.strip().strip("\"'").strip()
