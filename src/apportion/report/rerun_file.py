"""Episodes with their learned rewards as a recording for the Rerun viewer (https://rerun.io)."""

from __future__ import annotations

import io
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.optional import need
from apportion.report.demos import Shown, Story
from apportion.types import UserError

EVERY_FRAME = 100_000  # more than any episode has
QUALITY = 90


def write_rrd(story: Story, shown: Iterable[Shown], path: Path) -> Path:
    """Writes one recording: cameras, reward, summed reward and potential of each episode over the timeline "step".

    The episodes are drawn from `shown` and written one at a time. Raises UserError where rerun-sdk is missing, or
    `path` exists or cannot be written.
    """
    try:
        rr, rrb = import_module("rerun"), import_module("rerun.blueprint")
    except ImportError:
        raise UserError("--rerun needs rerun-sdk: pip install 'apportion[rerun]'") from None
    if path.exists():
        raise UserError(f"--rerun {path} exists already: remove it, or give another file")
    part = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with rr.RecordingStream("apportion") as recording:
            recording.save(part)
            recording.log("about", rr.TextDocument(f"{story.title}\n\n{story.about}"), static=True)
            tabs = list(map(lambda e: _log(rr, rrb, recording, e, story), shown))  # as on the page: one at a time
            recording.send_blueprint(rrb.Blueprint(rrb.Tabs(*tabs), collapse_panels=True))
        part.rename(path)
    except OSError as error:
        raise UserError(f"--rerun {path} cannot be written ({error.strerror or error}): give another file") from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _name(shown: Shown) -> str:
    return f"episode_{shown.number}"


def _view(rrb: Any, shown: Shown) -> Any:
    """Cameras above, curves below."""
    own = _name(shown)
    cameras = [rrb.Spatial2DView(origin=f"{own}/camera/{name}", name=name) for name in shown.images]
    curves = [rrb.TimeSeriesView(origin=f"{own}/{kind}", name=kind) for kind in _curves(shown)]
    rows = [rrb.Horizontal(*cameras, rrb.TextDocumentView(origin=f"{own}/about", name="about")), *curves]
    return rrb.Vertical(*rows, row_shares=[2, *(1 for _ in curves)], name=own)


def _curves(shown: Shown) -> dict[str, np.ndarray]:
    reward = shown.reward.astype(np.float64)
    curves = {"reward": reward, "summed_reward": np.cumsum(reward)}
    return curves if shown.potential is None else {**curves, "potential": shown.potential.astype(np.float64)}


def _log(rr: Any, rrb: Any, recording: Any, shown: Shown, story: Story) -> Any:
    """Writes one episode; returns its view."""
    own, image = _name(shown), need("PIL.Image", "frames for Rerun") if shown.images else None
    recording.log(f"{own}/about", rr.TextDocument(f"{shown.language or shown.task}\n\n{shown.about}"), static=True)
    for kind, values in _curves(shown).items():
        for step, value in enumerate(values):
            recording.set_time("step", sequence=step)
            recording.log(f"{own}/{kind}", rr.Scalars(float(value)))
    for name, frames in shown.images.items():
        turned = name in story.cameras and story.cameras[name].orientation == "opengl"
        for step, frame in zip(shown.at, frames, strict=True):
            data = io.BytesIO()
            assert image is not None
            image.fromarray(np.ascontiguousarray(frame[::-1] if turned else frame)).save(data, "JPEG", quality=QUALITY)
            recording.set_time("step", sequence=step)
            picture = rr.EncodedImage(contents=data.getvalue(), media_type="image/jpeg")
            recording.log(f"{own}/camera/{name}", picture)
    return _view(rrb, shown)
