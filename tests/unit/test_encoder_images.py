"""Images on their way into a pretrained network: against Pillow, and against transformers' own processors."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.siglip2.image_processing_pil_siglip2 import (
    Siglip2ImageProcessorPil,
    get_image_size_for_max_num_patches,
)

from apportion.nets.images import (
    KERNELS,
    Preprocess,
    apply_matrices,
    crop_matrix,
    fit_patches,
    patches,
    read_preprocess,
    resize_matrix,
    resized,
)
from apportion.types import UserError

RNG = np.random.default_rng(0)
PHOTOS = RNG.integers(0, 256, (2, 40, 52, 3), dtype=np.uint8)


def _torch(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images).movedim(-1, 1).float()


@pytest.mark.parametrize("size", [(17, 23), (40, 30), (61, 90)])
@pytest.mark.parametrize(("number", "kernel"), KERNELS.items())
def test_resizing_is_pillows(number, kernel, size):
    made = resized(_torch(PHOTOS), *size, kernel).movedim(1, -1).numpy()
    wanted = np.stack([Image.fromarray(x).resize(size[::-1], number) for x in PHOTOS]).astype(float)
    assert np.abs(made - wanted).max() <= 1
    assert (made != wanted).mean() < 0.05  # exact halves, which 22 bits of Pillow and 24 of float32 round either way


def test_halving_with_a_bilinear_kernel_weighs_four_neighbours():
    # distances 1.5, .5, .5, 1.5 in old pixels, half of that in the widened kernel: weights .25, .75, .75, .25 over 2
    assert resize_matrix(8, 4, "bilinear")[1].tolist() == [0, 0.125, 0.375, 0.375, 0.125, 0, 0, 0]


def test_a_crop_of_half_the_side_starts_and_ends_on_the_edges_of_the_box():
    # 5 pixels at 0 to 4; the middle half runs from 1 to 3; three samples: 1, 2, 3
    assert crop_matrix(5, 3, 0.5).tolist() == [[0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 0]]
    # and five samples: 1, 1.5, 2, ...
    assert crop_matrix(5, 5, 0.5)[1].tolist() == [0, 0.5, 0.5, 0, 0]


def test_rows_and_columns_are_not_confused():
    image = torch.arange(6.0).reshape(1, 1, 2, 3).expand(1, 3, 2, 3)
    flip_rows, first_column = torch.tensor([[0.0, 1], [1, 0]]), torch.tensor([[1.0, 0, 0]])
    assert apply_matrices(image, flip_rows, first_column)[0, 0].tolist() == [[3], [0]]


@pytest.mark.parametrize(
    ("processor", "config"),
    [
        (
            BitImageProcessorPil,
            {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}, "resample": 3},
        ),
        (SiglipImageProcessorPil, {"size": {"height": 28, "width": 28}, "resample": 3}),
        (ConvNextImageProcessorPil, {"size": {"shortest_edge": 28}, "crop_pct": 0.875, "resample": 3}),
        (ConvNextImageProcessorPil, {"size": {"shortest_edge": 384}, "crop_pct": 0.875, "resample": 2}),
    ],
)
def test_preprocessing_is_that_of_the_checkpoints_own_processor(processor, config):
    official = processor(**config)
    written = official.to_dict() | config
    made = read_preprocess(written, "here")(torch.from_numpy(PHOTOS))
    wanted = official(images=list(PHOTOS), return_tensors="pt")["pixel_values"]
    assert made.shape == wanted.shape
    assert (made - wanted).abs().max() < 0.02  # at most one of 255 steps, divided by the standard deviation


def test_older_files_give_the_size_as_one_number():
    common = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    assert read_preprocess({"size": 20, **common}, "here").short == 20
    assert read_preprocess({"size": 224, "crop_pct": 0.875, **common}, "here") == Preprocess(
        None, 256, (224, 224), "bilinear", 1 / 255, (0.5,) * 3, (0.5,) * 3
    )
    square = read_preprocess({"size": 20, "do_center_crop": True, "crop_size": 16, **common}, "here")
    assert square.crop == (16, 16)


def test_a_file_that_is_not_understood_is_named():
    with pytest.raises(UserError, match=r"here is not understood: KeyError 'image_mean'"):
        read_preprocess({"size": 20}, "here")


def test_a_crop_larger_than_the_image_is_refused():
    common = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": True}
    with pytest.raises(UserError, match=r"cuts 30 x 30 pixels out of images that it made 20 x 26"):
        read_preprocess({"size": 20, "crop_size": 30, **common}, "here")(torch.from_numpy(PHOTOS))


@pytest.mark.parametrize("shape", [(256, 256), (128, 256), (480, 640), (37, 500)])
def test_naflex_sizes_and_patches_are_those_of_siglip2(shape):
    assert fit_patches(*shape, 16, 256) == get_image_size_for_max_num_patches(*shape, 16, 256)
    photo = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    official = Siglip2ImageProcessorPil(patch_size=16, max_num_patches=64, do_resize=True)
    wanted = official(images=[photo], return_tensors="pt")
    height, width = fit_patches(*shape, 16, 64)
    pixels = resized(_torch(photo[None]), height, width, "bilinear")
    made = patches((pixels / 255 - 0.5) / 0.5, 16)
    assert (made - wanted["pixel_values"][:, : made.shape[1]]).abs().max() < 0.01
    assert wanted["spatial_shapes"].tolist() == [[height // 16, width // 16]]
