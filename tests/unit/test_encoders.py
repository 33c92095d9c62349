"""Frozen encoders, loaded by the code that loads the published ones, from tiny random models of the same classes."""

import json
import re
import string
import sys

import huggingface_hub.constants
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    ResNetConfig,
    ResNetForImageClassification,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)
from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorPil

from apportion.nets.encoders import WORDS, encode_instructions, load_encoder
from apportion.nets.pooled import Encoder, masked_mean
from apportion.types import UserError

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 20, 24, 3), dtype=np.uint8))
VIT = {"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 28, "patch_size": 7}
NORMAL = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "resample": 3}
SQUARE = {**NORMAL, "size": {"height": 28, "width": 28}}
TOWERS = {
    "text_config": {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 40,
        "max_position_embeddings": 10,
    },
    "vision_config": {**VIT, "intermediate_size": 16},
}


def save(folder, model, preprocessor):
    """A checkpoint as the hub has it. All weights random, also those that begin at 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for x in model.parameters():
            x.copy_(0.4 * torch.randn(x.shape, generator=generator))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return model.eval()


def normalised(images):
    """The images as SQUARE has them, after they have been made 28 x 28 beforehand."""
    mean, std = (torch.tensor(NORMAL[f"image_{x}"])[:, None, None] for x in ("mean", "std"))
    return (images.movedim(-1, 1) / 255 - mean) / std


SQUARES = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (3, 28, 28, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("model", "before"),  # tokens before the patches
    [
        (lambda: Dinov2Model(Dinov2Config(**VIT)), 1),
        (lambda: Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**VIT, num_register_tokens=3)), 4),
        (lambda: DINOv3ViTModel(DINOv3ViTConfig(**VIT, intermediate_size=24, num_register_tokens=2)), 3),
    ],
)
def test_the_mean_of_a_vits_patches_leaves_out_class_token_and_registers(tmp_path, model, before):
    made = save(tmp_path, model(), SQUARE)
    encoder = load_encoder(str(tmp_path))
    tokens = made(pixel_values=normalised(SQUARES)).last_hidden_state
    assert tokens.shape == (3, before + 16, 12)
    torch.testing.assert_close(encoder(SQUARES), tokens[:, before:].mean(1).detach())
    assert encoder.size == 12
    assert encoder(IMAGES).shape == (3, 12)  # resized on the way


def test_a_convolutional_network_is_averaged_over_its_map(tmp_path):
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 6], depths=[1, 1], layer_type="basic")
    made = save(tmp_path, ResNetForImageClassification(config), {**NORMAL, "size": 28, "crop_pct": 0.875})
    encoder = load_encoder(str(tmp_path))
    assert encoder.size == 6
    square = load_encoder(str(tmp_path))
    square.preprocess = lambda images: normalised(images)
    wanted = made.resnet(normalised(SQUARES)).pooler_output.flatten(1)
    torch.testing.assert_close(square(SQUARES), wanted.detach())
    assert encoder(IMAGES).shape == (3, 6)


def test_dinov3s_convolutional_networks_work_too(tmp_path):
    config = DINOv3ConvNextConfig(hidden_sizes=[4, 6, 8, 10], depths=[1, 1, 1, 1])
    made = save(tmp_path, DINOv3ConvNextModel(config), {**NORMAL, "size": {"height": 64, "width": 64}})
    encoder = load_encoder(str(tmp_path))
    tokens = made(encoder.preprocess(IMAGES)).last_hidden_state
    torch.testing.assert_close(encoder(IMAGES), tokens[:, 1:].mean(1).detach())
    assert encoder.size == 10


def test_siglip_averages_the_patches_of_its_vision_tower(tmp_path):
    made = save(tmp_path, SiglipModel(SiglipConfig(**TOWERS)), SQUARE)
    encoder = load_encoder(str(tmp_path))
    wanted = made.vision_model(pixel_values=normalised(SQUARES)).last_hidden_state.mean(1)
    torch.testing.assert_close(encoder(SQUARES), wanted.detach())
    assert encoder.size == 12


def test_siglip2_leaves_out_the_padding_of_images_that_are_not_square(tmp_path):
    towers = {**TOWERS, "vision_config": {**TOWERS["vision_config"], "num_patches": 16}}
    towers["vision_config"].pop("image_size")
    made = save(tmp_path, Siglip2Model(Siglip2Config(**towers)), {**NORMAL, "resample": 2, "max_num_patches": 16})
    wide = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (2, 14, 28, 3), dtype=np.uint8))
    official = Siglip2ImageProcessorPil(**NORMAL | {"resample": 2}, patch_size=7, max_num_patches=16)
    inputs = official(images=list(wide.numpy()), return_tensors="pt")
    mask = inputs["pixel_attention_mask"].bool()
    assert not mask.all()
    tokens = made.vision_model(**inputs).last_hidden_state
    wanted = torch.stack([x[m].mean(0) for x, m in zip(tokens, mask, strict=True)]).detach()
    torch.testing.assert_close(load_encoder(str(tmp_path))(wide), wanted, atol=0.005, rtol=0.005)
    assert (tokens.mean(1) - wanted).abs().max() > 0.05  # the padding does make a difference


def test_masked_mean_by_hand():
    tokens = torch.tensor([[[1.0], [3.0], [50.0]], [[2.0], [4.0], [9.0]]])
    mask = torch.tensor([[True, True, False], [True, True, True]])
    assert masked_mean(tokens, mask).tolist() == [[2.0], [5.0]]


def tokenizer(folder, bare: bool):
    """One token for each letter, then the end."""
    letters = ["<pad>", "</s>", "<unk>", *string.ascii_lowercase, ",", " "]
    made = Tokenizer(models.WordLevel({x: i for i, x in enumerate(letters)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    made.save(str(folder / "tokenizer.json"))
    about = {"pad_token": "<pad>", "tokenizer_class": "SiglipTokenizer" if bare else "GemmaTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))


@pytest.mark.parametrize(("bare", "ids"), [(True, [5, 4, 6, 1]), (False, [5, 4, 29, 6, 1])])
def test_siglips_text_tower_reads_instructions_padded_to_full_length(tmp_path, bare, ids):
    made = save(tmp_path, SiglipModel(SiglipConfig(**TOWERS)), SQUARE)
    tokenizer(tmp_path, bare)
    vectors = encode_instructions(["CB,D", "a"], load_encoder(str(tmp_path)))
    padded = torch.tensor([ids + [0] * (10 - len(ids)), [3, 1] + [0] * 8])  # c b , d: only SigLIP 2 keeps the comma
    wanted = torch.nn.functional.normalize(made.text_model(input_ids=padded).pooler_output).detach().numpy()
    np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-5)


def test_a_bag_of_words_tells_instructions_apart_and_never_changes():
    texts = ["put the bowl on the plate", "put the plate on the bowl", "Put the BOWL, on the plate!", "open the drawer"]
    vectors = encode_instructions(texts)
    assert vectors.shape == (4, WORDS)
    assert vectors.dtype == np.float32
    alike = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(alike), 1, rtol=1e-5)
    assert alike[0, 2] > 0.999  # capitals and punctuation do not count
    assert 0.999 > alike[0, 1] > alike[0, 3]  # the order of words does, and shared words more than none
    # blake2b of "open" in 8 bytes is 1e 71 f1 69 3f b2 e8 f7: the first is its place, 30, and the highest bit its sign
    assert np.argwhere(encode_instructions(["open"])).tolist() == [[0, 30]]
    assert encode_instructions(["open"])[0, 30] == 1
    assert encode_instructions([]).shape == (0, WORDS)
    assert not encode_instructions([""]).any()


def test_the_key_changes_with_weights_and_preprocessing_and_with_nothing_else(tmp_path):
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        save(folder, Dinov2Model(Dinov2Config(**VIT)), SQUARE)
    file = folders[2] / "model.safetensors"
    weights = load_file(file)
    weights["layernorm.bias"] += 1
    save_file(weights, file, {"format": "pt"})
    (folders[3] / "preprocessor_config.json").write_text(json.dumps({**SQUARE, "resample": 2}))
    keys = [json.dumps(load_encoder(str(folder)).key) for folder in folders]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert str(tmp_path) not in keys[0]


def test_weights_that_are_missing_are_not_made_up(tmp_path):
    save(tmp_path, Dinov2Model(Dinov2Config(**VIT)), SQUARE)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    del weights["layernorm.bias"]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"1 weights are missing, layernorm\.bias first"):
        load_encoder(str(tmp_path))
    file.unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UserError, match=r"weights are missing \(model\.safetensors\).*can run code and are not read"):
        load_encoder(str(tmp_path))


def test_a_damaged_file_is_one_line(tmp_path):
    save(tmp_path, Dinov2Model(Dinov2Config(**VIT)), SQUARE)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(UserError, match=r"^--encoder \S+: cannot be loaded: [^\n]+$"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json cannot be read"):
        load_encoder(str(tmp_path))


def test_an_index_that_leaves_its_folder_is_refused(tmp_path):
    save(tmp_path, Dinov2Model(Dinov2Config(**VIT)), SQUARE)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../model.safetensors"}}')
    with pytest.raises(UserError, match="names files outside of its folder"):
        load_encoder(str(tmp_path))


def test_other_kinds_of_models_are_refused_with_what_is_known(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "clip", "auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(UserError, match=r"of the kind 'clip'; known are dinov2, .*openvla, and module:Class"):
        load_encoder(str(tmp_path))
    with pytest.raises(UserError, match="there is no such folder"):
        load_encoder(str(tmp_path / "nothing"))
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"there is no config\.json in it"):
        load_encoder(str(tmp_path))


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that cannot be reached, and its cache."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_the_hub_one_line_says_what_to_do(hub):
    advice = r"the hub cannot be reached: fetch it where there is a network \(`hf download facebook/dinov2-base"
    with pytest.raises(UserError, match=advice):
        load_encoder("dinov2")
    with pytest.raises(UserError, match=r"did you mean siglip2\?"):
        load_encoder("siglip22")
    with pytest.raises(UserError, match="neither a folder nor the name of a model"):
        load_encoder("what is this")


def test_a_model_in_the_hubs_cache_is_found_without_a_network(hub):
    inside = hub / "models--somebody--tiny"
    commit = "0" * 40
    (inside / "refs").mkdir(parents=True)
    (inside / "refs" / "main").write_text(commit)
    save(inside / "snapshots" / commit, Dinov2Model(Dinov2Config(**VIT)), SQUARE)
    encoder = load_encoder("somebody/tiny")
    assert encoder.name == "somebody/tiny"
    assert encoder(IMAGES).shape == (3, 12)
    (inside / "snapshots" / commit / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"not in the hub's cache|weights are missing"):
        load_encoder("somebody/tiny")


def test_a_class_of_your_own_is_an_encoder(tmp_path, monkeypatch):
    (tmp_path / "my_encoder.py").write_text(
        "class Colour:\n"
        "    name, key, size = 'colour', {'version': 1}, 3\n"
        "    def __call__(self, images, instruction=''):\n"
        "        return images.float().mean((1, 2))\n"
        "class Half:\n"
        "    name, key = 'half', {}\n"
        "class Odd(Colour):\n"
        "    key = {'x': object()}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    encoder = load_encoder("my_encoder:Colour")
    assert isinstance(encoder, Encoder)
    torch.testing.assert_close(encoder(IMAGES), IMAGES.float().mean((1, 2)))
    with pytest.raises(UserError, match="it has no size"):
        load_encoder("my_encoder:Half")
    with pytest.raises(UserError, match="its key must be JSON"):
        load_encoder("my_encoder:Odd")
    with pytest.raises(UserError, match=re.escape("--encoder my_encoder:Nothing: AttributeError")):
        load_encoder("my_encoder:Nothing")
    with pytest.raises(UserError, match="--output hidden is a setting of openvla"):
        load_encoder("my_encoder:Colour", output="hidden")
