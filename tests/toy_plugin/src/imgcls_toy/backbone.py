"""A backbone that averages pixels."""

from __future__ import annotations

from typing import final

import attrs
from torch import nn

from imgcls.core import options
from imgcls.models.base import Backbone, Facts

__all__ = ["ToyPixels"]


@final
@attrs.frozen(kw_only=True)
class ToyPixels(Backbone):
    """One convolution, and the mean of its map in a grid of squares.

    Attributes:
        width: Channels of the convolution.
        grid: Squares a side.
    """

    width: int = attrs.field(default=4, validator=options.count(1))
    grid: int = attrs.field(default=2, validator=options.count(1))

    def make(self, *, in_channels: int, image_size: tuple[int, int], initial: bool) -> tuple[nn.Module, Facts]:
        """Make the body.

        Args:
            in_channels: 1 or 3.
            image_size: Height and width of the images.
            initial: Whether to load initial weights; there are none.

        Returns:
            The module and its facts.
        """
        convolution = nn.Conv2d(in_channels, self.width, 3, padding=1)
        body = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(self.grid), nn.Flatten())
        return body, Facts(num_features=self.width * self.grid**2, target_layer="1")
