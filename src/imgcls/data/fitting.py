"""The geometry that brings images and their masks to the size of a spec."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.data.spec import ImageSpec

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Placement", "padded", "placement", "resized", "resized_by_rows"]

#: Values that are held as floats at a time while a deep image is resized.
_STRIP = 2**20

Box = tuple[float, float, float, float]


@attrs.frozen(kw_only=True)
class Placement:
    """Which part of an image goes where.

    Attributes:
        box: Left, top, right and bottom of the part that is used, in pixels of the image.
        size: Width and height that this part is resized to.
        offset: Columns and rows before it in the result; what remains is padding.
        interpolation: As in the spec.
    """

    box: Box
    size: tuple[int, int]
    offset: tuple[int, int]
    interpolation: str


def placement(width: int, height: int, spec: ImageSpec) -> Placement:
    """Place an image, with the formulas of Pillow's `ImageOps.pad` and `ImageOps.fit`.

    Args:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
        spec: The form.

    Returns:
        The placement.
    """
    wide, high = spec.size[1], spec.size[0]
    size = _contained(width, height, wide, high) if spec.fit == "letterbox" else (wide, high)
    box = _cropped(width, height, wide / high) if spec.fit == "crop" else (0, 0, width, height)
    offset = round((wide - size[0]) * 0.5), round((high - size[1]) * 0.5)
    return Placement(box=box, size=size, offset=offset, interpolation=spec.interpolation)


def _contained(width: int, height: int, wide: int, high: int) -> tuple[int, int]:
    if width / height > wide / high:
        return wide, max(1, round(height / width * wide))
    return max(1, round(width / height * high)), high


def _cropped(width: int, height: int, ratio: float) -> Box:
    if width / height == ratio:
        return 0, 0, width, height
    if width / height > ratio:
        left = (width - ratio * height) * 0.5
        return left, 0, left + ratio * height, height
    top = (height - width / ratio) * 0.5
    return 0, top, width, top + width / ratio


def resized(image: Image.Image, place: Placement, *, whole: tuple[int, int]) -> NDArray[np.uint8]:
    """Resize the part of an image that is used.

    Args:
        image: Grey or RGB.
        place: Where an image of size `whole` goes.
        whole: Width and height before the file was decoded at a smaller scale.

    Returns:
        Pixels (height, width, channels) of `place.size`.
    """
    left, top, right, bottom = place.box
    (wide, high), (width, height) = image.size, whole
    box = left * wide / width, top * high / height, right * wide / width, bottom * high / height
    pixels = np.asarray(_resize(image, place.size, place.interpolation, box))
    return pixels if pixels.ndim == 3 else pixels[..., None]


def resized_by_rows(
    rows: Callable[[slice], NDArray[np.float32]], shape: tuple[int, int, int], place: Placement
) -> NDArray[np.float32]:
    """Resize an image of floats a few rows at a time, so that it is never whole in memory.

    Pillow resizes along rows first and along columns then; so the result is that of one resize.

    Args:
        rows: Gives some rows of the image, (N, width, channels).
        shape: Height, width and channels of the image.
        place: Where it goes.

    Returns:
        Values (height, width, channels) of `place.size`.
    """
    (height, width, channels), (wide, high) = shape, place.size
    left, top, right, bottom = place.box
    step = max(1, _STRIP // (width * channels))
    strips = (rows(slice(start, start + step)) for start in range(0, height, step))
    narrow = [_resize_values(strip, (wide, len(strip)), place, (left, 0, right, len(strip))) for strip in strips]
    return _resize_values(np.concatenate(narrow), (wide, high), place, (0, top, wide, bottom))


def _resize_values(
    values: NDArray[np.float32], size: tuple[int, int], place: Placement, box: Box
) -> NDArray[np.float32]:
    from PIL import Image

    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(values, -1, 0)]
    return np.stack([np.asarray(_resize(plane, size, place.interpolation, box)) for plane in planes], axis=-1)


def _resize(image: Image.Image, size: tuple[int, int], interpolation: str, box: Box) -> Image.Image:
    from PIL import Image

    return image.resize(size, Image.Resampling[interpolation.upper()], box=box)


def padded(pixels: NDArray[Any], place: Placement, spec: ImageSpec, *, fill: str) -> NDArray[Any]:
    """Pad a resized image to the size of the spec.

    Args:
        pixels: (height, width, channels) of `place.size`.
        place: Where it goes.
        spec: The form.
        fill: As in the spec.

    Returns:
        Pixels (height, width, channels) of the size of the spec.
    """
    (x, y), (wide, high) = place.offset, place.size
    margins = (y, spec.size[0] - high - y), (x, spec.size[1] - wide - x), (0, 0)
    if not any(map(any, margins)):
        return pixels
    return np.pad(pixels, margins, mode="edge" if fill == "replicate" else "constant")
