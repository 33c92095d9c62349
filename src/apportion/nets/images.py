"""Frames into what a pretrained vision network expects: resize, crop, scale, all in torch.

Letters: n images, h w their pixels, H W those of the network.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from apportion.types import UserError

Kernel = Literal["lanczos", "bilinear", "bicubic"]
KERNELS: dict[int, Kernel] = {1: "lanczos", 2: "bilinear", 3: "bicubic"}  # by Pillow's numbers


def _weights(kernel: Kernel, x: Tensor) -> Tensor:
    """Weights at the distances `x`, in pixels."""
    x = x.abs()
    if kernel == "bilinear":
        return (1 - x).clamp(min=0)
    if kernel == "bicubic":  # a = -1/2, as in Pillow and TensorFlow
        near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
        return torch.where(x < 1, near, torch.where(x < 2, far, 0))
    return torch.where(x < 3, torch.sinc(x) * torch.sinc(x / 3), 0)


@lru_cache(maxsize=64)
def resize_matrix(before: int, after: int, kernel: Kernel) -> Tensor:
    """Weights (after, before), rows adding up to 1, which resize one axis. Shrinking widens the kernel (antialias)."""
    scale = before / after
    centre = (torch.arange(after, dtype=torch.float64) + 0.5) * scale
    wide = max(scale, 1.0)
    x = (torch.arange(before, dtype=torch.float64) + 0.5 - centre[:, None]) / wide
    weights = _weights(kernel, x)
    return (weights / weights.sum(1, keepdim=True)).float()


@lru_cache(maxsize=16)
def crop_matrix(before: int, after: int, side: float) -> Tensor:
    """Weights (after, before) which cut out the middle `side` (0 to 1) of one axis and stretch it, bilinear.

    As tf.image.crop_and_resize does it: the first and the last pixel lie on the edges of the box.
    """
    place = (1 - side) / 2 * (before - 1) + torch.arange(after, dtype=torch.float64) * side * (before - 1) / (after - 1)
    return (1 - (torch.arange(before) - place[:, None]).abs()).clamp(min=0).float()


def apply_matrices(
    images: Float[Tensor, "n 3 h w"], rows: Tensor, columns: Tensor, rounded: bool = False
) -> Float[Tensor, "n 3 H W"]:
    """`rows` (H, h) on the first axis of the pixels and `columns` (W, w) on the second. `rounded`: whole numbers after
    each, between 0 and 255, as Pillow has them."""
    across = images @ columns.to(images.device).T
    across = (across + 0.5).floor().clamp(0, 255) if rounded else across
    down = rows.to(images.device) @ across
    return (down + 0.5).floor().clamp(0, 255) if rounded else down


def resized(images: Float[Tensor, "n 3 h w"], height: int, width: int, kernel: Kernel) -> Float[Tensor, "n 3 H W"]:
    """Images of 0 to 255 in another size, as Pillow resizes 8-bit images."""
    h, w = images.shape[-2:]
    if (h, w) == (height, width):
        return images
    return apply_matrices(images, resize_matrix(h, height, kernel), resize_matrix(w, width, kernel), rounded=True)


@dataclass(frozen=True)
class Preprocess:
    """Resize, cut out the middle, scale, normalise. Made from a checkpoint's preprocessor_config.json."""

    size: tuple[int, int] | None  # height and width; None: `short` counts, or nothing is resized
    short: int | None  # pixels of the shorter side
    crop: tuple[int, int] | None  # height and width of the middle that is kept
    kernel: Kernel
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def key(self) -> dict[str, Any]:
        return asdict(self)

    def __call__(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 H W"]:
        return self.normalise(self.sized(images.movedim(-1, 1).float()))

    def sized(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 H W"]:
        """Resized and cut, still 0 to 255."""
        if self.size is not None:
            images = resized(images, *self.size, self.kernel)
        elif self.short is not None:
            h, w = images.shape[-2:]
            long = int(self.short * max(h, w) / min(h, w))
            images = resized(images, *((self.short, long) if h <= w else (long, self.short)), self.kernel)
        if self.crop is None:
            return images
        (h, w), (height, width) = images.shape[-2:], self.crop
        if h < height or w < width:
            raise UserError(f"the encoder cuts {height} x {width} pixels out of images that it made {h} x {w}")
        top, left = (h - height) // 2, (w - width) // 2
        return images[..., top : top + height, left : left + width]

    def normalise(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """0 to 255 into the network's range."""
        mean, std = (torch.tensor(x, device=images.device)[:, None, None] for x in (self.mean, self.std))
        return (images * self.rescale - mean) / std


def read_preprocess(config: dict[str, Any], where: str) -> Preprocess:
    """The meaning of preprocessor_config.json. `where` names it in errors.

    Raises UserError for what it asks for and this cannot do.
    """
    try:
        flexible = "max_num_patches" in config  # NaFlex: the size follows from the image
        size, crop = _size(config["size"]) if config.get("do_resize", True) and not flexible else {}, None
        if config.get("do_center_crop", False):
            cut = _size(config["crop_size"], square=True)
            crop = (cut["height"], cut["width"])
        short, whole = size.get("shortest_edge"), None
        if "height" in size:
            whole = (size["height"], size["width"])
        if "crop_pct" in config and short is not None:  # ConvNeXt's and ResNet's way
            kept = (short, short)
            whole, crop = (kept, None) if short >= 384 else (None, kept)
            short = None if whole else int(short / config["crop_pct"])
        normal = config.get("do_normalize", True)
        return Preprocess(
            size=whole,
            short=short,
            crop=crop,
            kernel=KERNELS[config.get("resample", 2)],
            rescale=float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0,
            mean=tuple(map(float, config["image_mean"])) if normal else (0.0, 0.0, 0.0),
            std=tuple(map(float, config["image_std"])) if normal else (1.0, 1.0, 1.0),
        )
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise UserError(f"{where} is not understood: {type(error).__name__} {error}") from error


def _size(size: Any, square: bool = False) -> dict[str, int]:
    """`size` as a dictionary; in older files a whole number: the shorter side, or a square."""
    if isinstance(size, int):
        return {"height": size, "width": size} if square else {"shortest_edge": size}
    return {name: int(value) for name, value in size.items()}


def patches(images: Float[Tensor, "n 3 H W"], side: int) -> Float[Tensor, "n p d"]:
    """Squares of `side` pixels, row by row, each as numbers in the order row, column, colour."""
    n, colours, height, width = images.shape
    cut = images.reshape(n, colours, height // side, side, width // side, side)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, side * side * colours)


def fit_patches(height: int, width: int, side: int, most: int) -> tuple[int, int]:
    """The largest size of multiples of `side`, about in proportion, of at most `most` patches (NaFlex, arXiv
    2502.14786)."""

    def scaled(scale: float) -> tuple[int, int]:
        return tuple(max(side, math.ceil(scale * x / side) * side) for x in (height, width))  # type: ignore[return-value]

    low, high = 1e-6, 100.0
    while high - low >= 1e-5:
        middle = (low + high) / 2
        h, w = scaled(middle)
        low, high = (middle, high) if (h // side) * (w // side) <= most else (low, middle)
    return scaled(low)
