"""Transforms equal those of albumentations at fixed parameters, within what each test states."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from imgcls.augment.displacement import GridDistortion, OpticalDistortion
from imgcls.augment.filters import Emboss, MedianBlur, MotionBlur, Sharpen
from imgcls.augment.per_image import Clahe, Jpeg, to_bytes

LEVEL = 1 / 255
CPU = torch.device("cpu")


def pixels(images: Tensor) -> NDArray[np.uint8]:
    return to_bytes(images.permute(0, 2, 3, 1).numpy())


def on_levels(images: Tensor) -> Tensor:
    return torch.from_numpy(pixels(images)).permute(0, 3, 1, 2) / 255


def counterpart(transform: Any, images: Tensor) -> Tensor:
    found = [transform(image=image)["image"] for image in pixels(images)]
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2) / 255


def fixed(*values: float) -> Tensor:
    return torch.tensor([values] * 4).double()


def test_emboss_is_that_of_albumentations(images: Tensor, albumentations: Any) -> None:
    own = Emboss().change(images, fixed(0.4, 0.6))
    wanted = counterpart(albumentations.Emboss(alpha=(0.4, 0.4), strength=(0.6, 0.6), p=1), images)
    torch.testing.assert_close(own, wanted, atol=3 * LEVEL, rtol=0)  # of bytes, whose rounding the kernel enlarges


def test_sharpen_is_that_of_albumentations_within_the_rim(images: Tensor, albumentations: Any) -> None:
    own = Sharpen(factor=[0, 20]).change(images, fixed(1 + 13 * 0.3))
    wanted = counterpart(albumentations.Sharpen(alpha=(0.3, 0.3), lightness=(1, 1), p=1), images)
    inner = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(own[inner], wanted[inner], atol=4 * LEVEL, rtol=0)


def test_median_blur_and_clahe_are_those_of_albumentations(images: Tensor, albumentations: Any) -> None:
    grey = torch.from_numpy(pixels(images[:, :1])).permute(0, 3, 1, 2) / 255
    pairs = [
        (MedianBlur(size=3), fixed(), albumentations.MedianBlur(blur_limit=(3, 3), p=1)),
        (Clahe(), fixed(2.0), albumentations.CLAHE(clip_limit=(2, 2), p=1)),
    ]
    for own, parameters, theirs in pairs:
        torch.testing.assert_close(own.change(grey, parameters), counterpart(theirs, grey), atol=1e-6, rtol=0)


def motion(albumentations: Any, angle: float) -> Any:
    options = {"blur_limit": (5, 5), "angle_range": (angle, angle), "direction_range": (0.0, 0.0)}
    return albumentations.MotionBlur(**options, allow_shifted=False, p=1)


@pytest.mark.parametrize("angle", [0.0, 90.0])
def test_motion_blur_along_a_side_is_that_of_albumentations(images: Tensor, albumentations: Any, angle: float) -> None:
    own = MotionBlur(length=5).change(on_levels(images), fixed(5, angle))
    torch.testing.assert_close(own, counterpart(motion(albumentations, angle), images), atol=LEVEL, rtol=0)


# Theirs takes whole pixels of a line, whose angle goes clockwise, ours what the line covers of each. At 5 pixels across
# their line has 3 on the diagonal, 2.8 pixels apart.
def test_motion_blur_along_the_diagonal_is_nearly_that_of_albumentations(images: Tensor, albumentations: Any) -> None:
    smooth = on_levels(reference.gaussian_blur(images, [9, 9], [2.0, 2.0]))
    own = MotionBlur(length=4).change(smooth, fixed(3.5, 135))
    wanted = counterpart(motion(albumentations, 45), smooth)
    torch.testing.assert_close(own, wanted, atol=2 * LEVEL, rtol=0)
    assert (own - smooth).abs().amax() > 4 * LEVEL


@pytest.mark.parametrize("quality", [30, 90])
def test_jpeg_is_that_of_albumentations(images: Tensor, albumentations: Any, quality: int) -> None:
    theirs = albumentations.ImageCompression(quality_range=(quality, quality), p=1)
    assert torch.equal(Jpeg().change(images[:, :1], fixed(quality)), counterpart(theirs, images[:, :1]))
    blue_first = counterpart(theirs, images.flip(1)).flip(1)  # it takes blue for red, which weigh differently
    assert torch.equal(Jpeg().change(images, fixed(quality)), blue_first)


def places(height: int, width: int) -> NDArray[np.int64]:
    return np.mgrid[:height, :width].transpose(1, 2, 0)[..., ::-1]


# Their centre lies at (W / 2, H / 2), half a pixel to the lower right of ours: the middle of four of their places.
@pytest.mark.parametrize("k", [-0.3, 0.2])
def test_an_optical_distortion_is_that_of_a_fisheye_lens_in_albumentations(albumentations: Any, k: float) -> None:
    functions = importlib.import_module("albumentations.augmentations.geometric.functional")
    size = (80, 120)
    maps = (
        np.stack(functions.get_fisheye_distortion_maps(size, k), axis=-1)
        - np.mgrid[:80, :120].transpose(1, 2, 0)[..., ::-1]
    )
    theirs = (maps[1:, 1:] + maps[:-1, 1:] + maps[1:, :-1] + maps[:-1, :-1]) / 4
    own = OpticalDistortion().field(torch.tensor([[k]]), size, CPU)[0, :-1, :-1]
    assert np.abs(theirs).max() > 10
    np.testing.assert_allclose(own, theirs, atol=0.01)  # pixels


# Theirs shifts whole rows and columns of knots. Its lines end at both ends of a cell, so that they are a pixel off.
def test_a_grid_distortion_is_that_of_albumentations(albumentations: Any) -> None:
    functions = importlib.import_module("albumentations.augmentations.geometric.functional")
    cells, size = 4, (400, 600)
    draws = np.random.default_rng(0).uniform(0.75, 1.25, (2, cells + 1)).tolist()
    steps = functions.normalize_grid_distortion_steps(size, cells, *draws)
    theirs = np.stack(functions.generate_grid(size, steps["steps_x"], steps["steps_y"], cells), axis=-1)
    shifts = [np.cumsum(steps[name] - 1)[: cells - 1] for name in ("steps_x", "steps_y")]  # of inner knots, in cells
    knots = np.stack([np.tile(shifts[0], (cells - 1, 1)), np.tile(shifts[1][:, None], (1, cells - 1))])
    own = GridDistortion(cells=cells).field(torch.from_numpy(knots).reshape(1, -1), size, CPU)[0].numpy()
    wanted = theirs - places(*size)
    inner = (slice(100, 300), slice(150, 450))  # our rim stays in both directions, theirs slides along itself
    assert np.abs(wanted[inner]).max() > 20
    np.testing.assert_allclose(own[inner], wanted[inner], atol=1.5)  # pixels
