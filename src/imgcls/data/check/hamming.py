"""All pairs of 64-bit hashes that differ in few bits, found exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["close_pairs"]

#: Rows and columns of one step: its 4 MB stay in the processor's cache.
_ROWS, _COLUMNS = 128, 4096


def close_pairs(
    hashes: NDArray[np.uint64], others: NDArray[np.uint64], radius: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Compare every hash with every later one.

    Nothing is left out and memory stays at a few megabytes. A pair takes about a nanosecond, so
    that 100 000 hashes take some seconds on one core.

    Args:
        hashes: Hashes (N,).
        others: What they are compared with, (N,): the same hashes, or those of mirrored images.
        radius: The most bits in which a pair may differ, 0 to 64.

    Yields:
        Positions i < j of pairs, as two arrays, such that `hashes[i]` and `others[j]` are close.
    """
    for top in range(0, len(hashes), _ROWS):
        for left in range(top, len(hashes), _COLUMNS):
            i, j = _close(hashes[top : top + _ROWS], others[left : left + _COLUMNS], radius)
            i, j = i + top, j + left
            later = i < j
            if later.any():
                yield i[later], j[later]


def _close(
    rows: NDArray[np.uint64], columns: NDArray[np.uint64], radius: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    # Of the flat array: finding in two dimensions is several times slower.
    found = np.flatnonzero(np.bitwise_count(rows[:, None] ^ columns) <= radius)
    i, j = np.divmod(found, len(columns))
    return i, j
