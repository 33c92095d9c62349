"""OpenVLA (Kim et al. 2024, arXiv 2406.09246) as an encoder, from its published weights in transformers' own modules.

Its own code runs on an old transformers only, and on newer ones it silently ignores the image. Here the names of its
tensors are mapped instead: vision_backbone.featurizer (timm's DINOv2 ViT-L/14 with 4 registers) and fused_featurizer
(timm's SigLIP so400m/14), each up to its second-to-last block, projector (an MLP), language_model (Llama 2).
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, UInt8
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from apportion.nets.checkpoint import Checkpoint, digest, read_tokenizer
from apportion.nets.images import apply_matrices, crop_matrix, resize_matrix
from apportion.nets.pooled import Output
from apportion.types import UserError

AREA = 0.9  # of the image, in the middle, that the network sees: it was trained on random crops of this size
PROMPT = "In: What action should the robot take to {}?\nOut:"
SPACE = "▁"  # the empty token after "Out:", which it was trained with: 29871 in Llama 2's vocabulary
HEADS = {"vit_large_patch14_reg4_dinov2": 16, "vit_so400m_patch14_siglip": 16}  # what no tensor's shape tells

_PARTS = {
    "vision": ("vision_backbone.",),
    "projected": ("vision_backbone.", "projector."),
    "hidden": ("vision_backbone.", "projector.", "language_model.model."),
}
_BLOCK = {"norm1": "norm1", "norm2": "norm2", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
_DINO_BLOCK = {**_BLOCK, "attn.proj": "attention.output.dense"}
_SIGLIP_BLOCK = {"norm1": "layer_norm1", "norm2": "layer_norm2", "attn.proj": "self_attn.out_proj"}
_SIGLIP_BLOCK |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}


class OpenVLA:
    """`vision`: patches of both towers, one after the other (2176 numbers); `projected`: as the language model gets
    them (4096), each the mean over the patches; `hidden` (4096): its last layer at the end of the prompt.

    `dtype` is the precision of weights and computation; bfloat16, as published.
    """

    def __init__(self, checkpoint: Checkpoint, output: Output = "vision", device: str = "cpu", dtype: str = "bfloat16"):
        self.name, self.output, self.device = checkpoint.name, output, torch.device(device)
        self.dtype = getattr(torch, dtype)
        from huggingface_hub.errors import StrictDataclassError

        about, config = checkpoint.json("preprocessor_config.json"), checkpoint.config
        tensors = _read(checkpoint, _PARTS[output])
        try:
            self.side = int(config["image_sizes"][0])
            self.means, self.stds = (torch.tensor(about[k], device=self.device) for k in ("means", "stds"))
            heads = [_heads(str(name), checkpoint.name) for name in config["timm_model_ids"]]
            build = (dinov2_from_timm, siglip_from_timm)
            parts = ("vision_backbone.featurizer.", "vision_backbone.fused_featurizer.")
            towers = [
                make(_below(tensors, part), n, self.side, self.dtype)
                for make, part, n in zip(build, parts, heads, strict=True)
            ]
            self.towers = [tower.eval().requires_grad_(False).to(self.device) for tower in towers]
            self.prefix = 1 + towers[0].config.num_register_tokens  # tokens before the patches
            self.size = sum(tower.config.hidden_size for tower in towers)
            if output != "vision":
                self.projector = _projector(_below(tensors, "projector.")).to(self.device, self.dtype)
                self.size = tensors["projector.fc3.bias"].shape[0]
            if output == "hidden":
                words = _below(tensors, "language_model.")
                self.language = _language(words, config["text_config"], self.dtype).to(self.device)
                self.tokenizer = read_tokenizer(checkpoint)
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError, StrictDataclassError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else " ".join(str(error).split())[:300]
            raise UserError(f"--encoder {checkpoint.name} is not as OpenVLA publishes its models: {what}") from error
        self.key = {
            "model": "openvla",
            "output": output,
            "weights": digest(checkpoint.weights(_PARTS[output])),
            "preprocess": {"side": self.side, "area": AREA, "means": about["means"], "stds": about["stds"]},
            "dtype": dtype,
        }
        if output == "hidden":
            self.key |= {"prompt": PROMPT, "tokenizer": digest([checkpoint.file("tokenizer.json")])}

    def __call__(self, images: UInt8[Tensor, "n h w 3"], instruction: str = "") -> Float[Tensor, "n F"]:
        return self.encode(self.cropped(images.to(self.device)), instruction)

    def cropped(self, images: UInt8[Tensor, "n h w 3"]) -> Float[Tensor, "n 3 s s"]:
        """What the network sees, 0 to 255: resized (Lanczos), then the middle cut out and stretched (bilinear)."""
        pixels = images.movedim(-1, 1).float()
        h, w = pixels.shape[-2:]
        if (h, w) != (self.side, self.side):
            rows, columns = (resize_matrix(x, self.side, "lanczos") for x in (h, w))
            pixels = apply_matrices(pixels, rows, columns).round().clamp(0, 255)
        cut = crop_matrix(self.side, self.side, AREA**0.5)
        return (apply_matrices(pixels, cut, cut) * (255.5 / 255)).floor().clamp(0, 255)  # TensorFlow's way to 8 bits

    @torch.no_grad()
    def encode(self, pixels: Float[Tensor, "n 3 s s"], instruction: str = "") -> Float[Tensor, "n F"]:
        """Features of images as `cropped` makes them."""
        seen = [
            tower(pixel_values=((pixels / 255 - mean[:, None, None]) / std[:, None, None]).to(self.dtype))
            for tower, mean, std in zip(self.towers, self.means, self.stds, strict=True)
        ]
        patches = torch.cat([seen[0].last_hidden_state[:, self.prefix :], seen[1].last_hidden_state], -1)
        if self.output == "vision":
            return patches.float().mean(1)
        tokens = self.projector(patches)
        return tokens.float().mean(1) if self.output == "projected" else self._hidden(tokens, instruction)

    def _hidden(self, patches: Float[Tensor, "n p d"], instruction: str) -> Float[Tensor, "n d"]:
        """The patches come after the token that begins the text."""
        ids = torch.tensor(self.prompt_ids(instruction), device=self.device).expand(len(patches), -1)
        words = self.language.get_input_embeddings()(ids)
        inputs = torch.cat([words[:, :1], patches, words[:, 1:]], 1)
        return self.language(inputs_embeds=inputs, use_cache=False).last_hidden_state[:, -1].float()

    def prompt_ids(self, instruction: str) -> list[int]:
        """Tokens of the prompt. Raises UserError without an instruction."""
        if not instruction.strip():
            raise UserError("openvla's hidden features need an instruction, and an episode has none: --output vision")
        ids = self.tokenizer.encode(PROMPT.format(instruction.lower())).ids
        begin, space = self.language.config.bos_token_id, self.tokenizer.token_to_id(SPACE)
        if space is None:
            raise UserError(f"--encoder {self.name}: its tokenizer.json has no token {SPACE!r}: it is not Llama 2's")
        return [*([] if ids[:1] == [begin] else [begin]), *ids, space]


def _heads(model: str, where: str) -> int:
    for known, heads in HEADS.items():
        if model.startswith(known):
            return heads
    raise UserError(f"--encoder {where}: vision tower {model} is not supported; known are {', '.join(HEADS)}")


def _read(checkpoint: Checkpoint, prefixes: tuple[str, ...]) -> dict[str, Tensor]:
    """All tensors whose names begin so."""
    tensors: dict[str, Tensor] = {}
    for path in checkpoint.weights(prefixes):
        try:
            with safe_open(path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefixes)]  # noqa: SIM118
                tensors |= {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise UserError(f"{path} cannot be read: {error}") from error
    return tensors


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}


def _load(cls: Any, config: Any, tensors: dict[str, Tensor], dtype: torch.dtype) -> Any:
    """A transformers model with these tensors, under the names of the hub's files; transformers' own loader knows what
    they are called inside, in every release, and what must stay in float32 (rotary frequencies) whatever `dtype` the
    weights get. Raises ValueError where one is missing or too many."""
    state = {name: x.contiguous() for name, x in tensors.items()}
    model, report = cls.from_pretrained(None, config=config, state_dict=state, dtype=dtype, output_loading_info=True)
    wrong = [*sorted(report["missing_keys"]), *sorted(report["unexpected_keys"])]
    if wrong:
        raise ValueError(f"{wrong[0]} does not fit ({len(wrong)} in all)")
    return model


def _linear(tower: dict[str, Tensor], names: dict[str, str], old: str, new: str) -> dict[str, Tensor]:
    """Weight and bias of each module `old`.KEY under the name `new`.VALUE."""
    return {f"{new}{b}.{x}": tower[f"{old}{a}.{x}"] for a, b in names.items() for x in ("weight", "bias")}


def _qkv(tower: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    """timm keeps query, key and value in one matrix, in this order. `new` has a place for the name of each."""
    out = {}
    for x in ("weight", "bias"):
        parts = tower[f"{old}attn.qkv.{x}"].chunk(3)
        out |= {f"{new.format(name)}.{x}": part for name, part in zip("qkv", parts, strict=True)}
    return out


def _depth(tower: dict[str, Tensor]) -> int:
    """Blocks that are used: all but the last."""
    return len({name.split(".")[1] for name in tower if name.startswith("blocks.")}) - 1


def dinov2_from_timm(tower: dict[str, Tensor], heads: int, side: int, dtype: torch.dtype) -> Any:
    """timm's DINOv2 with registers, without its last block and norm."""
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    hidden, _, _, patch = tower["patch_embed.proj.weight"].shape
    depth, position = _depth(tower), tower["pos_embed"]
    config = Dinov2WithRegistersConfig(
        hidden_size=hidden,
        num_hidden_layers=depth,
        num_attention_heads=heads,
        mlp_ratio=tower["blocks.0.mlp.fc1.weight"].shape[0] // hidden,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        image_size=side,
        patch_size=patch,
        num_register_tokens=tower["reg_token"].shape[1],
    )
    state = {
        "embeddings.cls_token": tower["cls_token"],
        "embeddings.register_tokens": tower["reg_token"],
        "embeddings.mask_token": torch.zeros(1, hidden, dtype=position.dtype),  # of its training, not used
        # timm has added the class token's position to the token itself
        "embeddings.position_embeddings": torch.cat([torch.zeros_like(position[:, :1]), position], 1),
        **_linear(tower, {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}, "", ""),
    }
    for i in range(depth):
        old, new = f"blocks.{i}.", f"encoder.layer.{i}."
        state |= _linear(tower, _DINO_BLOCK, old, new)
        state |= {f"{new}layer_scale{k}.lambda1": tower[f"{old}ls{k}.scale_factor"] for k in (1, 2)}
        names = {"q": "query", "k": "key", "v": "value"}
        qkv = _qkv(tower, old, "{}")
        state |= {f"{new}attention.attention.{names[name[0]]}{name[1:]}": x for name, x in qkv.items()}
    model = _load(Dinov2WithRegistersModel, config, state, dtype)
    model.layernorm = nn.Identity()
    return model


