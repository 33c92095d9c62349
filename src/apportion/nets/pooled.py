"""What a frozen encoder is, and those whose features are the mean over the patches: DINOv2, DINOv3, ResNet.

Letters: n images, h w their pixels, p patch tokens, d numbers of each, F features of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from safetensors import SafetensorError
from torch import Tensor

from apportion.nets.checkpoint import Checkpoint, digest
from apportion.nets.images import read_preprocess
from apportion.types import UserError

Output = Literal["vision", "projected", "hidden"]


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
        raise UserError(f"--encoder {checkpoint.name}: cannot be loaded: {one_line(error)}") from error
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


def one_line(error: Exception) -> str:
    """What an error says, without line breaks, at most 300 letters."""
    return " ".join(str(error).split())[:300]
