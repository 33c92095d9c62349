"""One self-contained page about a reward learned from demonstrations: its audit, and episodes to play.

Frames travel as JPEG sheets inside the page; its only script is its own, named by its hash, and nothing is loaded.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.optional import need
from apportion.data.schema import Camera, Orientation
from apportion.report.html import CSS
from apportion.report.page import opening, own_file
from apportion.rewards.audit_text import HEAD, rows
from apportion.run.files import full_disk, replacing
from apportion.types import UserError

SIDE = 160  # pixels: no frame on the page is higher or wider
FRAMES = 150  # of one camera of one episode; the nearest is shown
COLUMNS = 12  # frames beside each other on a sheet
QUALITY = 75  # of the JPEG sheets
LINES = 8  # curves in a panel
TURNED: dict[Orientation, str] = {
    "opengl": "turned upright (stored upside down)",
    "rotated": "as stored: mirrored left to right",
}


@dataclass(frozen=True)
class Shown:
    """One episode of T steps on the page."""

    number: int  # in its set
    about: str  # one line: outcome, task, length, score, where it came from
    success: bool | None
    task: str
    language: str
    score: float
    reward: np.ndarray  # (T,)
    potential: np.ndarray | None  # (O,)
    images: dict[str, np.ndarray] = field(default_factory=dict)  # camera -> (n, h, w, 3) uint8 (see `thin`)
    at: tuple[int, ...] = ()  # which observation each of the n frames is
    lines: dict[str, np.ndarray] = field(default_factory=dict)  # title -> (T or O,) or (T or O, d): further panels


@dataclass(frozen=True)
class Story:
    """What the page says of the run as a whole."""

    title: str
    about: str  # one paragraph
    audit: dict[str, Any]  # of `audit_demos`
    settings: Mapping[str, object]
    cameras: Mapping[str, Camera]
    fps: float | None


def thin(observations: int, frames: int = FRAMES) -> tuple[int, ...]:
    """At most `frames` of `observations`, evenly, the first and the last among them."""
    return tuple(np.unique(np.linspace(0, observations - 1, min(observations, frames)).round().astype(int)).tolist())


def write_page(story: Story, shown: Iterable[Shown], page: Path) -> Path:
    """Writes the page to `page` and returns it; the episodes are drawn from `shown` and written one at a time.

    Raises UserError for no episodes, or where it cannot be written; then the page that was there before stays.
    """
    # map, not a loop: while the next episode is read nobody holds the frames of the one before
    episodes = map(lambda e: _embedded(_episode(e, story.cameras)), shown)
    first = next(episodes, None)
    if first is None:
        raise UserError("a report needs at least one episode")
    try:
        with full_disk(page, "what was there before is kept"):
            page.parent.mkdir(parents=True, exist_ok=True)
        with replacing(page) as file:
            for text in _page(story, chain([first], episodes)):
                file.write(text.encode())
    except OSError as error:
        raise UserError(f"{page} cannot be written ({error.strerror}): --out is a page named *.html") from error
    return page


def _page(story: Story, episodes: Iterable[str]) -> Iterator[str]:
    """The page in pieces; `episodes`: each as JSON."""
    script = own_file("player.js", "viewer.js")
    style = CSS + own_file("viewer.css")
    turned = {name: TURNED.get(camera.orientation, "") for name, camera in story.cameras.items()}
    head = f'"fps":{_embedded(story.fps or 10.0)},"turned":{_embedded(turned)}'
    settings = "".join(
        f"<tr><td><code>{escape(key)}</code></td><td>{escape(str(value))}</td></tr>"
        for key, value in story.settings.items()
    )
    yield f"""{opening(f"{story.title}: apportion report", style, script)}<body>
<h1>{escape(story.title)}</h1>
<p class="faint">{escape(story.about)}</p>
{_audit(story.audit)}
<h2>Episodes</h2>
{_VIEWER}
<h2>Settings</h2>
<details><summary>Settings of the fit</summary><div class="wide"><table>{settings}</table></div></details>
<script type="application/json" id="data">{{{head},"episodes":["""
    for number, text in enumerate(episodes):
        yield f"{',' if number else ''}{text}"
    yield f"""]}}</script>
<script>{script}</script>
</body></html>
"""


def _embedded(data: Any) -> str:
    """JSON that may stand in a script element, where nothing but "</" and "<!--" is read as markup."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


