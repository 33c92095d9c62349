"""Frozen encoders: pretrained vision networks which make a few hundred or thousand numbers out of an image.

Letters: n images, h w their pixels, p patch tokens, d numbers of each, F features of an image.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import itertools
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from safetensors import SafetensorError
from torch import Tensor

from apportion.nets.checkpoint import Checkpoint, digest, open_checkpoint
from apportion.nets.images import read_preprocess
from apportion.types import UserError

Output = Literal["vision", "projected", "hidden"]
NAMES = {  # short names; any other model of these families is given by its id on the hub or its folder
    "dinov2": "facebook/dinov2-base",
    "dinov2-reg": "facebook/dinov2-with-registers-base",
    "dinov3": "facebook/dinov3-vitb16-pretrain-lvd1689m",
    "siglip": "google/siglip-base-patch16-224",
    "siglip2": "google/siglip2-base-patch16-224",
    "resnet": "microsoft/resnet-50",
    "openvla": "openvla/openvla-7b",
}
WORDS = 256  # size of the bag of words


@runtime_checkable
class Encoder(Protocol):
    """What makes features. A class of your own (`module:Class`, made without arguments) has the same four parts."""

    name: str
    key: dict[str, Any]  # JSON: all that its features depend on: model, weights, preprocessing
    size: int  # F, of one camera

    def __call__(self, images: UInt8[Tensor, "n h w 3"], instruction: str = "") -> Float[Tensor, "n F"]:
        """Features of n images seen under one instruction, which most encoders do not look at."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """An encoder that reads instructions, too."""

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n E"]: ...


def masked_mean(tokens: Float[Tensor, "n p d"], mask: Bool[Tensor, "n p"]) -> Float[Tensor, "n d"]:
    """Mean over the tokens that are no padding (mask True)."""
    kept = mask[..., None].to(tokens.dtype)
    return (tokens * kept).sum(1) / kept.sum(1).clamp(min=1)


def load_pretrained(checkpoint: Checkpoint, device: str) -> Any:
    """The checkpoint in transformers' own class, in float32, frozen. Raises UserError if weights are missing.

    A weight that is not in the file would be drawn at random by transformers, and every feature would be noise.
    """
    from huggingface_hub.errors import StrictDataclassError
    from transformers import AutoModel

    checkpoint.weights()
    try:
        model, report = AutoModel.from_pretrained(
            checkpoint.folder,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError, StrictDataclassError) as error:
        raise UserError(f"--encoder {checkpoint.name}: cannot be loaded: {_one_line(error)}") from error
    missing = sorted(name for name in report["missing_keys"] if not name.endswith("num_batches_tracked"))
    if missing:
        raise UserError(f"--encoder {checkpoint.name}: {len(missing)} weights are missing, {missing[0]} first")
    return model.eval().requires_grad_(False).to(device)


class Pooled:
    """DINOv2 (with registers or without), DINOv3, ResNet: the mean over the patches of the last layer."""

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu"):
        where = f"{checkpoint.name}/preprocessor_config.json"
        self.preprocess = read_preprocess(checkpoint.json("preprocessor_config.json"), where)
        self.model, self.device = load_pretrained(checkpoint, device), device
        config = self.model.config
        self.skip = 0 if checkpoint.kind == "resnet" else 1 + getattr(config, "num_register_tokens", 0)
        sizes = getattr(config, "hidden_sizes", None)
        self.name = checkpoint.name
        self.size = int(sizes[-1] if sizes else config.hidden_size)
        self.key = {
            "model": checkpoint.kind,
            "weights": digest(checkpoint.weights()),
            "preprocess": self.preprocess.key,
            "pooling": "mean of patches",
        }

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n h w 3"], instruction: str = "") -> Float[Tensor, "n F"]:
        tokens = self.model(pixel_values=self.preprocess(images.to(self.device))).last_hidden_state
        if tokens.ndim == 4:  # (n, d, h, w) of a convolutional network
            return tokens.mean((2, 3))
        return tokens[:, self.skip :].mean(1)


_POOLED = ("dinov2", "dinov2_with_registers", "dinov3_vit", "dinov3_convnext", "resnet")
_SIGLIP = ("siglip", "siglip2")


def load_encoder(name: str, device: str = "cpu", output: Output | None = None) -> Encoder:
    """`name`: one of NAMES, a folder or hub id of a model of these families, or `module:Class`.

    `output` is OpenVLA's (default: vision). Raises UserError with one line that says what to do.
    """
    if ":" in name and not Path(name).exists():
        encoder = _own(name)
    else:
        checkpoint = _open(name)
        if checkpoint.kind == "openvla":
            from apportion.nets.openvla import OpenVLA

            return OpenVLA(checkpoint, output or "vision", device)
        if checkpoint.kind in _SIGLIP:
            from apportion.nets.siglip import Siglip

            encoder = Siglip(checkpoint, device)
        elif checkpoint.kind in _POOLED:
            encoder = Pooled(checkpoint, device)
        else:
            known = ", ".join((*_POOLED, *_SIGLIP, "openvla"))
            raise UserError(f"--encoder {name} is of the kind {checkpoint.kind!r}; known are {known}, and module:Class")
    if output is not None:
        raise UserError(f"--output {output} is a setting of openvla, and {name} is another encoder")
    return encoder


def _open(name: str) -> Checkpoint:
    try:
        return open_checkpoint(NAMES.get(name, name))
    except UserError as error:
        near = difflib.get_close_matches(name, NAMES, 1) if name not in NAMES else []
        raise UserError(f"{error}; did you mean {near[0]}?" if near else str(error)) from None


def _own(name: str) -> Encoder:
    """The user's `module:Class`, made without arguments."""
    module, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        encoder: Any = getattr(importlib.import_module(module), attribute)()
    except Exception as error:  # the user's own code
        raise UserError(f"--encoder {name}: {type(error).__name__}: {_one_line(error)}") from error
    missing = [part for part in ("name", "key", "size", "__call__") if not hasattr(encoder, part)]
    if missing:
        raise UserError(f"--encoder {name}: it has no {missing[0]}: see docs/guides/features.md")
    try:
        json.dumps(encoder.key)
    except (TypeError, ValueError) as error:
        raise UserError(f"--encoder {name}: its key must be JSON: {error}") from error
    return encoder


def encode_instructions(texts: Sequence[str], encoder: Encoder | None = None) -> np.ndarray:
    """(n, E) float32, one row of length 1 for each instruction.

    With SigLIP, what its text tower makes of them. With any other encoder, or none, a bag of words: words and pairs of
    neighbours are hashed into WORDS signed places (Weinberger et al. 2009, arXiv 0902.2206). It tells instructions
    apart and shares what they have in common, knows no synonyms, needs no download, and never changes.
    """
    if isinstance(encoder, TextEncoder):
        vectors = encoder.encode_text(texts).float().cpu().numpy()
    else:
        vectors = np.stack([_bag(text) for text in texts]) if texts else np.zeros((0, WORDS), np.float32)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _bag(text: str) -> np.ndarray:
    words = re.findall(r"[^\W_]+", text.lower())
    out = np.zeros(WORDS, np.float32)
    for word in [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]:
        number = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
        out[number % WORDS] += 1 if number >> 63 else -1
    return out


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
