"""Transforms of other libraries that users bring."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from imgcls.augment.augment import to_augment
from imgcls.augment.per_image import PerSample, to_bytes
from imgcls.core.dumping import dump
from imgcls.core.errors import ConfigError, DataError


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


def test_a_function_that_fails_is_named(images: Tensor, apply: Any) -> None:
    def broken(image: Any, rng: np.random.Generator) -> Any:
        raise KeyError("kernel")

    with pytest.raises(DataError, match="'broken' must augment any image of the set, got KeyError: 'kernel'"):
        apply([PerSample(function=broken)], images)
