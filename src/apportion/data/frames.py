"""Encoded images to pixels: libjpeg-turbo for JPEG, Pillow for PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from apportion.data.optional import need

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG"


class BadFrame(ValueError):
    """An image that cannot be decoded: `place` is its place among those asked for."""

    def __init__(self, place: int, why: str):
        super().__init__(why)
        self.place = place


def frame_size(data: bytes | memoryview) -> tuple[int, int]:
    """(height, width) of a JPEG or PNG from its header. Raises ValueError for anything else."""
    if data[:3] == _JPEG:
        height, width, *_ = need("simplejpeg", "decoding JPEG").decode_jpeg_header(data)
        return height, width
    width, height = _png(data).size
    return height, width


def decode_frames(encoded: Sequence[bytes | memoryview], height: int, width: int) -> np.ndarray:
    """(n, height, width, 3) uint8 RGB. Raises BadFrame for what is damaged, no image, or of another size."""
    frames = np.empty((len(encoded), height, width, 3), np.uint8)
    decode_jpeg = need("simplejpeg", "decoding JPEG").decode_jpeg
    for place, data in enumerate(encoded):
        try:
            if data[:3] == _JPEG:
                fits = decode_jpeg(data, "RGB", buffer=frames[place]).shape == frames.shape[1:]  # straight into place
            else:
                pixels = np.asarray(_png(data, height, width).convert("RGB"))
                fits = pixels.shape == frames.shape[1:]
                frames[place] = pixels if fits else 0
        except (ValueError, OSError, SyntaxError) as error:  # SyntaxError: Pillow on a broken PNG
            raise BadFrame(place, _size_slip(data, height, width) or str(error) or "damaged") from error
        if not fits:
            raise BadFrame(place, _size_slip(data, height, width))
    return frames


def _size_slip(data: bytes | memoryview, height: int, width: int) -> str:
    with suppress(ValueError, OSError, SyntaxError):
        size = frame_size(data)
        if size != (height, width):
            return f"{size[0]} x {size[1]} pixels instead of {height} x {width}"
    return ""


def _png(data: bytes | memoryview, height: int = 0, width: int = 0):
    if len(data) == 0:
        raise ValueError("empty")
    if data[:4] != _PNG:
        raise ValueError("neither JPEG nor PNG, or damaged")
    image = need("PIL.Image", "decoding PNG").open(io.BytesIO(data), formats=("PNG",))
    if height and image.size != (width, height):  # before anything is decompressed: a small file may claim any size
        raise ValueError("of another size")
    return image
