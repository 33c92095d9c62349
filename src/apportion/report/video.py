"""Frames to an H.264 film, or for a while to a lossless one, out of which they come again."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType

import numpy as np

from apportion.types import UserError


@dataclass(frozen=True)
class _Format:
    container: str
    codec: str
    colors: str
    options: Mapping[str, str]


_FINAL = _Format("mp4", "libx264", "yuv420p", MappingProxyType({"crf": "18"}))  # the colours that every player knows
_LOSSLESS = _Format("matroska", "libx264rgb", "rgb24", MappingProxyType({"qp": "0", "preset": "ultrafast"}))


def write_mp4(frames: Iterable[np.ndarray], path: Path, fps: float | int) -> Path:
    """Write `frames`, uint8 RGB (H, W, 3) each of one size, to `path`; they are drawn one at a time.

    H.264 needs even sides: an odd last row or column is repeated. The file appears whole or not at all.
    Raises UserError if PyAV is missing, there are no frames, a frame has another shape or dtype, or `path` cannot be
    written.
    """
    if fps <= 0:
        raise UserError(f"a video needs a positive number of frames per second, not {fps}")
    part = path.with_name(f".{path.stem}.part.mp4")
    with _beside(path, part):
        _encode(map(_even, _alike(frames, path)), part, fps, _FINAL)
        part.replace(path)
    return path


@contextlib.contextmanager
def kept(frames: Iterable[np.ndarray], path: Path) -> Iterator[Iterator[np.ndarray]]:
    """Draw all of `frames`, then give them once more, unchanged, to the block: for what is known only at their end.

    A lossless film beside `path` holds them meanwhile, so that the memory they take does not grow with their number; it
    goes with the block. Raises UserError as `write_mp4` does.
    """
    part = path.with_name(f".{path.stem}.frames.mkv")
    with _beside(path, part):
        _encode(_alike(frames, path), part, 30, _LOSSLESS)
        with contextlib.closing(_decoded(part)) as again:
            yield again


@contextlib.contextmanager
def _beside(path: Path, part: Path) -> Iterator[None]:
    """A block that writes `part` and may leave it; what the disk says to it is told of `path`."""
    try:
        import av.error
    except ImportError:
        raise UserError("writing a video needs PyAV: pip install 'apportion[video]'") from None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"the film {path} cannot be written ({error.strerror}): give another file") from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _encode(frames: Iterator[np.ndarray], file: Path, fps: float | int, how: _Format) -> None:
    import av

    first = next(frames)
    with av.open(str(file), "w", format=how.container) as film:
        rate = Fraction(fps).limit_denominator(1000)
        stream = film.add_stream(how.codec, rate=rate, options=dict(how.options))
        assert isinstance(stream, av.VideoStream)
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = how.colors
        for frame in itertools.chain([first], frames):
            film.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        film.mux(stream.encode())


def _decoded(file: Path) -> Generator[np.ndarray]:
    import av

    with av.open(str(file)) as film:
        for frame in film.decode(film.streams.video[0]):
            yield frame.to_ndarray(format="rgb24")


def _alike(frames: Iterable[np.ndarray], path: Path) -> Iterator[np.ndarray]:
    """`frames` one by one; raises UserError where there are none, and at one that is not like the first."""
    shape = None
    for number, frame in enumerate(map(np.asarray, frames)):
        shape = shape or frame.shape
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != shape:
            raise UserError(
                f"frame {number} is {frame.dtype} {frame.shape}: every frame must be uint8 (H, W, 3) of the first "
                f"one's size {shape[:2]}; check the environment's render()"
            )
        yield frame
    if shape is None:
        raise UserError(f"no frames to write to {path}: make the environment with render_mode='rgb_array'")


def _even(frame: np.ndarray) -> np.ndarray:
    return np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
