"""Parts of images on which no sound decision rests: the border, constant margins, what looks like text."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from imgcls.core.options import rejected
from imgcls.evaluation.arrays import Bools

__all__ = ["border", "margins", "text_like"]

#: Widths and sizes as shares of the image: the band along the edge; the pieces of text, at least and at most.
_BAND, _SMALLEST, _LARGEST = 0.1, 1e-4, 0.02

#: Levels that a constant row may span, which lossy files need, and the share of all levels that a letter is from its
#: ground, and from black or white.
_SPAN, _CONTRAST, _EXTREME = 4, 0.4, 0.03


def border(size: tuple[int, int], *, width: float = _BAND) -> Bools:
    """Mark the band along the edge of an image.

    Args:
        size: Height and width.
        width: Its width as a share of each side, above 0 and below a half.

    Returns:
        (H, W).

    Raises:
        ConfigError: if `width` is out of range.
    """
    if not 0 < width < 0.5:
        raise rejected("width", "be a share above 0 and below 0.5", width)
    rows, columns = (max(1, round(width * side)) for side in size)
    found = np.ones(size, dtype=np.bool_)
    found[rows : size[0] - rows, columns : size[1] - columns] = False
    return found


def margins(images: npt.NDArray[np.unsignedinteger[Any]]) -> Bools:
    """Mark rows and columns of one colour along the edges, such as padding or the frame of a device.

    Args:
        images: (N, H, W, C) pixels.

    Returns:
        (N, H, W); an image of one colour has no margins.
    """
    span = _SPAN * _levels(images) // 255
    found = np.zeros(images.shape[:3], dtype=np.bool_)
    for at, image in enumerate(images):
        inner = _inner(image, span)
        found[at] = image[inner].size > 0
        found[at, *inner] = False
    return found


# What is left when constant rows and columns are taken away from all sides, until none is left.
def _inner(image: npt.NDArray[Any], span: int) -> tuple[slice, slice]:
    ends = [(0, image.shape[0]), (0, image.shape[1])]
    for _ in range(4):  # the margins of one side may end at those of another
        for axis in (0, 1):
            part = np.moveaxis(image[slice(*ends[0]), slice(*ends[1])], axis, 0)
            flat = (part.max(axis=1, initial=0) - part.min(axis=1, initial=part.max(initial=0))).max(axis=-1) <= span
            before, after = (int(np.logical_and.accumulate(side).sum()) for side in (flat, flat[::-1]))
            low, high = ends[axis]
            ends[axis] = (low + before, max(low + before, high - after))
    return slice(*ends[0]), slice(*ends[1])


def text_like(images: npt.NDArray[np.unsignedinteger[Any]]) -> Bools:
    """Mark what looks like text or signs put over an image.

    These are small pieces, nearly white or nearly black, that differ sharply from what is around
    them. Bright small things in the picture itself look so too; the mark says where to look.

    Args:
        images: (N, H, W, C) pixels.

    Returns:
        (N, H, W), with one pixel around each piece.
    """
    grey = images.mean(axis=-1) / _levels(images)
    marked = [_pieces(image, image >= 1 - _EXTREME) | _pieces(image, image <= _EXTREME) for image in grey]
    return np.asarray(marked, dtype=np.bool_).reshape(grey.shape)


# Connected pixels of one extreme that are few, and differ from the mean of the pixels around them.
def _pieces(image: npt.NDArray[Any], extreme: Bools) -> Bools:
    from scipy import ndimage

    labels, count = ndimage.label(extreme, structure=np.ones((3, 3)))
    if not count:
        return extreme
    numbers = np.arange(1, count + 1)
    around = np.where(extreme, 0, ndimage.maximum_filter(labels, size=5))
    ground, ink = (_means(image, where, count) for where in (around, labels))
    sizes = ndimage.sum_labels(extreme, labels, numbers) / image.size
    good = (sizes >= _SMALLEST) & (sizes <= _LARGEST) & (np.abs(ink - ground) >= _CONTRAST)
    chosen = np.concatenate([[False], good])[labels]
    return np.asarray(ndimage.binary_dilation(chosen, structure=np.ones((3, 3))), dtype=np.bool_)


# NaN, which differs from nothing, where there is no pixel.
def _means(image: npt.NDArray[Any], labels: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    sums = np.bincount(labels.ravel(), weights=image.ravel(), minlength=count + 1)[1:]
    return np.divide(sums, sizes, out=np.full(count, np.nan), where=sizes > 0)


def _levels(images: npt.NDArray[Any]) -> int:
    if images.ndim != 4 or images.dtype.kind != "u":
        raise rejected("images", "be unsigned pixels (N, H, W, C)", f"{images.shape} {images.dtype}")
    return int(np.iinfo(images.dtype).max)
