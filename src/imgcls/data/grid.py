"""Where the tiles of an image lie, how they are cut out and how their values are put back."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgcls.core.errors import DataError

__all__ = ["Fill", "along", "cut", "inside", "lattice", "merge"]

#: What lies around an image that is smaller than its tile: black, or its border again.
Fill = Literal["constant", "replicate"]


def lattice(shape: tuple[int, int], size: tuple[int, int], *, overlap: int = 0) -> NDArray[np.int64]:
    """Lay tiles over an image so that every pixel is in one.

    The stride is the size less the overlap; the last column and row are moved back to end
    at the border, where they overlap their neighbours more.

    Args:
        shape: Height and width of the image in pixels.
        size: Height and width of a tile.
        overlap: Pixels that neighbours share, below both sides of a tile.

    Returns:
        Left and top of each tile in pixels (M, 2), row by row; negative where the image is
        smaller than a tile, which then has it in its centre.

    Examples:
        >>> lattice((4, 10), (4, 4), overlap=1).tolist()
        [[0, 0], [3, 0], [6, 0]]
        >>> lattice((2, 4), (4, 4)).tolist()
        [[0, -1]]
    """
    tops, lefts = (_starts(length, side, side - overlap) for length, side in zip(shape, size, strict=True))
    return np.stack(np.meshgrid(lefts, tops), axis=-1).reshape(-1, 2)


def _starts(length: int, side: int, stride: int) -> NDArray[np.int64]:
    if length <= side:
        return _centred(np.array([length]), np.array([side]))
    number = -(-(length - side) // stride) + 1
    return np.minimum(np.arange(number) * stride, length - side)


def _centred(lengths: NDArray[np.int64], sides: NDArray[np.int64]) -> NDArray[np.int64]:
    return -((sides - lengths) // 2)


def along(mask: NDArray[np.bool_], size: tuple[int, int], *, step: int) -> NDArray[np.int64]:
    """Centre tiles on the outlines of what a mask marks.

    Args:
        mask: Which pixels are marked (H, W).
        size: Height and width of a tile in pixels.
        step: Pixels from one centre to the next along an outline.

    Returns:
        Left and top of each tile in pixels (M, 2), each once; tiles are moved into the image.
    """
    import cv2

    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return np.empty((0, 2), dtype=np.int64)
    centres = np.concatenate([outline[::step, 0] for outline in outlines]).astype(np.int64)
    lengths, sides = np.array(mask.shape[::-1]), np.array(size[::-1])
    low = np.minimum(_centred(lengths, sides), 0)
    return np.unique(np.clip(centres - sides // 2, low, np.maximum(lengths - sides, low)), axis=0)


def inside(image: NDArray[Any], x: int, y: int, size: tuple[int, int]) -> NDArray[Any]:
    """Take the pixels of a tile that lie in the image.

    Args:
        image: Pixels (H, W) or (H, W, channels).
        x: The column of the tile's left edge, which may be negative.
        y: The row of its upper edge.
        size: Height and width of the tile.

    Returns:
        A view of the image, at most of the tile's size.
    """
    return image[max(y, 0) : y + size[0], max(x, 0) : x + size[1]]


def cut(image: NDArray[Any], x: int, y: int, size: tuple[int, int], *, fill: Fill = "constant") -> NDArray[Any]:
    """Cut a tile out of an image.

    Args:
        image: Pixels (H, W) or (H, W, channels).
        x: The column of the tile's left edge, negative where the image is smaller.
        y: The row of its upper edge.
        size: Height and width of the tile.
        fill: What lies outside of the image: 0, or its border again.

    Returns:
        Pixels (height, width) or (height, width, channels).
    """
    part = inside(image, x, y, size)
    starts = [max(-y, 0), max(-x, 0)]
    widths = [(start, side - start - length) for start, side, length in zip(starts, size, part.shape, strict=False)]
    widths += [(0, 0)] * (image.ndim - 2)
    return np.pad(part, widths, mode="edge") if fill == "replicate" else np.pad(part, widths)


def merge(
    values: ArrayLike, *, positions: ArrayLike, shape: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Put values of tiles back into the place of their image, as a map of it.

    Args:
        values: A number for each tile (M,), such as a probability, or a map (M, height, width).
        positions: Left and top of each tile in the image (M, 2): columns `x` and `y` of the set.
        shape: Height and width of the image in pixels.
        size: Height and width of a tile.

    Returns:
        The map (H, W): the mean over the tiles that cover a pixel, NaN where none does.

    Raises:
        DataError: if the shapes do not fit.

    Examples:
        >>> merge([0.0, 1.0], positions=[[0, 0], [1, 0]], shape=(1, 4), size=(1, 2)).tolist()
        [[0.0, 0.5, 1.0, nan]]
    """
    found, places = np.atleast_1d(np.asarray(values, dtype=np.float64)), np.asarray(positions)
    if found.shape not in {(len(found),), (len(found), *size)} or places.shape != (len(found), 2):
        wanted = f"(M,) or (M, {size[0]}, {size[1]}) with 'positions' (M, 2)"
        raise DataError(f"'values' must have shape {wanted}, got {found.shape} with {places.shape}")
    total, times = np.zeros(shape), np.zeros(shape)
    for (x, y), value in zip(places.tolist(), found, strict=True):
        inside(total, x, y, size)[...] += inside(np.broadcast_to(value, size), -x, -y, shape)
        inside(times, x, y, size)[...] += 1
    return np.divide(total, times, out=np.full(shape, np.nan), where=times > 0)
