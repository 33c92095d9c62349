"""Parts of pages about runs: figures beside the page, tables, all settings, and where each run was made."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np
from matplotlib.figure import Figure

from apportion.report.plots import Curve
from apportion.report.runs import Group, Run, flat
from apportion.report.style import pretty, save, svg

LARGEST = 8_000_000  # bytes of a film that is put into the page
LONGEST = 80  # letters of a figure's name in its file: several differing settings make long ones
POINTS = 250  # of a training curve: more cannot be told apart in a panel two inches wide


class Album:
    """Puts each figure beside the page as PNG and gives the HTML that shows it as SVG."""

    def __init__(self, page: Path):
        self.page = page

    def show(self, fig: Figure, name: str, alt: str, caption: str) -> str:
        """alt, caption: plain text. An SVG in an <img> keeps its ids to itself, so that many fit on one page."""
        save(fig, self.page.with_name(f"{self.page.stem}-{_slug(name)}.png"))
        data = base64.b64encode(svg(fig).encode()).decode()
        image = f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'
        return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>\n"


def _slug(name: str) -> str:
    """What a figure's file is called; a long name keeps its two ends, and a mark of the whole."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if len(slug) <= LONGEST:
        return slug
    mark = hashlib.sha256(slug.encode()).hexdigest()[:8]
    return f"{slug[:40].strip('-')}-{mark}-{slug[-20:].strip('-')}"


def film(group: Group, page: Path) -> str:
    """video.mp4 of the first run that has one, in the page; a large one as a link from it. Empty where none has."""
    found = next(((run, run.path / "video.mp4") for run in group.runs if (run.path / "video.mp4").is_file()), None)
    if found is None:
        return ""
    run, path = found
    name = f"{pretty(group.label)}, seed {run.seed}"
    learned = any(row.get("audit") for row in run.evaluations)
    below = "; below the picture the learned reward of each step" if learned else ""
    caption = f"One episode of {name}, filmed by apportion evaluate --video{below}."
    size = path.stat().st_size
    if size > LARGEST:
        link = quote(os.path.relpath(path, page.parent.resolve()))
        return f'<p><a href="{escape(link)}">{escape(path.name)}</a> ({size / 1e6:.0f} MB): {escape(caption)}</p>\n'
    data = base64.b64encode(path.read_bytes()).decode()
    label = escape(f"An episode of {name}")
    video = f'<video controls loop muted playsinline aria-label="{label}" src="data:video/mp4;base64,{data}"></video>'
    return f"<figure>{video}<figcaption>{escape(caption)}</figcaption></figure>\n"


def curves_of(groups: Sequence[Group], pick: Callable[[Run], dict[int, float]]) -> list[Curve]:
    """One for each group that has any value; `pick`: as for `Group.curve`."""
    return [c for c in (g.curve(pick) for g in groups) if c is not None]


def thin(curve: Curve) -> Curve:
    """At most POINTS of its points."""
    keep = np.unique(np.linspace(0, len(curve.steps) - 1, POINTS).astype(int))
    return Curve(curve.label, curve.steps[keep], curve.values[:, keep])


def settings_section(groups: Sequence[Group]) -> str:
    """All settings: one column where runs agree, else one line for each method."""
    many = len({g.env for g in groups}) > 1
    flats = {
        pretty(g.label) + (f", {g.env}" if many else ""): flat(g.runs[0].config, skip={"seed", "kind"}) for g in groups
    }
    rows = []
    for key in dict.fromkeys(k for f in flats.values() for k in f if not k.endswith(".kind")):
        values = {name: _setting(f[key]) for name, f in flats.items() if key in f}
        if len(set(values.values())) == 1:
            shown = escape(next(iter(values.values())))
        else:
            shown = "<br>".join(f"{escape(v)} <span class=faint>{escape(name)}</span>" for name, v in values.items())
        rows.append(f"<tr><td><code>{escape(key)}</code></td><td>{shown}</td></tr>")
    table = f'<div class="wide"><table>{"".join(rows)}</table></div>'
    return f"<h2>Settings and versions</h2>\n<details><summary>Settings</summary>{table}</details>\n"


def _setting(value: object, between: str = ", ") -> str:
    return between.join(map(str, value)) if isinstance(value, list) else str(value)


def versions_section(groups: Sequence[Group]) -> str:
    parts = []
    for g in groups:
        for run in g.runs:
            facts = flat(run.info) | _speed(run)
            rows = "".join(
                f"<tr><td><code>{escape(k)}</code></td><td>{escape(_setting(v, ' '))}</td></tr>"
                for k, v in facts.items()
            )
            name = f"{pretty(g.label)}, {g.env}, seed {run.seed}"
            table = f'<div class="wide"><table>{rows}</table></div>' if rows else "<p>No run.json was left.</p>"
            parts.append(f"<details><summary>{escape(name)}</summary>{table}</details>\n")
    return f"<h3>Where and with what each run was made</h3>\n{''.join(parts)}"


def _speed(run: Run) -> dict[str, str]:
    if not run.timing:
        return {}
    last = run.timing[-1]
    facts = {}
    if isinstance(seconds := last.get("seconds"), int | float):
        facts["wall-clock"] = f"{seconds:,.0f} s for {int(last['step']):,} steps"
    if isinstance(speed := last.get("steps_per_s"), int | float):
        facts["steps per second, at last"] = f"{speed:,.0f}"
    return facts


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], numeric: set[int]) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(f"<{tag}{' class=n' if i in numeric else ''}>{escape(c)}</{tag}>" for i, c in enumerate(row))

    body = "".join(f"<tr>{cells('td', row)}</tr>\n" for row in rows)
    return f'<div class="wide"><table><tr>{cells("th", head)}</tr>\n{body}</table></div>\n'


def counted(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
