"""Geometric transforms: each gives a matrix for each image, from places in the result to places in the image."""

from __future__ import annotations

import math
from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from imgcls.augment.base import Geometric, Size
from imgcls.augment.ranges import UNIT, Range, around_one, chance, interval, pair, symmetric
from imgcls.core import options

__all__ = [
    "FlipLR",
    "FlipUD",
    "Perspective",
    "RandomResizedCrop",
    "Rotate",
    "Rotate90",
    "Scale",
    "Shear",
    "Translate",
]

# torchvision's affine, rotate, perspective and resized_crop take one set of numbers for a whole batch, and each
# resamples anew.


@final
@attrs.frozen(kw_only=True)
class FlipLR(Geometric):
    """Left becomes right.

    Attributes:
        p: The chance.
    """

    name: ClassVar[str] = "flip-lr"
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return ()

    def _matrices(self, parameters: Tensor, _size: Size, /) -> Tensor:
        one = torch.ones(len(parameters), dtype=torch.float64)
        return _window(-one, one)


@final
@attrs.frozen(kw_only=True)
class FlipUD(Geometric):
    """Up becomes down.

    Attributes:
        p: The chance.
    """

    name: ClassVar[str] = "flip-ud"
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return ()

    def _matrices(self, parameters: Tensor, _size: Size, /) -> Tensor:
        one = torch.ones(len(parameters), dtype=torch.float64)
        return _window(one, -one)


@final
@attrs.frozen(kw_only=True)
class Rotate90(Geometric):
    """One, two or three quarter turns; what then lies outside an oblong image is cut off.

    Attributes:
        p: The chance.
    """

    name: ClassVar[str] = "rotate-90"
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return ((1.0, 4.0),)

    def _matrices(self, parameters: Tensor, _size: Size, /) -> Tensor:
        angle = parameters[:, 0].floor() * (math.pi / 2)
        return _turn(angle.cos().round(), angle.sin().round())


@final
@attrs.frozen(kw_only=True)
class Rotate(Geometric):
    """Turns about the centre.

    Attributes:
        degrees: Angle, counter-clockwise; 15 stands for (-15, 15).
        crop: Whether the result is enlarged until nothing from outside of the image is seen:
            it shows the largest rectangle of the image's form that lies within the turned image.
        p: The chance.
    """

    name: ClassVar[str] = "rotate"
    degrees: Range = attrs.field(default=(-15.0, 15.0), converter=symmetric, validator=interval(-180, 180))
    crop: bool = attrs.field(default=False, validator=options.instance(bool))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.degrees,)

    def _matrices(self, parameters: Tensor, size: Size, /) -> Tensor:
        angle = parameters[:, 0].deg2rad()
        cos, sin = angle.cos(), angle.sin()
        share = _inscribed(cos.abs(), sin.abs(), size) if self.crop else 1.0
        return _turn(cos * share, sin * share)


@final
@attrs.frozen(kw_only=True)
class Scale(Geometric):
    """Enlarges or shrinks about the centre.

    Attributes:
        factor: Sides of the result over those of the image; 0.1 stands for (0.9, 1.1).
        p: The chance.
    """

    name: ClassVar[str] = "scale"
    factor: Range = attrs.field(default=(0.9, 1.1), converter=around_one, validator=interval(0.1, 10))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.factor,)

    def _matrices(self, parameters: Tensor, _size: Size, /) -> Tensor:
        share = 1 / parameters[:, 0]
        return _window(share, share)


@final
@attrs.frozen(kw_only=True)
class Translate(Geometric):
    """Shifts.

    Attributes:
        x: To the right, in widths; 0.1 stands for (-0.1, 0.1).
        y: Down, in heights.
        p: The chance.
    """

    name: ClassVar[str] = "translate"
    x: Range = attrs.field(default=(-0.1, 0.1), converter=symmetric, validator=interval(-1, 1))
    y: Range = attrs.field(default=(-0.1, 0.1), converter=symmetric, validator=interval(-1, 1))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.x, self.y)

    def _matrices(self, parameters: Tensor, size: Size, /) -> Tensor:
        x, y = parameters.unbind(1)
        return _window(torch.ones_like(x), torch.ones_like(y), -x * size[1], -y * size[0])


