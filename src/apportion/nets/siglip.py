"""SigLIP and SigLIP 2: both towers; images of any shape for the NaFlex models (arXiv 2303.15343, 2502.14786)."""

from __future__ import annotations

import string
from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from apportion.nets.checkpoint import Checkpoint, digest, read_tokenizer
from apportion.nets.images import fit_patches, patches, read_preprocess, resized
from apportion.nets.pooled import load_pretrained, masked_mean
from apportion.types import UserError


class Siglip:
    """The mean over the patches of the vision tower; its text tower reads instructions."""

    def __init__(self, checkpoint: Checkpoint, device: str = "cpu"):
        files = checkpoint.json("preprocessor_config.json")
        self.preprocess = read_preprocess(files, f"{checkpoint.name}/preprocessor_config.json")
        self.model, self.device, self.checkpoint = load_pretrained(checkpoint, device), device, checkpoint
        self.flexible = checkpoint.kind == "siglip2"
        self.most = int(files.get("max_num_patches", 256))
        self.name = checkpoint.name
        self.size = int(self.model.config.vision_config.hidden_size)
        self.key = {
            "model": checkpoint.kind,
            "weights": digest(checkpoint.weights()),
            "preprocess": self.preprocess.key | ({"patches": self.most} if self.flexible else {}),
            "pooling": "mean of patches",
        }

    @torch.no_grad()
    def __call__(self, images: UInt8[Tensor, "n h w 3"], instruction: str = "") -> Float[Tensor, "n F"]:
        images = images.to(self.device)
        if self.flexible:
            return self._any_shape(images)
        pixels = self.preprocess(images)
        seen = self.model.vision_model(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state
        return seen.mean(1)

    def _any_shape(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n F"]:
        """NaFlex: as many patches as fit, the rest of the sequence is padding, which attention and mean leave out."""
        side = int(self.model.config.vision_config.patch_size)
        height, width = fit_patches(images.shape[1], images.shape[2], side, self.most)
        pixels = resized(images.movedim(-1, 1).float(), height, width, self.preprocess.kernel)
        tokens = patches(self.preprocess.normalise(pixels), side)
        n, count, _ = tokens.shape
        mask = torch.zeros(n, self.most, dtype=torch.bool, device=tokens.device)
        mask[:, :count] = True
        seen = self.model.vision_model(
            pixel_values=torch.nn.functional.pad(tokens, (0, 0, 0, self.most - count)),
            pixel_attention_mask=mask.int(),
            spatial_shapes=torch.tensor([[height // side, width // side]] * n, device=tokens.device),
        )
        return masked_mean(seen.last_hidden_state, mask)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n E"]:
        """What the text tower makes of each. Lower case, no punctuation, padded to full length, as in its training."""
        tokenizer = read_tokenizer(self.checkpoint)
        about = self.checkpoint.json("tokenizer_config.json")
        special = about.get("pad_token")
        pad = tokenizer.token_to_id(special["content"] if isinstance(special, dict) else str(special))
        if pad is None:
            raise UserError(f"--encoder {self.name}: tokenizer_config.json names no padding token")
        length = int(self.model.config.text_config.max_position_embeddings)
        tokenizer.enable_truncation(length)
        tokenizer.enable_padding(length=length, pad_id=pad, direction=about.get("padding_side", "right"))
        first = about.get("tokenizer_class", "").startswith("SiglipTokenizer")  # SigLIP 2 keeps punctuation
        plain = [_plain(text, first) for text in texts]
        ids = torch.tensor([tokenizer.encode(text).ids for text in plain], device=self.device).reshape(-1, length)
        return self.model.text_model(input_ids=ids).pooler_output


def _plain(text: str, bare: bool) -> str:
    text = text.lower()
    return " ".join((text.translate(str.maketrans("", "", string.punctuation)) if bare else text).split())
