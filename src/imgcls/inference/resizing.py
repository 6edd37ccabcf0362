"""Bringing images to the size of a model inside of its graph, as Pillow does it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import final

import PIL
import torch
from torch import Tensor, nn

from imgcls.core.errors import ConfigError
from imgcls.data.spec import ImageSpec

__all__ = ["Resize"]

#: From this version on Pillow resizes columns before rows where that is less work, as its results show.
_EITHER_ORDER = 13

#: Pillow's weights for 8-bit images are whole multiples of this one.
_STEP = 2.0**-22


@final
class Resize(nn.Module):
    """From images of any size to those of a spec.

    A resize is linear along either side, so it is two products with matrices, which are made inside from the size of
    the image. Filters, their support, the order of the sides and the rounding after each are those of Pillow, so that a
    pixel differs by a level only where a sum falls on the border between two levels.

    Args:
        spec: The form, of 8 bits.

    Raises:
        ConfigError: if the images are deeper.
    """

    def __init__(self, spec: ImageSpec) -> None:
        super().__init__()
        if spec.bits != 8 or spec.range is not None:
            raise ConfigError("'resize' must be left out for images of more than 8 bits, got True; resize outside")
        self.size, self.fit, self.spread = spec.size, spec.fit, spec.fill == "replicate"
        self.interpolation = spec.interpolation
        self.either_order = int(PIL.__version__.partition(".")[0]) >= _EITHER_ORDER

    def forward(self, pixels: Tensor) -> Tensor:
        """Resize.

        Args:
            pixels: (B, H, W, C), 0 to 255.

        Returns:
            Whole levels (B, C, height, width) of the size of the spec, float32.
        """
        planes = pixels.permute(0, 3, 1, 2).to(torch.float32)
        high, wide = (_number(planes.shape[side]) for side in (2, 3))
        rows, columns = self._sides(high, wide, *self.size), self._sides(wide, high, *self.size[::-1])
        down = self._weights(planes.shape[2], *rows)
        across = self._weights(planes.shape[3], *columns).T
        if not self.either_order:
            return _across_first(planes, down, across)
        less = (high > rows[2]) & (high - rows[2] > 2 * (wide - columns[2]))
        found: Tensor = torch.cond(less, _down_first, _across_first, (planes, down, across))
        return found

    # Of one side: where the part that is used begins and ends, how long it becomes, and how long the result is. As in
    # `data.fitting.placement`, with numbers that the graph learns when it runs.
    def _sides(self, own: Tensor, other: Tensor, wanted: int, across: int) -> tuple[Tensor, Tensor, Tensor, int]:
        start, end, long = torch.zeros_like(own), own, torch.full_like(own, wanted)
        if self.fit == "crop":
            used = torch.minimum(own, other * (wanted / across))
            start = (own - used) * 0.5
            start, end = (place.to(torch.float32).to(torch.float64) for place in (start, start + used))  # as in Pillow
        if self.fit == "letterbox":
            long = torch.minimum(long, (own / other * across).round().clamp(min=1.0))
        return start, end, long, wanted

    def _weights(self, count: int, start: Tensor, end: Tensor, long: Tensor, wanted: int) -> Tensor:
        places = torch.arange(wanted, dtype=torch.float64) - ((wanted - long) * 0.5).round()
        inside = (places >= 0) & (places < long)
        scale = (end - start) / long
        pixels = torch.arange(count, dtype=torch.float64)
        if self.interpolation == "nearest":
            weights = (pixels == _added_up(start, scale, (places > 0) & inside)[:, None]).to(torch.float32)
        else:
            centres = start + (torch.minimum(places.clamp(min=0.0), long - 1) + 0.5) * scale
            weights = _rounded(self._filtered(pixels, centres[:, None], scale.clamp(min=1.0)))
        return weights if self.spread else weights * inside[:, None]

    # Whether a pixel on the border of the filter counts hangs on the last bit, so each number is computed as in Pillow.
    def _filtered(self, pixels: Tensor, centres: Tensor, scale: Tensor) -> Tensor:
        shape, reach = _FILTERS[self.interpolation]
        near = pixels >= (centres - reach * scale + 0.5).floor()
        near &= pixels < (centres + reach * scale + 0.5).floor()
        return shape((pixels - centres + 0.5) * (1.0 / scale)) * near


# Both round between the sides.
def _across_first(planes: Tensor, down: Tensor, across: Tensor) -> Tensor:
    return _levels(down @ _levels(planes @ across))


def _down_first(planes: Tensor, down: Tensor, across: Tensor) -> Tensor:
    return _levels(_levels(down @ planes) @ across)


# A size as a number that the graph computes with.
def _number(size: int) -> Tensor:
    return torch.full((), size, dtype=torch.float64)


def _levels(values: Tensor) -> Tensor:
    return (values + 0.5).floor().clamp(0.0, 255.0)


# Step by step, since a product would fall on the other side of a border between pixels where a sum does not.
def _added_up(start: Tensor, scale: Tensor, moves: Tensor) -> Tensor:
    first = torch.arange(len(moves)) == 0
    return torch.where(first, start + scale * 0.5, scale * moves).cumsum(0).floor()


# Half a step goes away from zero.
def _rounded(weights: Tensor) -> Tensor:
    shares = weights / weights.sum(dim=1, keepdim=True) / _STEP
    return (shares.sign() * (shares.abs() + 0.5).floor() * _STEP).to(torch.float32)


def _box(x: Tensor) -> Tensor:
    return ((x > -0.5) & (x <= 0.5)).to(torch.float64)


def _bilinear(x: Tensor) -> Tensor:
    return (1.0 - x.abs()).clamp(min=0.0)


def _bicubic(x: Tensor) -> Tensor:
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return torch.where(x < 1.0, near, torch.where(x < 2.0, far, torch.zeros_like(x)))


def _lanczos(x: Tensor) -> Tensor:
    return torch.where((x >= -3.0) & (x < 3.0), _sinc(x) * _sinc(x / 3.0), torch.zeros_like(x))


def _sinc(x: Tensor) -> Tensor:
    angle = torch.where(x == 0.0, torch.ones_like(x), x) * math.pi
    return torch.where(x == 0.0, torch.ones_like(x), angle.sin() / angle)


#: Each with how far it reaches.
_FILTERS: Mapping[str, tuple[Callable[[Tensor], Tensor], float]] = MappingProxyType(
    {"box": (_box, 0.5), "bilinear": (_bilinear, 1.0), "bicubic": (_bicubic, 2.0), "lanczos": (_lanczos, 3.0)}
)
