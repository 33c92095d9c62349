"""OpenVLA's weights in transformers' own modules, against a tiny random model of the ORIGINAL classes.

How tests/data/openvla_tiny was made: in an environment with transformers 4.40.1, tokenizers 0.19.1, timm 0.9.16 and
torch 2.2.2, the classes that OpenVLA publishes beside its weights were made from a configuration with a Llama of 2
layers and 24 units, and with timm's two vision towers, of the published ids, made narrow (32 units, 3 and 2 blocks) at
56 pixels. Every weight was drawn at random (layer scales about .6, norms about 1, biases about 0), rounded to bfloat16,
and saved by save_pretrained, as the real ones are, in several files. The tokenizer is a byte-fallback BPE of 340 tokens
with Llama's normaliser. `images` are smooth noise, `cropped` what TensorFlow 2.21 makes of them in the steps of
OpenVLA's LIBERO evaluation (Lanczos to the network's size, crop of area .9, 8 bits), `vision`, `projected` and `hidden`
what the original model, in float32, made of those through its own processor, with its prompt and the empty token.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import apportion.nets.openvla as openvla
from apportion.nets.checkpoint import open_checkpoint
from apportion.nets.encoders import load_encoder
from apportion.types import UserError

TINY = Path(__file__).parents[1] / "data" / "openvla_tiny"
GOLDEN = load_file(TINY / "golden.safetensors")
with safe_open(TINY / "golden.safetensors", "pt") as file:
    INSTRUCTION = file.metadata()["instruction"]
CROPPED = GOLDEN["cropped"].movedim(-1, 1).float()
OUTPUTS = ("vision", "projected", "hidden")


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(TINY, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("output", OUTPUTS)
def test_features_are_those_of_the_original_classes(output):
    encoder = openvla.OpenVLA(open_checkpoint(str(TINY)), output, dtype="float32")
    wanted = GOLDEN[output]
    assert encoder.size == wanted.shape[1]
    torch.testing.assert_close(encoder.encode(CROPPED, INSTRUCTION), wanted, atol=5e-6, rtol=1e-5)
    torch.testing.assert_close(encoder(GOLDEN["images"], INSTRUCTION), wanted, atol=2e-3, rtol=1e-3)


def test_images_are_cropped_as_tensorflow_does_it():
    encoder = openvla.OpenVLA(open_checkpoint(str(TINY)), dtype="float32")
    apart = (encoder.cropped(GOLDEN["images"]) - CROPPED).abs()
    assert apart.max() <= 1
    assert (apart > 0).float().mean() < 0.001


def test_the_prompt_has_the_original_tokens():
    encoder = openvla.OpenVLA(open_checkpoint(str(TINY)), "hidden")
    assert INSTRUCTION.lower() != INSTRUCTION
    assert encoder.prompt_ids(INSTRUCTION) == GOLDEN["input_ids"].tolist()
    with pytest.raises(UserError, match="need an instruction"):
        encoder(GOLDEN["images"])


def test_the_image_counts():
    """What the remote code does on newer versions is to ignore it."""
    encoder = openvla.OpenVLA(open_checkpoint(str(TINY)), "hidden")
    black = encoder(torch.zeros_like(GOLDEN["images"]), INSTRUCTION)
    assert (black - encoder(GOLDEN["images"], INSTRUCTION)).abs().max() > 0.1


def test_published_precision_is_the_default_and_near():
    encoder = load_encoder(str(TINY))
    assert encoder.key["dtype"] == "bfloat16"
    made = encoder(GOLDEN["images"])
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, GOLDEN["vision"], atol=0.05, rtol=0.05)


def test_rotary_frequencies_stay_exact_whatever_the_precision_of_the_weights():
    """Rounded to bfloat16 they would turn the last of 300 tokens by a radian."""
    encoder = openvla.OpenVLA(open_checkpoint(str(TINY)), "hidden")
    assert encoder.language.norm.weight.dtype == torch.bfloat16
    wanted = 10_000 ** (-torch.arange(0, 12, 2) / 12)
    torch.testing.assert_close(encoder.language.rotary_emb.inv_freq, wanted)
    made = encoder.encode(CROPPED, INSTRUCTION)
    torch.testing.assert_close(made, GOLDEN["hidden"], atol=0.05, rtol=0.05)


def test_the_approximate_gelu_of_siglip_would_be_noticed(monkeypatch):
    from transformers import SiglipVisionConfig

    monkeypatch.setattr("transformers.SiglipVisionConfig", lambda hidden_act, **rest: SiglipVisionConfig(**rest))
    encoder = openvla.OpenVLA(open_checkpoint(str(TINY)), dtype="float32")
    assert encoder.towers[1].config.hidden_act == "gelu_pytorch_tanh"
    assert (encoder.encode(CROPPED) - GOLDEN["vision"]).abs().max() > 5e-5


def test_only_the_files_that_are_needed_are_read(copy):
    shards = json.loads((copy / "model.safetensors.index.json").read_text())["weight_map"]
    language = {name for tensor, name in shards.items() if tensor.startswith("language_model.")}
    vision = {name for tensor, name in shards.items() if tensor.startswith("vision_backbone.")}
    keys = {output: load_encoder(str(copy), output=output).key for output in OUTPUTS}
    assert len({json.dumps(key) for key in keys.values()}) == 3
    for name in language - vision:
        (copy / name).unlink()
    if language - vision:
        with pytest.raises(UserError, match="its weights are missing"):
            load_encoder(str(copy), output="hidden")
    assert load_encoder(str(copy)).key == keys["vision"]


def test_one_file_and_several_give_the_same(copy):
    parts = [load_file(path) for path in copy.glob("model-*.safetensors")]
    save_file({name: x for part in parts for name, x in part.items()}, copy / "model.safetensors")
    for path in [*copy.glob("model-*.safetensors"), copy / "model.safetensors.index.json"]:
        path.unlink()
    encoder = openvla.OpenVLA(open_checkpoint(str(copy)), "hidden", dtype="float32")
    torch.testing.assert_close(encoder.encode(CROPPED, INSTRUCTION), GOLDEN["hidden"], atol=5e-6, rtol=1e-5)


def _change(folder, name, change):
    data = json.loads((folder / name).read_text())
    change(data)
    (folder / name).write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("file", "change", "line"),
    [
        ("config.json", lambda c: c.update(timm_model_ids=["vit_huge", "x"]), "vision tower vit_huge is not supported"),
        ("config.json", lambda c: c.update(image_sizes=[70, 70]), "is not as OpenVLA publishes its models"),
        ("config.json", lambda c: c["text_config"].update(hidden_size="many"), "is not as OpenVLA publishes"),
        ("preprocessor_config.json", lambda c: c.pop("means"), "no 'means'"),
    ],
)
def test_a_model_that_does_not_fit_is_one_line(copy, file, change, line):
    _change(copy, file, change)
    with pytest.raises(UserError, match=line) as raised:
        load_encoder(str(copy), output="hidden")
    assert "\n" not in str(raised.value)


def test_a_tensor_that_is_missing_is_named(copy):
    for path in copy.glob("model-*.safetensors"):
        weights = load_file(path)
        weights.pop("vision_backbone.featurizer.blocks.1.ls1.scale_factor", None)
        save_file(weights, path)
    with pytest.raises(UserError, match=r"no 'blocks\.1\.ls1\.scale_factor'"):
        load_encoder(str(copy))