@final
@attrs.frozen(kw_only=True)
class Shear(Geometric):
    """Slants.

    Attributes:
        x: Angle by which upright lines lean, in degrees; 10 stands for (-10, 10).
        y: Angle by which level lines lean.
        p: The chance.
    """

    name: ClassVar[str] = "shear"
    x: Range = attrs.field(default=(-10.0, 10.0), converter=symmetric, validator=interval(-80, 80))
    y: Range = attrs.field(default=(0.0, 0.0), converter=symmetric, validator=interval(-80, 80))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.x, self.y)

    def _matrices(self, parameters: Tensor, _size: Size, /) -> Tensor:
        x, y = parameters.deg2rad().tan().unbind(1)
        return _linear(1 + x * y, x, y, torch.ones_like(x))


@final
@attrs.frozen(kw_only=True)
class RandomResizedCrop(Geometric):
    """Cuts out a window anywhere and enlarges it to the size of the image (Szegedy et al., 2015).

    Attributes:
        area: Share of the image's area in the window, before it is cut to the image.
        ratio: Width over height of the window, in those of the image; drawn evenly on a logarithmic scale.
        p: The chance.
    """

    name: ClassVar[str] = "random-resized-crop"
    area: Range = attrs.field(default=(0.6, 1.0), converter=pair, validator=interval(0.01, 1))
    ratio: Range = attrs.field(default=(0.75, 4 / 3), converter=pair, validator=interval(0.1, 10))
    p: float = chance(1.0)

    def _ranges(self) -> tuple[Range, ...]:
        return (self.area, (math.log(self.ratio[0]), math.log(self.ratio[1])), UNIT, UNIT)

    def _matrices(self, parameters: Tensor, size: Size, /) -> Tensor:
        area, ratio, x, y = parameters.unbind(1)
        # torchvision draws again until the window fits, which no fixed number of uniforms allows.
        width, height = (area * ratio.exp()).sqrt().clamp(max=1), (area / ratio.exp()).sqrt().clamp(max=1)
        return _window(width, height, (1 - width) * (x - 0.5) * size[1], (1 - height) * (y - 0.5) * size[0])


@final
@attrs.frozen(kw_only=True)
class Perspective(Geometric):
    """Sees the image at a slant: each corner moves inwards, independently of the others.

    Attributes:
        distortion: How far at most, in halves of width and height.
        p: The chance.
    """

    name: ClassVar[str] = "perspective"
    distortion: float = attrs.field(default=0.2, validator=options.number(0, 0.9))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return ((0.0, self.distortion),) * 8

    def _matrices(self, parameters: Tensor, size: Size, /) -> Tensor:
        half = torch.tensor([size[1] / 2, size[0] / 2], dtype=torch.float64)
        corners = half * torch.tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        return _homography((1 - parameters.view(-1, 4, 2)) * corners, corners.expand(len(parameters), 4, 2))


# x' = xx x + xy y and y' = yx x + yy y
def _linear(xx: Tensor, xy: Tensor, yx: Tensor, yy: Tensor) -> Tensor:
    none, one = torch.zeros_like(xx), torch.ones_like(xx)
    return torch.stack([xx, xy, none, yx, yy, none, none, none, one], dim=1).view(-1, 3, 3)


def _turn(cos: Tensor, sin: Tensor) -> Tensor:
    return _linear(cos, -sin, sin, cos)


# A window whose sides are shares of the image's, and whose centre is (x, y) pixels from the image's.
def _window(width: Tensor, height: Tensor, x: Tensor | float = 0.0, y: Tensor | float = 0.0) -> Tensor:
    matrices = _linear(width, torch.zeros_like(width), torch.zeros_like(width), height)
    matrices[:, 0, 2], matrices[:, 1, 2] = x, y
    return matrices


# A rectangle of w x h, turned, needs w |cos| + h |sin| to each side and w |sin| + h |cos| up and down.
def _inscribed(cos: Tensor, sin: Tensor, size: Size) -> Tensor:
    height, width = size
    return torch.minimum(width / (width * cos + height * sin), height / (width * sin + height * cos))


# The eight equations for the matrix, whose last entry is 1, that brings each of four points to another.
def _homography(sources: Tensor, ends: Tensor) -> Tensor:
    points = torch.cat([sources, torch.ones_like(sources[..., :1])], dim=2)
    none = torch.zeros_like(points)
    rows_x = torch.cat([points, none, -ends[..., :1] * sources], dim=2)
    rows_y = torch.cat([none, points, -ends[..., 1:] * sources], dim=2)
    found = torch.linalg.solve(torch.cat([rows_x, rows_y], dim=1), torch.cat([ends[..., 0], ends[..., 1]], dim=1))
    return torch.cat([found, torch.ones_like(found[:, :1])], dim=1).view(-1, 3, 3)
