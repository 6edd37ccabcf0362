"""Where the objects are: masks that go with images, through the same geometry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import DecodeError
from imgcls.data import images, voc
from imgcls.data.fitting import padded, placement, resized
from imgcls.data.headers import Header, named, upright
from imgcls.data.spec import ImageSpec

__all__ = ["fit_mask", "read_mask"]


def read_mask(path: Path, *, threshold: float, header: Header) -> NDArray[np.bool_]:
    """Read the mask of an image.

    Args:
        path: An image of any form, or the boxes of a Pascal VOC annotation (`.xml`).
        threshold: Pixels whose value is above it, in any channel, are inside; boxes need none.
        header: Of the image that the mask belongs to.

    Returns:
        (height, width) of the image, upright; empty masks are allowed.

    Raises:
        DecodeError: if the file cannot be read, or fits the image neither as that is shown nor
            as it is stored, before its EXIF orientation.
    """
    with named(f"mask {str(path)!r}"):
        if path.suffix.lower() == ".xml":
            root = voc.annotation(path)
            width, height = voc.size(root) or (header.width, header.height)
            turned = _is_turned(width, height, header)
            return _stood(voc.inside(root, width, height), header, turned=turned)
        mask = np.any(images.pixels(path) > threshold, axis=-1)
        return _stood(mask, header, turned=_is_turned(mask.shape[1], mask.shape[0], header))


def _is_turned(width: int, height: int, header: Header) -> bool:
    shown, stored = (header.width, header.height), (header.raw_width, header.raw_height)
    if (width, height) not in {shown, stored}:
        rule = f"have the size of its image, {shown[0]} x {shown[1]}"
        other = f" or, as stored, {stored[0]} x {stored[1]}" if stored != shown else ""
        raise DecodeError(f"must {rule}{other}, got {width} x {height}; make it from that image")
    return (width, height) != shown


def _stood(mask: NDArray[np.bool_], header: Header, *, turned: bool) -> NDArray[np.bool_]:
    return upright(mask, header.orientation) if turned else mask


def fit_mask(mask: NDArray[np.bool_], spec: ImageSpec) -> NDArray[np.uint8]:
    """Bring a mask to the size of a spec, as its image is.

    Args:
        mask: (height, width), upright.
        spec: The form of the images.

    Returns:
        How much of each pixel lies inside, (height, width) from 0 to 255; the padding of
        `letterbox` lies outside.
    """
    from PIL import Image

    whole = mask.shape[1], mask.shape[0]
    place = placement(*whole, spec)
    found = resized(Image.fromarray(mask.astype(np.uint8) * np.uint8(255)), place, whole=whole)
    return padded(found, place, spec, fill="constant")[..., 0]
