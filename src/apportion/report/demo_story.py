"""From a fitted reward model and a set of episodes to what the page, or the Rerun viewer, shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from apportion.config import to_json
from apportion.data.schema import Demo
from apportion.report.demos import FRAMES, Shown, Story, thin
from apportion.train.use import Use, Which, audit_run

TRACE = "state"  # the proprioception that is drawn where there are no pictures, if it is there


def choose(scores: Sequence[float], success: Sequence[bool | None], count: int) -> list[int]:
    """At most `count` places: successes and failures in turn, of each the best and worst scored and those between.

    The answer is in the order of the episodes.
    """
    classes = [[i for i, s in enumerate(success) if s is kind] for kind in (True, False, None)]
    shares = [0, 0, 0]
    while sum(shares) < min(count, len(scores)):
        for kind, members in enumerate(classes):
            if shares[kind] < len(members) and sum(shares) < count:
                shares[kind] += 1
    picked: list[int] = []
    for members, share in zip(classes, shares, strict=True):
        ranked = sorted(members, key=lambda i: scores[i])
        picked += (
            [ranked[place] for place in np.linspace(0, len(ranked) - 1, share).round().astype(int)] if share else []
        )
    return sorted(set(picked))


def story_of(use: Use, audit: dict[str, Any]) -> Story:
    """What the page says of the run."""
    config, info = use.config, use.demos.info
    what = {"progress": "progress, t/T", "success": "P(success | state)"}
    method = f"{config.method}{' with bias correction' if config.rrd_bias_correction else ''}"
    learned = what.get(config.method, f"rewards that add up to the return ({config.return_})")
    form = (
        f"as a potential difference, \N{GREEK SMALL LETTER GAMMA} = {config.gamma:g}" if config.is_potential else "raw"
    )
    about = (
        f"{use.run} on {info.path} ({len(use.demos)} episodes). The model learned {learned}; its reward is used {form}."
    )
    settings = {k: v for k, v in to_json(config).items() if k != "kind"}
    return Story(f"{info.name}: {method}", about, audit, settings, info.cameras, info.fps)


def shown_of(use: Use, index: int, demo: Demo, truth: Sequence[str] = (), frames: int = FRAMES) -> Shown:
    """One episode, with `frames` of its frames at most, or its proprioception where it has none."""
    score, at = use.model.score(demo), thin(len(next(iter(demo.images.values()), demo.action)), frames)
    outcome = {True: "success", False: "failure", None: "outcome unknown"}[demo.success]
    seen = {None: "", True: ", not learned from", False: ", learned from"}
    held = None if use.held_out is None else index in use.held_out
    where = f"{demo.source.path}, {demo.source.name or demo.source.index}"
    about = f"{outcome}{seen[held]}; {demo.task}; {demo.length} steps, score {score:.3g}; {where}"
    lines = {name: demo.reward if name == "reward" else demo.extra[name] for name in truth}
    own = {name: x for name, x in demo.proprio.items() if not name.startswith("feature:")}
    if not demo.images and own:
        name = TRACE if TRACE in own else next(iter(own))
        lines[f"{name}, each entry from its lowest to its highest"] = _scaled(own[name])
    return Shown(
        number=index,
        about=about,
        success=demo.success,
        task=demo.task,
        language=demo.language,
        score=score,
        reward=use.model.rewards(demo),
        potential=use.model.potential(demo),
        images={name: x[list(at)] for name, x in demo.images.items()},
        at=at,
        lines=lines,
    )


def _scaled(values: np.ndarray) -> np.ndarray:
    low, spread = values.min(0), np.ptp(values, axis=0)
    return (values - low) / np.where(spread > 0, spread, 1.0)


def tell(
    use: Use, which: Which | None, truth: Sequence[str], count: int, frames: int, told: Callable[[int, int], None]
) -> tuple[Story, Iterator[Shown]]:
    """The audit of the episodes `which`, and `count` of them to be looked at, with `frames` frames each at most.

    These are read one by one as they are asked for, so that only one's frames are in memory.
    """
    audit, judged = audit_run(use, which, truth, told)
    numbers = [number for number in use.episodes(which) if number not in (use.bad or ())]
    picked = [numbers[i] for i in choose([e.score for e in judged], [e.success for e in judged], count)]
    shown = (shown_of(use, number, demo, truth, frames) for number, demo in use.readable(picked, "all"))
    return story_of(use, audit), shown
