"""Intervals by resampling whole groups, since images of one group are not independent.

Percentile bootstrap (Efron and Tibshirani 1993, chapter 13) of clusters (Field and Welsh
2007): as many groups as there are get drawn with replacement, each with all its records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from imgcls.core.randomness import generator
from imgcls.evaluation.arrays import Floats, Ints, Texts

__all__ = ["Statistic", "interval", "percentiles", "resampled", "units", "weights"]

#: From weights (B, N) to M values of each resample, (B, M).
Statistic = Callable[[Floats], Floats]

#: Numbers in one block of weights: 2 MiB, small enough for the cache of a core; of large sets
#: at least this many rows, to share the cost of reading the records.
_BLOCK, _ROWS = 2**18, 4

#: More NaN resamples than this, and the rest no longer stands for the whole.
_MISSING = 0.05


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


def weights(owners: Ints, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Draw groups with replacement.

    Args:
        owners: (N,) the number of each record's group.
        resamples: How often to draw.
        seed: Of the draws; they do not depend on the size of the blocks.

    Yields:
        Blocks of (B, N): how often each record's group was drawn.
    """
    rng = generator(seed, "bootstrap")
    groups = int(owners.max()) + 1
    rows = max(_ROWS, _BLOCK // len(owners))
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(groups, size=(count, groups)) + groups * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)
        yield np.take(times.astype(np.float64), owners, axis=1)


def resampled(statistic: Statistic, owners: Ints, *, resamples: int, seed: int) -> Floats:
    """Compute statistics of resamples, block by block, so that memory stays small.

    Args:
        statistic: From weights (B, N) to (B, M).
        owners: (N,) the number of each record's group.
        resamples: How many.
        seed: Of the draws.

    Returns:
        (resamples, M).
    """
    return np.concatenate([statistic(block) for block in weights(owners, resamples=resamples, seed=seed)])


def percentiles(values: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Cut the tails off resampled values.

    Args:
        values: (B, M), NaN where a resample lacked a class.
        level: The share that the interval holds.

    Returns:
        The low and the high ends, two of (M,); NaN where over 5 % of the values are.
    """
    ends = np.full((2, values.shape[1]), np.nan)
    good = np.isnan(values).mean(axis=0) <= _MISSING
    tail = (1 - level) / 2
    if good.any():
        ends[:, good] = np.nanquantile(values[:, good], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def interval(
    statistic: Statistic, *, num_records: int, groups: Texts | None = None, resamples: int = 1000, seed: int = 0
) -> tuple[Floats, Floats]:
    """Compute 95 % intervals of statistics.

    With fewer than two groups nothing is known about how groups differ, so there is no
    interval; it is NaN.

    Args:
        statistic: From weights (B, N) to (B, M).
        num_records: N.
        groups: (N,) the group of each record, or None, where each record is its own.
        resamples: How often groups are drawn; 0 gives NaN.
        seed: Of the draws.

    Returns:
        The low and the high ends, two of (M,).

    Examples:
        >>> hits = np.array([1.0, 1.0, 0.0, 1.0])
        >>> low, high = interval(lambda weights: (weights @ hits / 4)[:, None], num_records=4)
        >>> low.item(), high.item()
        (0.25, 1.0)
    """
    owners = units(groups, num_records)
    if owners.max() < 1 or not resamples:
        missing = np.full(statistic(np.ones((1, num_records))).shape[1], np.nan)
        return missing, missing
    return percentiles(resampled(statistic, owners, resamples=resamples, seed=seed))
