"""A small convolutional network for small images and small machines."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import attrs
import torch
from torch import Tensor, nn

from imgcls.core import options
from imgcls.models.base import Backbone, Facts
from imgcls.models.cuts import trim
from imgcls.models.places import resolve

__all__ = ["SmallCnn"]


@final
@attrs.frozen(kw_only=True)
class SmallCnn(Backbone):
    """Blocks of two 3x3 convolutions with batch norm and ReLU, halved by pooling in between.

    Block i (from 1) has i times `base` channels; the features are the mean of the last map.
    Weights start at random.

    Attributes:
        base: Channels of the first block.
        depth: How many blocks; images need at least `2 ** (depth - 1)` pixels a side.
        cut: Where the network ends, for finer maps: a stride such as `stride4`, or the name of a
            module such as `blocks.2`.
    """

    base: int = attrs.field(default=32, validator=options.count(1))
    depth: int = attrs.field(default=4, validator=options.count(1))
    cut: str | None = attrs.field(default=None, validator=options.optional(options.instance(str)))

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:  # noqa: ARG002
        """Make the body.

        Args:
            in_channels: 1 or 3.
            image_size: Height and width of the images.
            initial: Makes no difference here.

        Returns:
            The module and its facts.

        Raises:
            ConfigError: if the images are too small for the depth.
        """
        if min(image_size) < 2 ** (self.depth - 1):
            raise options.rejected("depth", f"be smaller for images of {min(image_size)} pixels", self.depth)
        body = _Encoder([in_channels, *(self.base * number for number in range(1, self.depth + 1))])
        half = (0.5,) * in_channels
        blocks = tuple((f"blocks.{2 * number}",) for number in range(self.depth))  # pools stand in between
        width = self.base * self.depth
        facts = Facts(num_features=width, target_layer="blocks", mean=half, std=half, blocks=blocks)
        if self.cut is None:
            return body, facts
        probe = torch.rand(1, in_channels, *image_size)
        return trim(body, facts, last=resolve(body, self.cut, probe), pool="avg", probe=probe)


class _Encoder(nn.Module):
    def __init__(self, widths: list[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.MaxPool2d(2)] if layers else []
            layers += [_double(before, after)]
        self.blocks = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.pool(self.blocks(images)).flatten(1)
        return features


def _double(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        *(layer for width in (before, after) for layer in _convolution(width, after)),
    )


def _convolution(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
