"""What every image is turned into before a network sees it."""

from __future__ import annotations

import math
from typing import Any

import attrs

from imgcls.core import options
from imgcls.core.errors import ConfigError

__all__ = ["ImageSpec"]

FITS = ("stretch", "letterbox", "crop")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


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
    if not _numeric(value):
        raise options.rejected(field.name, "be one finite number a channel", value)


@attrs.frozen(kw_only=True)
class ImageSpec:
    """The form of the images that a network sees.

    Attributes:
        size: Side in pixels, or (height, width).
        channels: 1 (grey) or 3 (colour).
        fit: How an image of another shape comes to `size`: `stretch` changes its
            proportions, `letterbox` pads it with black, `crop` cuts its centre.
        interpolation: `nearest`, `bilinear` or `bicubic`, with antialiasing when shrinking.
        mean: Mean of each channel in units of 0 to 1; None takes the backbone's.
        std: Standard deviation of each channel in the same units; None takes the backbone's.

    Examples:
        >>> ImageSpec(size=64, channels=1).size
        (64, 64)
    """

    size: tuple[int, int] = attrs.field(default=(224, 224), converter=_size, validator=_pair)
    channels: int = attrs.field(default=3, validator=options.instance(int))
    fit: str = attrs.field(default="stretch", validator=options.choice(*FITS))
    interpolation: str = attrs.field(default="bilinear", validator=options.choice(*INTERPOLATIONS))
    mean: tuple[float, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_floats), validator=options.optional(_numbers)
    )
    std: tuple[float, ...] | None = attrs.field(
        default=None, converter=attrs.converters.optional(_floats), validator=options.optional(_numbers)
    )

    def __attrs_post_init__(self) -> None:
        if self.channels not in {1, 3}:
            raise options.rejected("channels", "be 1 or 3", self.channels)
        if (self.mean is None) != (self.std is None):
            raise ConfigError("'mean' and 'std' must be given together")
        for name, value in (("mean", self.mean), ("std", self.std)):
            if value is not None and len(value) != self.channels:
                raise options.rejected(name, f"have {self.channels} numbers, one a channel", value)
        if self.std is not None and min(self.std) <= 0:
            raise options.rejected("std", "be above 0", self.std)

    @property
    def pixels(self) -> dict[str, Any]:
        """What decides the decoded pixels; normalisation comes later and is not part of it."""
        return {
            "size": list(self.size),
            "channels": self.channels,
            "fit": self.fit,
            "interpolation": self.interpolation,
        }
