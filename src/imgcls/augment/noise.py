"""Noise and erasing."""

from __future__ import annotations

import math
from typing import Any, ClassVar, final

import attrs
import torch
from torch import Tensor

from imgcls.augment.base import Intensity, spread
from imgcls.augment.hashing import normal
from imgcls.augment.ranges import SEED, UNIT, Range, chance, interval, pair
from imgcls.core import options

__all__ = ["Erasing", "GaussianNoise", "windows"]


@final
@attrs.frozen(kw_only=True)
class GaussianNoise(Intensity):
    """Adds normal noise, another for each value.

    Attributes:
        std: Standard deviation, where 1 is the whole range of values.
        p: The chance.
    """

    name: ClassVar[str] = "gaussian-noise"
    std: Range = attrs.field(default=(0.01, 0.05), converter=pair, validator=interval(0, 1))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.std, SEED)

    # torchvision's gaussian_noise draws from the global state, one strength for a batch.
    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        noise = normal(parameters[:, 1], tuple(images.shape[1:]), images.device)
        return noise.mul_(spread(parameters, images)[0]).add_(images)


def windows(places: Tensor, images: Tensor) -> Tensor:
    """Mark a rectangle in each image.

    Args:
        places: Left, top, width and height as shares of the image's width and height, (B, 4).
        images: Images (B, C, H, W).

    Returns:
        Whether each pixel lies in its rectangle, (B, 1, H, W), bool.
    """
    high, wide = images.shape[2:]
    left, top, width, height = spread(places, images)
    y = (torch.arange(high, device=images.device).view(-1, 1) + 0.5) / high
    x = (torch.arange(wide, device=images.device) + 0.5) / wide
    return (x >= left) & (x < left + width) & (y >= top) & (y < top + height)


def _check_value(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if value != "mean" and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
        raise options.rejected(field.name, "be 'mean' or a number from 0 to 1", value)


@final
@attrs.frozen(kw_only=True)
class Erasing(Intensity):
    """Covers a rectangle anywhere in the image (Zhong et al., 2020). Masks stay as they are.

    Attributes:
        area: Share of the image's area.
        ratio: Width over height, in those of the image; drawn evenly on a logarithmic scale.
        value: What covers it, from 0 to 1, or "mean" for the mean of each channel of the image.
        p: The chance.
    """

    name: ClassVar[str] = "erasing"
    area: Range = attrs.field(default=(0.02, 0.2), converter=pair, validator=interval(0, 1))
    ratio: Range = attrs.field(default=(0.3, 3.3), converter=pair, validator=interval(0.01, 100))
    value: float | str = attrs.field(default="mean", validator=_check_value)
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.area, (math.log(self.ratio[0]), math.log(self.ratio[1])), UNIT, UNIT)

    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        area, ratio, x, y = parameters.unbind(1)
        width, height = (area * ratio.exp()).sqrt().clamp(max=1), (area / ratio.exp()).sqrt().clamp(max=1)
        inside = windows(torch.stack([x * (1 - width), y * (1 - height), width, height], dim=1), images)
        cover = images.mean((2, 3), keepdim=True) if isinstance(self.value, str) else images.new_tensor(self.value)
        return torch.where(inside, cover, images)
