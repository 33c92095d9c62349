"""One self-contained page about a solved world of human power: courses to step through, and what everybody can reach.

Knows no kind of world: pictures come as they are, and places of goals on them as boxes. Its only script is its own,
named by its hash, and nothing is loaded.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from apportion.power.rollout import Rollout, robot_action_names
from apportion.power.solution import Solution
from apportion.power.world import World
from apportion.report.html import CSS
from apportion.report.page import opening, own_file, write_text
from apportion.types import UserError

Box = tuple[float, float, float, float]  # x, y, width, height, in the units of `View.size`


@dataclass(frozen=True)
class View:
    """How a world is shown. Without `boxes` nothing is drawn over its pictures."""

    colors: tuple[str, ...]  # of the humans, #rrggbb
    goals: tuple[str, ...]  # what to call them
    pictures: Mapping[int, str]  # of each state that is shown: a data URI
    words: Mapping[int, str]  # of each state that is shown: what it is, in words
    ground: str = ""  # a data URI: what lies below all pictures, if they do not show it themselves
    size: tuple[float, float] | None = None  # of the pictures, in the units of `boxes`
    boxes: tuple[Box, ...] = ()  # where each goal is


@dataclass(frozen=True)
class Figure:
    title: str
    caption: str
    png: bytes
    width: float  # rem, where the page is as wide


@dataclass(frozen=True)
class PowerStory:
    """What the page says of the whole."""

    title: str
    about: str  # one paragraph
    facts: Sequence[tuple[str, str]] = ()  # of the initial state and of the solve
    settings: Mapping[str, object] = field(default_factory=dict)
    figures: Sequence[Figure] = ()


def write_power_page(
    story: PowerStory, world: World, solution: Solution, rollouts: Sequence[Rollout], view: View, page: Path
) -> Path:
    """Writes the page to `page` and returns it. Raises UserError for no rollouts, or where it cannot be written."""
    if not rollouts:
        raise UserError("a report needs at least one rollout")
    text = _page(story, _data(world, solution, rollouts, view))
    write_text(page, text)
    return page


def _page(story: PowerStory, data: dict[str, Any]) -> str:
    script = own_file("player.js", "power_viewer.js")
    style = CSS + own_file("power_viewer.css")
    # inside a script element nothing but "</" and "<!--" is read as markup
    embedded = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    facts = "".join(f"<tr><td>{escape(a)}</td><td>{escape(b)}</td></tr>" for a, b in story.facts)
    settings = "".join(
        f"<tr><td><code>{escape(key)}</code></td><td>{escape(str(value))}</td></tr>"
        for key, value in story.settings.items()
    )
    return f"""{opening(f"{story.title}: apportion power report", style, script)}<body>
<h1>{escape(story.title)}</h1>
<p class="faint">{escape(story.about)}</p>
<div class="wide"><table id="facts">{facts}</table></div>
<h2>What happens</h2>
{_VIEWER}
{"".join(_figure(figure) for figure in story.figures)}
<h2>Settings</h2>
<details><summary>Parameters of the solution</summary><div class="wide"><table>{settings}</table></div></details>
<script type="application/json" id="data">{embedded}</script>
<script>{script}</script>
</body></html>
"""


def _figure(figure: Figure) -> str:
    source = "data:image/png;base64," + base64.b64encode(figure.png).decode()
    return (
        f"<h2>{escape(figure.title)}</h2><figure>"
        f'<img src="{source}" alt="{escape(figure.title)}" style="max-width: {figure.width:.3g}rem">'
        f"<figcaption>{escape(figure.caption)}</figcaption></figure>"
    )


_VIEWER = """<div class="viewer">
<div id="courses" role="group" aria-label="courses of events"></div>
<p id="about"></p>
<div class="stage"><div><div id="map"><img id="ground" alt="" hidden><svg id="under" aria-hidden="true"></svg>
<img id="picture" alt=""><svg id="overlay" aria-hidden="true"></svg></div>
<div id="options"><label><input type="checkbox" id="values" checked> V<sub>h</sub><sup>e</sup> on the map, of</label>
<select id="human" aria-label="human whose values are on the map"></select></div>
<div id="robot"></div></div><div id="cards"></div></div>
<div class="controls"><button id="play" aria-pressed="false">&#9654; Play</button>
<button id="back" aria-label="one step back">&#9664;</button><button id="on" aria-label="one step on">&#9654;</button>
<input type="range" id="step" min="0" max="0" value="0" step="1" aria-label="step">
<label>speed <select id="speed"><option value="0.5">&frac12;</option><option value="1" selected>1</option>
<option value="2">2</option><option value="4">4</option></select></label></div>
<p id="readout" aria-live="off"></p>
<canvas id="curve" aria-hidden="true"></canvas>
<p class="keys"><kbd>Space</kbd> plays, <kbd>&larr;</kbd> <kbd>&rarr;</kbd> step (with <kbd>Shift</kbd> ten),
<kbd>Home</kbd> <kbd>End</kbd> first and last, <kbd>&uarr;</kbd> <kbd>&darr;</kbd> other courses, <kbd>h</kbd> the next
human, <kbd>v</kbd> values on or off the map; or drag the slider or on the curve. A dashed frame on the map is what a
human wants.</p>
<details><summary>The state in words</summary><pre id="state"></pre></details></div>
<noscript><p class="note">Stepping through needs JavaScript; the page's own script loads nothing.</p></noscript>"""


