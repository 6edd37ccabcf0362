"""Displacements: each gives a field of shifts for each image."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor
from torch.nn import functional

from imgcls.augment.base import Displacement, Size
from imgcls.augment.filters import smooth
from imgcls.augment.hashing import uniform
from imgcls.augment.ranges import SEED, Range, chance, interval, pair, symmetric
from imgcls.core import options

__all__ = ["Elastic", "GridDistortion", "OpticalDistortion", "centred"]


def centred(size: Size, device: torch.device) -> Tensor:
    """Give the place of each pixel.

    Args:
        size: Height and width in pixels.
        device: Where to.

    Returns:
        Pixels to the right of and below the centre of the image, (H, W, 2), float32.
    """
    y, x = (torch.arange(side, device=device) - (side - 1) / 2 for side in size)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


@final
@attrs.frozen(kw_only=True)
class Elastic(Displacement):
    """Shifts pixels at random, neighbours alike (Simard et al., 2003).

    Attributes:
        alpha: Largest shift in pixels before the field is smoothed, which makes it about
            6 sigma times smaller.
        sigma: Standard deviation of the bell that smooths the field, in pixels.
        p: The chance.
    """

    name: ClassVar[str] = "elastic"
    alpha: Range = attrs.field(default=(50.0, 50.0), converter=pair, validator=interval(0))
    sigma: float = attrs.field(default=5.0, validator=options.number(0.5, 100))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.alpha, SEED)

    def _field(self, parameters: Tensor, size: Size, device: torch.device, /) -> Tensor:
        noise = uniform(parameters[:, 1], (2, *size), device)
        smoothed = smooth(noise * 2 - 1, torch.full((len(noise),), self.sigma), self.sigma)
        alpha = parameters[:, 0].to(smoothed).view(-1, 1, 1, 1)
        return (alpha * smoothed).permute(0, 2, 3, 1)


@final
@attrs.frozen(kw_only=True)
class GridDistortion(Displacement):
    """Shifts the knots of a net within the image; between them shifts are linear.

    Attributes:
        cells: Cells along each side.
        limit: Largest shift of a knot, in sides of a cell; below one half, so that nothing folds.
        p: The chance.
    """

    name: ClassVar[str] = "grid-distortion"
    cells: int = attrs.field(default=5, validator=options.count(2))
    limit: float = attrs.field(default=0.3, validator=options.number(0, 0.5, below=True))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return ((-self.limit, self.limit),) * (2 * (self.cells - 1) ** 2)

    def _field(self, parameters: Tensor, size: Size, device: torch.device, /) -> Tensor:
        inner = parameters.view(-1, 2, self.cells - 1, self.cells - 1).to(device, torch.float32)
        knots = functional.pad(inner, (1, 1, 1, 1))  # the rim stays
        shares = functional.interpolate(knots, size=size, mode="bilinear", align_corners=True).permute(0, 2, 3, 1)
        return shares * (torch.tensor([size[1], size[0]], device=device) / self.cells)


@final
@attrs.frozen(kw_only=True)
class OpticalDistortion(Displacement):
    """Bends straight lines as lenses do: a pixel comes from (1 + k r^2) times its distance to the centre.

    Attributes:
        k: The factor, where r is 1 in the corners: above 0 a barrel, below a pincushion;
            0.3 stands for (-0.3, 0.3).
        p: The chance.
    """

    name: ClassVar[str] = "optical-distortion"
    k: Range = attrs.field(default=(-0.3, 0.3), converter=symmetric, validator=interval(-0.33, 1))
    p: float = chance()

    def _ranges(self) -> tuple[Range, ...]:
        return (self.k,)

    def _field(self, parameters: Tensor, size: Size, device: torch.device, /) -> Tensor:
        places = centred(size, device)
        square = (places**2).sum(2, keepdim=True) * (4 / (size[0] ** 2 + size[1] ** 2))
        return parameters.to(device, torch.float32).view(-1, 1, 1, 1) * (square * places)
