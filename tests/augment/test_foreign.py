"""Transforms of other libraries, as what users bring and as the references of our own."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from imgcls.augment.augment import to_augment
from imgcls.augment.filters import Emboss, MedianBlur, Sharpen
from imgcls.augment.per_image import Clahe, PerSample, to_bytes
from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError, DataError

LEVEL = 1 / 255


@pytest.fixture
def albumentations(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")  # or it asks a server for its newest version
    pytest.importorskip("albumentations")
    return importlib.import_module("albumentations")


def pixels(images: Tensor) -> NDArray[np.uint8]:
    return to_bytes(images.permute(0, 2, 3, 1).numpy())


@pytest.mark.parametrize(
    "transform",
    [
        v2.ColorJitter(0.5, 0.5),
        v2.Compose([v2.RandomHorizontalFlip(), v2.RandomRotation(30)]),
        torch.nn.Sequential(v2.RandomVerticalFlip(), v2.RandomPosterize(3, 1.0)),
    ],
)
def test_modules_are_seeded_by_the_draw_and_leave_global_chance_alone(
    images: Tensor, apply: Any, transform: Any
) -> None:
    before = torch.get_rng_state()
    whole, _ = apply(transform, images)
    late, _ = apply([transform], images[2:], start=2)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(whole[2:], late)
    assert not torch.equal(whole, images)
    assert to_augment(transform) == to_augment([PerSample(function=transform)])


def test_a_module_does_what_it_does_alone(images: Tensor, apply: Any) -> None:
    found, _ = apply(v2.RandomInvert(1.0), images)
    wanted = 255 - pixels(images).astype(np.int64)
    assert (pixels(found) == wanted).all()


def test_plain_functions_stand_in_lists_and_are_recorded_as_opaque(images: Tensor, apply: Any) -> None:
    def dark(image: NDArray[np.uint8], _: np.random.Generator) -> NDArray[np.uint8]:
        return np.zeros_like(image)

    found, _ = apply(["flip-lr", dark], images)
    assert not found.any()
    assert "opaque" in dump(to_augment(["flip-lr", dark]))["transforms"][1]["function"]


@pytest.mark.parametrize("transform", [v2.Resize((5, 5)), v2.ToDtype(torch.float32, scale=True)])
def test_modules_that_change_shape_or_type_are_refused_by_name(images: Tensor, apply: Any, transform: Any) -> None:
    with pytest.raises(DataError, match=rf"'{type(transform).__name__}' must return a uint8 array of shape"):
        apply([transform], images)


def test_a_class_in_place_of_a_transform_is_refused() -> None:
    with pytest.raises(ConfigError, match="must name one of its kinds"):
        to_augment([v2.RandomInvert])


@pytest.mark.parametrize("single", [True, False])
def test_transforms_of_albumentations_are_seeded_by_the_draw(
    images: Tensor, apply: Any, albumentations: Any, single: bool
) -> None:
    noise = albumentations.GaussNoise(p=1)
    spec = noise if single else albumentations.Compose([albumentations.HorizontalFlip(), noise])
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    whole, _ = apply(spec, images)
    late, _ = apply([spec], images[2:], start=2)
    assert (before == np.random.get_state()[1]).all()  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(whole[2:], late)
    assert not torch.equal(whole, images)


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


def test_a_function_that_fails_is_named(images: Tensor, apply: Any) -> None:
    def broken(image: Any, rng: np.random.Generator) -> Any:
        raise KeyError("kernel")

    with pytest.raises(DataError, match="'broken' must augment any image of the set, got KeyError: 'kernel'"):
        apply([PerSample(function=broken)], images)
