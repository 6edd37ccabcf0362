"""Which groups a resample draws, since images of one group are not independent.

As many groups as there are get drawn with replacement, each with all its records (Field and Welsh 2007).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from imgcls.core.randomness import generator
from imgcls.evaluation.arrays import Floats, Ints, Texts

__all__ = ["drawn", "left_out", "units"]

#: Sets of groups that are left out in turn; more make the acceleration of BCa no steadier than resampling is.
_PARTS = 200


def units(groups: Texts | None, num_records: int) -> Ints:
    """Number what is drawn together.

    Args:
        groups: (N,) the group of each record, or None, where each record is its own.
        num_records: N.

    Returns:
        (N,) numbers from 0 to the number of groups - 1.
    """
    if groups is None:
        return np.arange(num_records)
    return np.unique(groups, return_inverse=True)[1]


def drawn(num_groups: int, *, resamples: int, seed: int, rows: int) -> Iterator[Floats]:
    """Draw groups with replacement.

    Args:
        num_groups: G.
        resamples: How often to draw.
        seed: Of the draws; they do not depend on the size of the blocks.
        rows: The most resamples in a block.

    Yields:
        Blocks of (B, G): how often each group was drawn.
    """
    rng = generator(seed, "bootstrap")
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        places = rng.integers(num_groups, size=(count, num_groups)) + num_groups * np.arange(count)[:, None]
        times = np.bincount(places.ravel(), minlength=count * num_groups)
        yield times.reshape(count, num_groups).astype(np.float64)


def left_out(num_groups: int, *, seed: int, rows: int) -> Iterator[Floats]:
    """Leave groups out in turn: the jackknife, of sets of groups where there are very many.

    Args:
        num_groups: G.
        seed: Which groups are left out together.
        rows: The most sets in a block.

    Yields:
        Blocks of (B, G) of 0 and 1.
    """
    parts = min(num_groups, _PARTS)
    part = generator(seed, "jackknife").permutation(num_groups) % parts
    for start in range(0, parts, rows):
        yield (part != np.arange(start, min(start + rows, parts))[:, None]).astype(np.float64)
