"""What pages have in common: their head, what they allow, and how they come to the disk.

A page loads nothing. The only script that it allows is its own, named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib import resources
from pathlib import Path

from apportion.run.files import full_disk, write_atomic
from apportion.types import UserError


def own_file(*names: str) -> str:
    """The text of files beside this one, one after the other: several scripts become one."""
    here = resources.files("apportion.report")
    return "".join(here.joinpath(name).read_text() for name in names)


def opening(title: str, style: str, script: str = "") -> str:
    """From the doctype to the end of the head. `title` is plain text; `script`: the one that the page will hold."""
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    policy += f"; script-src 'sha256-{allowed}'" if script else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{style}</style></head>
"""


def write_text(page: Path, text: str) -> None:
    """Writes the page whole or not at all. Raises UserError where it cannot be written."""
    try:
        with full_disk(page, "what was there before is kept"):
            page.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(page, text.encode())
    except OSError as error:
        raise UserError(f"{page} cannot be written ({error.strerror}): --out is a page named *.html") from error
