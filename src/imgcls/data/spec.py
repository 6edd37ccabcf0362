"""What every image is turned into before a network sees it."""

from __future__ import annotations

import math
from typing import Any

import attrs
import numpy as np

from imgcls.core import options
from imgcls.core.errors import ConfigError

__all__ = ["ImageSpec"]

FITS = ("stretch", "letterbox", "crop")
FILLS = ("constant", "replicate")
INTERPOLATIONS = ("nearest", "box", "bilinear", "bicubic", "lanczos")
STATISTICS = ("imagenet", "dataset")

#: Of the three colours over the training images of ImageNet, from 0 to 1, as torchvision and timm have them.
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def _size(value: Any) -> Any:
    return (value, value) if isinstance(value, int) and not isinstance(value, bool) else options.texts(value)


def _pair(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    sides = value if isinstance(value, tuple) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
        raise options.rejected(field.name, "be a side in pixels or (height, width)", value)


def _floats(value: Any) -> Any:
    values = (value,) if isinstance(value, int | float) else options.texts(value)
    return tuple(map(float, values)) if _numeric(values) else value


def _numeric(values: Any) -> bool:
    return isinstance(values, tuple) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in values
    )


def _numbers(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not _numeric(value) and value not in STATISTICS:
        words = " or ".join(map(repr, STATISTICS))
        raise options.rejected(field.name, f"be one finite number a channel, or {words}", value)


def _range(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not _numeric(value) or len(value) != 2 or not value[0] < value[1]:
        raise options.rejected(field.name, "be (low, high), two finite numbers with low below high", value)


@attrs.frozen(kw_only=True)
class ImageSpec:
    """The form of the images that a network sees.

    Attributes:
        size: Side in pixels, or (height, width).
        channels: 1 (grey) or 3 (colour).
        fit: How an image of another shape comes to `size`: `stretch` changes its
            proportions, `letterbox` pads it, `crop` cuts its centre.
        fill: What `letterbox` pads with: `constant` (black) or `replicate` (the pixels of the edge).
        interpolation: `nearest`, `box`, `bilinear`, `bicubic` or `lanczos`; all but
            `nearest` with antialiasing when shrinking.
        bits: What decoded pixels are kept in: 8 (uint8, 0 to 255) or 16 (uint16, 0 to 65535).
        range: (low, high): for images deeper than 8 bits the values that become 0 and the
            highest level; values outside are clipped. Images of 8 bits are always 0 to 255.
        mean: Mean of each channel in units of 0 to 1; `imagenet`; `dataset` (measured on the
            training records); None takes the backbone's.
        std: Standard deviation of each channel in the same units, or the same word, or None.

    Examples:
        >>> ImageSpec(size=64, channels=1).size
        (64, 64)
        >>> ImageSpec(bits=16, range=(-1000, 400)).levels
        65535
    """

    size: tuple[int, int] = attrs.field(default=(224, 224), converter=_size, validator=_pair)
    channels: int = attrs.field(default=3, validator=options.instance(int))
    fit: str = attrs.field(default="stretch", validator=options.choice(*FITS))
    fill: str = attrs.field(default="constant", validator=options.choice(*FILLS))
    interpolation: str = attrs.field(default="bilinear", validator=options.choice(*INTERPOLATIONS))
    bits: int = attrs.field(default=8, validator=options.instance(int))
    range: tuple[float, float] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_floats), validator=options.optional(_range)
    )
    mean: tuple[float, ...] | str | None = attrs.field(
        default=None, converter=attrs.converters.optional(_floats), validator=options.optional(_numbers)
    )
    std: tuple[float, ...] | str | None = attrs.field(
        default=None, converter=attrs.converters.optional(_floats), validator=options.optional(_numbers)
    )

    def __attrs_post_init__(self) -> None:
        if self.channels not in {1, 3}:
            raise options.rejected("channels", "be 1 or 3", self.channels)
        if self.bits not in {8, 16}:
            raise options.rejected("bits", "be 8 or 16", self.bits)
        if self.fill == "replicate" and self.fit != "letterbox":
            raise ConfigError(f"'fill' has no effect with fit={self.fit!r}, got 'replicate'; set fit='letterbox'")
        self._check_statistics()

    def _check_statistics(self) -> None:
        if (self.mean is None) != (self.std is None):
            raise ConfigError("'mean' and 'std' must be given together")
        if (isinstance(self.mean, str) or isinstance(self.std, str)) and self.mean != self.std:
            raise options.rejected("std", f"be numbers as 'mean' is, or the same word as its {self.mean!r}", self.std)
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and len(value) != self.channels:
                raise options.rejected(name, f"have {self.channels} numbers, one a channel", value)
        if isinstance(self.std, tuple) and min(self.std) <= 0:
            raise options.rejected("std", "be above 0", self.std)
        for name, value in (("mean", self.mean), ("std", self.std)):
            if isinstance(value, tuple) and max(map(abs, value)) > 1:
                raise options.rejected(name, "be in units of 0 to 1", value, "divide it by 255")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of decoded pixels: uint8 or uint16."""
        return np.dtype(np.uint8 if self.bits == 8 else np.uint16)

    @property
    def levels(self) -> int:
        """The highest level of decoded pixels: 255 or 65535."""
        return 2**self.bits - 1

    @property
    def statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Mean and standard deviation in numbers, one a channel; None where backbone or data set decide."""
        if self.mean == "imagenet":
            mean, std = _IMAGENET
            return (mean, std) if self.channels == 3 else ((sum(mean) / 3,), (sum(std) / 3,))
        return (self.mean, self.std) if isinstance(self.mean, tuple) and isinstance(self.std, tuple) else None

    @property
    def pixels(self) -> dict[str, Any]:
        """What decides the decoded pixels; normalisation comes later and is not part of it."""
        return {
            "size": list(self.size),
            "channels": self.channels,
            "fit": self.fit,
            "fill": self.fill,
            "interpolation": self.interpolation,
            "bits": self.bits,
            "range": None if self.range is None else list(self.range),
        }
