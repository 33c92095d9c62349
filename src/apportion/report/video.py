"""Frames to an H.264 film."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from apportion.types import UserError


def write_mp4(frames: Iterable[np.ndarray], path: Path, fps: float | int) -> Path:
    """Write `frames`, uint8 RGB (H, W, 3) each of one size, to `path`; they are drawn one at a time.

    H.264 needs even sides: an odd last row or column is repeated. The file appears whole or not at all.
    Raises UserError if PyAV is missing, there are no frames, a frame has another shape or dtype, or `path` cannot be
    written.
    """
    try:
        import av
        import av.error
    except ImportError:
        raise UserError("writing a video needs PyAV: pip install 'apportion[video]'") from None
    if fps <= 0:
        raise UserError(f"a video needs a positive number of frames per second, not {fps}")
    stream_of_frames = iter(frames)
    first = next(stream_of_frames, None)
    if first is None:
        raise UserError(f"no frames to write to {path}: make the environment with render_mode='rgb_array'")
    shape = np.shape(first)
    part = path.with_name(f".{path.stem}.part.mp4")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(part), "w", format="mp4") as film:
            stream = film.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "18"})
            stream.height, stream.width = (side + side % 2 for side in shape[:2])
            stream.pix_fmt = "yuv420p"  # the one that every player knows
            for number, frame in enumerate(itertools.chain([first], stream_of_frames)):
                film.mux(stream.encode(av.VideoFrame.from_ndarray(_even(frame, shape, number), format="rgb24")))
            film.mux(stream.encode())
        part.replace(path)
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"the film {path} cannot be written ({error.strerror}): give another file") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    return path


def _even(frame: np.ndarray, shape: tuple[int, ...], number: int) -> np.ndarray:
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
        raise UserError(
            f"frame {number} is {frame.dtype} {frame.shape}: every frame must be uint8 (H, W, 3) of the first one's "
            f"size {shape[:2]}; check the environment's render()"
        )
    height, width = shape[:2]
    return np.ascontiguousarray(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
