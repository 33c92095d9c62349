"""`apportion power worlds`: the worlds that come with the package, or one's own, as pictures."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path

from apportion.flags import Parser
from apportion.power.grid import draw
from apportion.power.grid.world import SHIPPED, GridWorld, load_world, shipped_worlds
from apportion.report.html import CSS
from apportion.report.page import opening, write_text
from apportion.types import UserError

_STYLE = """
body { max-width: 72rem; }
.worlds { display: grid; grid-template-columns: repeat(auto-fill, minmax(20rem, 1fr)); gap: 1.6rem 1.8rem; }
.worlds section { border: 1px solid var(--line); border-radius: 10px; padding: .9rem 1rem; background: var(--card); }
.worlds h2 { margin: 0; font-size: 1.1rem; } .worlds p { font-size: .92rem; }
.worlds svg { display: block; width: 100%; height: auto; border-radius: 6px; background: #fff; padding: 6px; }
"""


def main(argv: Sequence[str]) -> int:
    """One command line after `apportion power worlds`. Returns the exit code; raises UserError for slips."""
    parser = Parser("apportion power worlds", "List the worlds that come with this package, and draw them.")
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help="names or YAML files (default: all that come along)")
    parser.add_argument("--out", type=Path, default=Path("worlds.html"), help="the page (default: worlds.html)")
    parser.add_argument(
        "--pictures", type=Path, metavar="DIR", help="also write each as PNG and SVG, and all as one PNG"
    )
    args = parser.parse(argv)
    if args.out.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {args.out}: a page's name ends in .html")
    found = [(load_world(name), about(name)) for name in args.worlds or in_order(shipped_worlds())]
    for world, words in found:
        print(f"{world.name}: {facts(world)}")
        print(textwrap.fill(words, 110, initial_indent="    ", subsequent_indent="    ") if words else "", end="\n\n")
    _write_page(found, args.out)
    if args.pictures:
        _write_pictures([world for world, _ in found], args.pictures)
        print(f"pictures: {args.pictures}")
    print(f"page: {args.out}")
    return 0


def in_order(names: Sequence[str]) -> list[str]:
    """By name, with numbers in names in the order of numbers."""
    return sorted(names, key=lambda name: [int(w) if w.isdigit() else w for w in re.split(r"(\d+)", name)])


def about(name: str) -> str:
    """What the comment at the top of a world's file says; empty where there is none."""
    path = Path(name) if Path(name).is_file() else SHIPPED / f"{name}.yaml"
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return " ".join(line.lstrip("# ").strip() for line in lines)


def facts(world: GridWorld) -> str:
    """Size, who is there, and for how long: in a few words."""
    who = [
        f"{len(who)} {word}{'s' * (len(who) != 1)}" for who, word in ((world.humans, "human"), (world.robots, "robot"))
    ]
    end = "no end" if world.horizon is None else f"{world.horizon} steps"
    return ", ".join([f"{world.layout.width} x {world.layout.height}", *who, end])


def _write_page(found: Sequence[tuple[GridWorld, str]], page: Path) -> None:
    sections = "".join(
        f"<section><h2>{escape(world.name)}</h2><p class='faint'>{escape(facts(world))}</p>"
        f"{draw.svg(draw.picture(draw.scene(world), width=7), world.name)}<p>{escape(words)}</p></section>"
        for world, words in found
    )
    text = f"""{opening("Worlds of apportion power", CSS + _STYLE)}<body>
<h1>Worlds</h1><p class="faint">Grid worlds for <code>apportion power solve WORLD</code>, as they start.</p>
<div class="worlds">{sections}</div></body></html>
"""
    write_text(page, text)


def _write_pictures(worlds: Sequence[GridWorld], folder: Path) -> None:
    for world in worlds:
        shown = draw.picture(draw.scene(world), width=7)
        for ending in (".png", ".svg"):
            draw.save(shown, folder / f"{world.name}{ending}", world.name)
    draw.save(draw.gallery([(w.name, facts(w), draw.scene(w)) for w in worlds]), folder / "worlds.png", "worlds")
