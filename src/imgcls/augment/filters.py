"""Filters over neighbouring pixels: blur, motion, median, sharpness, relief."""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from imgcls.augment.base import Intensity, spread
from imgcls.augment.per_image import each_image
from imgcls.augment.ranges import Range, chance, interval, pair
from imgcls.core import options

__all__ = ["Emboss", "GaussianBlur", "MedianBlur", "MotionBlur", "Sharpen", "convolve", "gaussian_kernels", "smooth"]


# A sum over the places of the kernel is faster than conv2d where each image has a kernel of its own, and equal bit by
# bit whatever the batch.
def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Convolve each image with a kernel of its own; the image goes on as in a mirror.

    Args:
        images: Images (B, C, H, W).
        kernels: Kernels (B, h, w), on the CPU, h and w odd and below 2 H and 2 W.

    Returns:
        Images (B, C, H, W).
    """
    (high, wide), (height, width) = kernels.shape[1:], images.shape[2:]
    padded = functional.pad(images, (wide // 2, wide // 2, high // 2, high // 2), mode="reflect")
    weights = kernels.to(images)
    found = torch.zeros_like(images)
    for row, column in kernels.any(0).nonzero().tolist():
        shifted = padded[..., row : row + height, column : column + width]
        found.addcmul_(shifted, weights[:, row, column].view(-1, 1, 1, 1))
    return found


def gaussian_kernels(sigmas: Tensor, radius: int) -> Tensor:
    """Make Gaussian bells.

    Args:
        sigmas: Standard deviations in pixels, (B,).
        radius: Pixels to either side of the middle.

    Returns:
        Kernels (B, 2 radius + 1), each of sum 1.
    """
    x = torch.arange(-radius, radius + 1, dtype=sigmas.dtype)
    bells = torch.exp(-(x**2) / (2 * sigmas.unsqueeze(1) ** 2))
    return bells / bells.sum(1, keepdim=True)


# torchvision's gaussian_blur has one sigma for a batch, and a kernel of two dimensions where two of one dimension do.
def smooth(images: Tensor, sigmas: Tensor, largest: float) -> Tensor:
    """Blur each image with a Gaussian bell of its own.

    Args:
        images: Images (B, C, H, W).
        sigmas: Standard deviations in pixels, (B,).
        largest: The largest that there can be: bells end at three times of it.

    Returns:
        Images (B, C, H, W).
    """
    high, wide = (gaussian_kernels(sigmas, min(math.ceil(3 * largest), side - 1)) for side in images.shape[2:])
    if images.device.type == "cpu":
        return _by_opencv(images, high, wide)
    return convolve(convolve(images, high.unsqueeze(2)), wide.unsqueeze(1))


# Several times as fast as a sum of shifted images; the same within rounding.
def _by_opencv(images: Tensor, high: Tensor, wide: Tensor) -> Tensor:
    import cv2

    found = torch.empty(images.shape)
    bells = zip(images.contiguous().numpy(), found.numpy(), high.numpy(), wide.numpy(), strict=True)
    for sources, results, down, across in bells:
        for source, result in zip(sources, results, strict=True):
            cv2.sepFilter2D(source, -1, across, down, dst=result, borderType=cv2.BORDER_REFLECT_101)
    return found


@final
@attrs.frozen(kw_only=True)
class GaussianBlur(Intensity):
    """Blurs as a lens out of focus nearly does.

    Attributes:
        sigma: Standard deviation of the bell, in pixels.
        p: The chance.
    """

    name: ClassVar[str] = "gaussian-blur"
    sigma: Range = attrs.field(default=(0.1, 2.0), converter=pair, validator=interval(0.05, 50))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.sigma,)

    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        return smooth(images, parameters[:, 0], self.sigma[1])


@final
@attrs.frozen(kw_only=True)
class MotionBlur(Intensity):
    """Blurs along a line in any direction.

    Attributes:
        length: Length of the line in pixels.
        p: The chance.
    """

    name: ClassVar[str] = "motion-blur"
    length: Range = attrs.field(default=(3.0, 7.0), converter=pair, validator=interval(1, 99))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.length, (0.0, 180.0))

    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        radius = min(math.ceil(self.length[1] / 2), min(images.shape[2:]) - 1)
        return convolve(images, _lines(parameters[:, 0], parameters[:, 1].deg2rad(), radius))


# A pixel counts by how much of the line, one pixel wide, lies on it.
def _lines(lengths: Tensor, angles: Tensor, radius: int) -> Tensor:
    side = torch.arange(-radius, radius + 1, dtype=lengths.dtype)
    x, y = side.view(1, 1, -1), side.view(1, -1, 1)
    cos, sin, half = (value.view(-1, 1, 1) for value in (angles.cos(), angles.sin(), lengths / 2))
    along, across = (x * cos - y * sin).abs(), (x * sin + y * cos).abs()
    kernels = (half + 0.5 - along).clamp(0, 1) * (1 - across).clamp(min=0)
    return kernels / kernels.sum((1, 2), keepdim=True)


@final
@attrs.frozen(kw_only=True)
class MedianBlur(Intensity):
    """Takes the middle value of each neighbourhood.

    Attributes:
        size: Side of the neighbourhood in pixels, 3 or 5.
        p: The chance.
    """

    name: ClassVar[str] = "median-blur"
    size: int = attrs.field(default=3)
    p: float = chance()

    @size.validator
    def _check_size(self, field: attrs.Attribute[int], value: int) -> None:
        if value not in {3, 5} or not isinstance(value, int):
            raise options.rejected(field.name, "be 3 or 5", value)

    def _ranges(self) -> tuple[Range, ...]:
        return ()

    def _change(self, images: Tensor, _parameters: Tensor, /) -> Tensor:
        import cv2

        # OpenCV image by image is forty times as fast as torch's median of the shifted images.
        return each_image(images, lambda pixels, _: cv2.medianBlur(pixels, self.size))


@final
@attrs.frozen(kw_only=True)
class Sharpen(Intensity):
    """Strengthens or weakens what sets a pixel off from its neighbours.

    Attributes:
        factor: 0 blurs, 1 changes nothing, 2 doubles the difference.
        p: The chance.
    """

    name: ClassVar[str] = "sharpen"
    factor: Range = attrs.field(default=(1.0, 2.0), converter=pair, validator=interval(0, 20))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.factor,)

    # As torchvision's adjust_sharpness, which has one factor for a batch: the rim stays as it is.
    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        (factor,) = spread(parameters, images)
        kernel = torch.ones(len(images), 3, 3) / 13
        kernel[:, 1, 1] = 5 / 13
        blurred = images.clone()
        blurred[..., 1:-1, 1:-1] = convolve(images, kernel)[..., 1:-1, 1:-1]
        return blurred + factor * (images - blurred)


@final
@attrs.frozen(kw_only=True)
class Emboss(Intensity):
    """Makes a relief, lit from the upper left, by the kernel of albumentations.

    Attributes:
        share: Share of the relief in the result; the rest is the image.
        strength: Height of the relief.
        p: The chance.
    """

    name: ClassVar[str] = "emboss"
    share: Range = attrs.field(default=(0.2, 0.5), converter=pair, validator=interval(0, 1))
    strength: Range = attrs.field(default=(0.2, 0.7), converter=pair, validator=interval(0, 10))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.share, self.strength)

    def _change(self, images: Tensor, parameters: Tensor, /) -> Tensor:
        share, strength = parameters.view(-1, 2, 1, 1).unbind(1)
        slope = torch.tensor([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]], dtype=torch.float64)
        corners = torch.tensor([[-1, 0, 0], [0, 0, 0], [0, 0, 1]], dtype=torch.float64)
        middle = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.float64)
        return convolve(images, middle + share * (strength * slope + corners))
