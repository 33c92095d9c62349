"""MP4 files: frames looked up by their time, and frames appended, exactly one per step."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from apportion.data.optional import need
from apportion.data.schema import BadDemo
from apportion.types import UserError


def one_line(error: BaseException) -> str:
    """The first line of a library's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def read_frames(
    path: Path, times: Sequence[float], fps: float, size: tuple[int, int], where: str, apart: bool = False
) -> np.ndarray:
    """(n, h, w, 3) uint8: the frames nearest to `times`, seconds from the start of the file, in rising order.

    `apart`: seek anew for each one, for a few frames far from one another; else decode through from the first.
    Raises BadDemo, beginning with `where`, for a file that cannot be decoded, is not `size` (h, w), or has no frame
    within half a frame of a time: recorded offsets drift a little when many videos were joined, but never that far.
    """
    av = need("av", "reading videos")
    if not path.is_file():
        raise BadDemo(f"{where}: {path} is missing; download the data set again")
    try:
        # the format is given: a playlist that calls itself .mp4 could name files and addresses of its own
        with av.open(str(path.absolute()), format="mp4") as file:
            if not file.streams.video:
                raise BadDemo(f"{where}: {path} holds no video")
            stream = file.streams.video[0]
            if (stream.height, stream.width) != tuple(size):
                found = f"{stream.height} x {stream.width}"
                raise BadDemo(f"{where}: {path} is {found} pixels, meta/info.json says {size[0]} x {size[1]}")
            frames = np.empty((len(times), *size, 3), np.uint8)
            for rows in [[i] for i in range(len(times))] if apart else [list(range(len(times)))]:
                wanted = [times[i] for i in rows]
                done = _decode(file, stream, wanted, fps, frames[rows[0] : rows[-1] + 1], wanted[0])
                if done < len(wanted):  # some files seek past the frame that was asked for: once more, from the start
                    done = _decode(file, stream, wanted, fps, frames[rows[0] : rows[-1] + 1], 0.0)
                if done < len(wanted):
                    raise BadDemo(f"{where}, step {rows[done]}: {path} has no frame at {wanted[done]:.3f} s")
            return frames
    except (av.FFmpegError, OSError, ValueError) as error:
        raise BadDemo(f"{where}: {path} cannot be decoded ({one_line(error)}); download it again") from error


def _decode(file: Any, stream: Any, times: Sequence[float], fps: float, out: np.ndarray, start: float) -> int:
    """Fills `out` with the frames at `times`, decoding from the key frame before `start`; how many there were."""
    within, done = 0.49 / fps, 0
    file.seek(max(0, int((start - within) / stream.time_base)), stream=stream)
    for frame in file.decode(stream):
        if frame.pts is None:
            continue
        time = float(frame.pts * stream.time_base)
        if time < times[done] - within:
            continue
        if time > times[done] + within:
            return done
        out[done] = frame.to_ndarray(format="rgb24")
        done += 1
        if done == len(times):
            break
    return done


class VideoWriter:
    """One MP4 (H.264) that grows by frames: frame n is shown at n / fps seconds.

    A key frame every second frame, and none that refers to a later one, so that random access stays cheap. Lossy
    files are yuv420p (yuv444p where a side is odd), which everything plays; `lossless` ones hold RGB, exactly.
    """

    def __init__(self, path: Path, fps: float, height: int, width: int, lossless: bool = False):
        self._av = av = need("av", "writing videos")
        self.frames = 0
        self.bytes = 0  # so far, about
        self._rate = Fraction(fps).limit_denominator(1001)
        self.pixels = pixel_format(height, width, lossless)
        options = {"g": "2", "bf": "0", **({"qp": "0"} if lossless else {"crf": "18"})}
        self._file = av.open(str(path.absolute()), "w", format="mp4")
        try:
            self._stream: Any = self._file.add_stream(codec_name(lossless), rate=self._rate, options=options)
        except av.codec.codec.UnknownCodecError as error:
            raise UserError(f"this PyAV lacks {codec_name(lossless)}: pip install 'apportion[demos]'") from error
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "rgb24" if lossless else self.pixels
        self._stream.codec_context.time_base = 1 / self._rate

    def add(self, frames: np.ndarray) -> None:
        """Appends (n, h, w, 3) uint8."""
        for pixels in frames:
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = self.frames, 1 / self._rate
            self._mux(self._stream.encode(frame))
            self.frames += 1

    def _mux(self, packets: Any) -> None:
        for packet in packets:
            self.bytes += packet.size
            self._file.mux(packet)

    def close(self) -> None:
        """Writes what is left, and the index without which the file cannot be read."""
        self._mux(self._stream.encode(None))
        self._file.close()


def codec_name(lossless: bool) -> str:
    return "libx264rgb" if lossless else "libx264"


def pixel_format(height: int, width: int, lossless: bool) -> str:
    """How a reader will find the pixels of such a file described."""
    if lossless:
        return "gbrp"
    return "yuv444p" if height % 2 or width % 2 else "yuv420p"
