"""Frozen encoders by name: pretrained networks which make a few hundred or thousand numbers out of an image."""

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
from typing import Any

import numpy as np

from apportion.nets.checkpoint import Checkpoint, open_checkpoint
from apportion.nets.openvla import OpenVLA
from apportion.nets.pooled import Encoder, Output, Pooled, TextEncoder, one_line
from apportion.nets.siglip import Siglip
from apportion.types import UserError

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
            return OpenVLA(checkpoint, output or "vision", device)
        if checkpoint.kind in _SIGLIP:
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
        raise UserError(f"--encoder {name}: {type(error).__name__}: {one_line(error)}") from error
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