def siglip_from_timm(tower: dict[str, Tensor], heads: int, side: int, dtype: torch.dtype) -> Any:
    """timm's SigLIP vision tower, without its last block, norm and pooling. Its GELU is the exact one."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    hidden, _, _, patch = tower["patch_embed.proj.weight"].shape
    depth = _depth(tower)
    config = SiglipVisionConfig(
        hidden_size=hidden,
        intermediate_size=tower["blocks.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=depth,
        num_attention_heads=heads,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        image_size=side,
        patch_size=patch,
        vision_use_head=False,
    )
    names = {"patch_embed.proj": "embeddings.patch_embedding", "norm": "post_layernorm"}
    state = _linear(tower, names, "", "vision_model.")
    state["vision_model.embeddings.position_embedding.weight"] = tower["pos_embed"][0]
    for i in range(depth):
        old, new = f"blocks.{i}.", f"vision_model.encoder.layers.{i}."
        state |= _linear(tower, _SIGLIP_BLOCK, old, new) | _qkv(tower, old, f"{new}self_attn.{{}}_proj")
    model = _load(SiglipVisionModel, config, state, dtype)
    model.post_layernorm = nn.Identity()
    return model


def _projector(tensors: dict[str, Tensor]) -> nn.Sequential:
    """Linear, GELU, linear, GELU, linear."""
    layers: list[nn.Module] = []
    for name in ("fc1", "fc2", "fc3"):
        weight = tensors[f"{name}.weight"]
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=weight.dtype)
        layer.load_state_dict({"weight": weight, "bias": tensors[f"{name}.bias"]})
        layers += [layer, nn.GELU()]
    return nn.Sequential(*layers[:-1]).requires_grad_(False)


def _language(tensors: dict[str, Tensor], text_config: dict[str, Any], dtype: torch.dtype) -> Any:
    """Llama without its last matrix. What its configuration leaves out are transformers' defaults, then and now."""
    from transformers import LlamaConfig, LlamaModel

    kept = {name: x for name, x in tensors.items() if not name.endswith("inv_freq")}
    return _load(LlamaModel, LlamaConfig(**text_config), kept, dtype).eval().requires_grad_(False)
