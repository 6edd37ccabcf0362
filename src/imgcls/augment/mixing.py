"""Mixing an image with another of the batch, and their targets alike."""

from __future__ import annotations

from typing import ClassVar, final

import attrs
import torch
from torch import Tensor

from imgcls.augment.base import Mixing, spread
from imgcls.augment.noise import windows
from imgcls.augment.ranges import UNIT, Range, chance
from imgcls.core import options

__all__ = ["CutMix", "MixUp"]


@final
@attrs.frozen(kw_only=True)
class MixUp(Mixing):
    """Lays one image over the other (Zhang et al., 2018).

    Attributes:
        alpha: The share of the image is drawn from Beta(alpha, alpha): near 0 mostly one of
            the two, at 1 evenly.
        p: The chance.
    """

    name: ClassVar[str] = "mixup"
    alpha: float = attrs.field(default=0.2, validator=options.number(0.01, 100))
    p: float = chance(1.0)

    def _ranges(self) -> tuple[Range, ...]:
        return (UNIT, UNIT)

    def _mix(self, images: Tensor, others: Tensor, parameters: Tensor, /) -> tuple[Tensor, Tensor]:
        shares = _beta(parameters[:, 0], self.alpha)
        (own,) = spread(shares.unsqueeze(1), images)
        return own * images + (1 - own) * others, shares


@final
@attrs.frozen(kw_only=True)
class CutMix(Mixing):
    """Puts a rectangle of the other image into the same place of the image (Yun et al., 2019).

    Attributes:
        alpha: The share of the image is drawn from Beta(alpha, alpha).
        p: The chance.
    """

    name: ClassVar[str] = "cutmix"
    alpha: float = attrs.field(default=1.0, validator=options.number(0.01, 100))
    p: float = chance(1.0)

    def _ranges(self) -> tuple[Range, ...]:
        return (UNIT, UNIT, UNIT, UNIT)

    def _mix(self, images: Tensor, others: Tensor, parameters: Tensor, /) -> tuple[Tensor, Tensor]:
        uniform, x, y, _ = parameters.unbind(1)
        side = (1 - _beta(uniform, self.alpha)).sqrt()
        inside = windows(torch.stack([x * (1 - side), y * (1 - side), side, side], dim=1), images)
        # the share of whole pixels, not the one drawn
        return torch.where(inside, others, images), 1 - inside.to(images.dtype).mean((1, 2, 3))


def _beta(uniforms: Tensor, alpha: float) -> Tensor:
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, uniforms.numpy()))
