"""Which transforms there are, how specs become transforms, and groups of which one happens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import attrs
import torch
from torch import Tensor

from imgcls.augment.base import Mixing, Step, Transform
from imgcls.augment.colour import Brightness, Contrast, Gamma, Hue, Saturation
from imgcls.augment.displacement import Elastic, GridDistortion, OpticalDistortion
from imgcls.augment.filters import Emboss, GaussianBlur, MedianBlur, MotionBlur, Sharpen
from imgcls.augment.geometry import (
    FlipLR,
    FlipUD,
    Perspective,
    RandomResizedCrop,
    Rotate,
    Rotate90,
    Scale,
    Shear,
    Translate,
)
from imgcls.augment.mixing import CutMix, MixUp
from imgcls.augment.noise import Erasing, GaussianNoise
from imgcls.augment.per_image import Clahe, Jpeg, PerSample
from imgcls.augment.ranges import chance
from imgcls.core import config, options

__all__ = ["KINDS", "OneOf", "to_transforms"]


def to_transforms(value: Any) -> Any:
    """Make transforms from their specs.

    Args:
        value: A list of names, specs, transforms and functions of the user; anything else is left
            for the validator.

    Returns:
        A tuple of transforms.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return value
    return tuple(_to_transform(item, f"transforms.{number}") for number, item in enumerate(value))


def _to_transform(item: Any, path: str) -> Any:
    if callable(item) and not isinstance(item, type):
        with config.at(path):
            return PerSample(function=item)
    return config.pick(KINDS, item, path=path)


@final
@attrs.frozen(kw_only=True)
class OneOf(Transform):
    """A group of which exactly one transform happens to an image.

    Attributes:
        transforms: The transforms. Within the group the `p` of each is how likely it is, next to
            those of the others.
        p: The chance that any happens.
    """

    name: ClassVar[str] = "one-of"
    transforms: tuple[Transform, ...] = attrs.field(converter=to_transforms, validator=options.several(Transform))
    p: float = chance()

    def __attrs_post_init__(self) -> None:
        if not sum(item.p for item in self.transforms):
            raise options.rejected("transforms", "have one with 'p' above 0", [item.name for item in self.transforms])
        if len({isinstance(item, Mixing) for item in self.transforms}) > 1:
            names = [item.name for item in self.transforms]
            raise options.rejected("transforms", "all mix images or none", names, "make two groups")

    @property
    def num_uniforms(self) -> int:
        """How many uniforms an image needs, beside the one that `p` is compared with."""
        return 1 + max(item.num_uniforms for item in self.transforms)

    def steps(self, uniforms: Tensor, active: Tensor) -> list[Step]:
        """Draw what happens to the images of a batch.

        Args:
            uniforms: Uniforms (B, num_uniforms) in [0, 1).
            active: Which images it happens to, (B,), bool.

        Returns:
            One step for each transform; no image is active in two.
        """
        shares = torch.tensor([item.p for item in self.transforms], dtype=torch.float64).cumsum(0)
        chosen = torch.searchsorted(shares / shares[-1], uniforms[:, 0].double(), right=True)
        steps = []
        for number, item in enumerate(self.transforms):
            steps += item.steps(uniforms[:, 1 : 1 + item.num_uniforms], active & (chosen == number))
        return steps


KINDS: tuple[type[Transform], ...] = (
    *(FlipLR, FlipUD, Rotate90, Rotate, Scale, Translate, Shear, RandomResizedCrop, Perspective),
    *(Elastic, GridDistortion, OpticalDistortion),
    *(Brightness, Contrast, Gamma, Saturation, Hue),
    *(GaussianBlur, MotionBlur, MedianBlur, Sharpen, Emboss, Clahe, Jpeg),
    *(GaussianNoise, Erasing),
    *(MixUp, CutMix),
    *(OneOf, PerSample),
)
"""The transforms that a configuration can name."""