_VIEWER = """<div class="viewer">
<div id="episodes" role="group" aria-label="episodes, with the score of each"></div>
<p id="language"></p><p id="about"></p>
<div class="stage"><div id="cameras"></div>
<div class="sides"><h3>Highest rewards</h3><div id="highest" class="thumbs"></div>
<h3>Lowest rewards</h3><div id="lowest" class="thumbs"></div></div></div>
<div class="controls"><button id="play" aria-pressed="false">&#9654; Play</button>
<label>speed <select id="speed"><option value="0.25">&frac14;</option><option value="0.5">&frac12;</option>
<option value="1" selected>1</option><option value="2">2</option><option value="4">4</option></select></label>
<span id="readout" aria-live="off"></span></div>
<canvas id="curve" tabindex="0" role="slider" aria-label="step" aria-valuemin="0" aria-valuemax="0" aria-valuenow="0">
</canvas>
<p class="keys"><kbd>Space</kbd> plays, <kbd>&larr;</kbd> <kbd>&rarr;</kbd> step (with <kbd>Shift</kbd> ten),
<kbd>Home</kbd> <kbd>End</kbd> first and last, <kbd>&uarr;</kbd> <kbd>&darr;</kbd> other episodes; or drag on the curve.
&#10003; success, &#10007; failure, then the episode's number and its score.</p></div>
<noscript><p class="note">Playing the episodes needs JavaScript; the page's own script loads nothing.</p></noscript>"""


def _audit(found: dict[str, Any]) -> str:
    notes = "".join(f'<p class="note">{escape(said)}</p>\n' for said in found["warnings"])
    head = "".join(f"<th{' class=n' if i else ''}>{escape(name)}</th>" for i, name in enumerate(HEAD))
    body = ""
    for row in rows(found):
        about = f"<small>{escape(row.about)}</small>" if row.about else ""
        cells = "".join(f"<td class=n>{_cell(cell)}</td>" for cell in (row.model, *row.controls))
        more = " class=more" if row.name.startswith(" ") else ""
        body += f"<tr{more}><td>{escape(row.name.strip())}{about}</td>{cells}</tr>\n"
    held = found.get("held_out", found["episodes"])
    caption = (
        f"{found['episodes']} episodes ({found['successes']} successes, {found['failures']} failures), {held} of them "
        f"not learned from; {found['steps']:,} steps. Controls see no observation: they are fitted to "
        f"{found['controls_fitted_to']} training episodes. Below a figure is its 95 % bootstrap interval over "
        "episodes, unless it has no width."
    )
    table = f'<div class="wide"><table id="audit"><tr>{head}</tr>\n{body}</table></div>'
    return f'<h2>Audit</h2>\n{notes}{table}\n<p class="faint">{escape(caption)}</p>\n'


def _cell(text: str) -> str:
    """The figure, and its interval below."""
    value, _, interval = text.partition(" (")
    return escape(value) + (f"<small>{escape(interval.rstrip(')'))}</small>" if interval else "")


def _episode(shown: Shown, cameras: Mapping[str, Camera]) -> dict[str, Any]:
    steps = len(shown.reward)
    lines = []
    for title, values in shown.lines.items():
        columns = values.reshape(len(values), -1)[:, :LINES].T
        lines.append({"title": title, "lines": [_numbers(column[:steps]) for column in columns]})
    return {
        "number": shown.number,
        "about": shown.about,
        "outcome": {True: "success", False: "failure", None: "unknown"}[shown.success],
        "task": shown.task,
        "language": shown.language,
        "score": _numbers(np.array([shown.score]))[0],
        "reward": _numbers(shown.reward),
        "potential": None if shown.potential is None else _numbers(shown.potential[:steps]),
        "sheets": {name: _sheet(x, shown.at, cameras.get(name)) for name, x in shown.images.items()},
        "lines": lines,
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    """Five figures of each; None for what is not finite."""
    return [float(f"{x:.5g}") if np.isfinite(x) else None for x in values.astype(np.float64)]


def _sheet(frames: np.ndarray, at: tuple[int, ...], camera: Camera | None) -> dict[str, Any]:
    """All frames (n, h, w, 3) as one JPEG, row by row."""
    image = need("PIL.Image", "frames on the page")
    if camera is not None and camera.orientation == "opengl":
        frames = frames[:, ::-1]
    height, width = frames.shape[1:3]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    columns = min(COLUMNS, len(frames))
    sheet = image.new("RGB", (columns * size[0], -(-len(frames) // columns) * size[1]))
    for i, frame in enumerate(frames):
        small = image.fromarray(np.ascontiguousarray(frame)).resize(size, image.Resampling.LANCZOS)
        sheet.paste(small, (i % columns * size[0], i // columns * size[1]))
    data = io.BytesIO()
    sheet.save(data, "JPEG", quality=QUALITY)
    source = "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
    return {"src": source, "width": size[0], "height": size[1], "columns": columns, "at": list(at)}