# ---------------------------------------------------------------- data


def _data(world: World, solution: Solution, rollouts: Sequence[Rollout], view: View) -> dict[str, Any]:
    shown = list(dict.fromkeys(int(s) for rollout in rollouts for s in rollout.states))
    number = {s: i for i, s in enumerate(shown)}
    return {
        "humans": [
            {"name": world.agents[h], "agent": h, "color": color}
            for h, color in zip(world.humans, view.colors, strict=True)
        ],
        "robots": ", ".join(world.agents[r] for r in world.robots) or "no robot",
        "actions": [list(names) for names in world.actions],
        "robot_actions": robot_action_names(world.actions, world.robots),
        "goals": list(view.goals),
        "view": None if view.size is None else [0, 0, *view.size],
        "boxes": [list(box) for box in view.boxes],
        "ground": view.ground,
        "pictures": [view.pictures[s] for s in shown],
        "courses": [_course(world, solution, rollout, number, view) for rollout in rollouts],
    }


def _course(
    world: World, solution: Solution, rollout: Rollout, number: Mapping[int, int], view: View
) -> dict[str, Any]:
    how = "the robot takes its most probable action" if rollout.greedy else "the robot's actions are drawn"
    moments = [_moment(world, solution, rollout, t, view) for t in range(rollout.steps + 1)]
    for moment, s in zip(moments, rollout.states, strict=True):
        moment["picture"] = number[int(s)]
    return {
        "name": f"{'most probable' if rollout.greedy else 'drawn'}, seed {rollout.seed}",
        "about": f"{rollout.steps} steps; goals and what people do are drawn with seed {rollout.seed}, {how}.",
        "moments": moments,
    }


def _moment(world: World, solution: Solution, rollout: Rollout, t: int, view: View) -> dict[str, Any]:
    s, horizon = int(rollout.states[t]), solution.compiled.horizon
    out: dict[str, Any] = {"words": view.words[s], "left": None if horizon is None else horizon - t, "said": ""}
    empty = dict.fromkeys(("x", "v_e", "u", "v", "pi", "q", "goals", "joint", "human_pi", "robot"))
    out |= empty
    if horizon is not None and t >= horizon:
        return out
    layer = solution.at(t)
    out |= {"x": _numbers(layer.x[s]), "v_e": [_numbers(row) for row in layer.v_e[s]]}
    out |= {"u": _numbers(layer.u[s]), "v": _numbers(layer.v[s])}
    out |= {"pi": _numbers(layer.pi[s]), "q": _numbers(layer.q[s])}
    if t < rollout.steps:
        joint = rollout.joint[t]
        sizes = tuple(len(world.actions[r]) for r in world.robots)
        chosen = [joint[r] for r in world.robots]
        out |= {"goals": rollout.goals[t].tolist(), "joint": joint.tolist()}
        out |= {"human_pi": [_numbers(row) for row in rollout.human_pi[t]]}
        out["robot"] = int(np.ravel_multi_index(chosen, sizes)) if sizes else 0
        out["said"] = ", ".join(f"{world.agents[i]} {world.actions[i][a]}" for i, a in enumerate(joint))
    return out


def _numbers(values: np.ndarray | np.floating | float) -> Any:
    """Six figures of each; None for what is not finite."""
    found = np.asarray(values, np.float64)
    if found.ndim:
        return [_numbers(value) for value in found]
    return float(f"{float(found):.6g}") if np.isfinite(found) else None
