"""Intervals by resampling whole groups, since images of one group are not independent.

Percentile bootstrap (Efron and Tibshirani 1993, chapter 13) of clusters (Field and Welsh
2007): as many groups as there are get drawn with replacement, each with all its records.
Resamples that all agree say nothing about chance; there a share of records has the score
interval of Wilson (1927), with groups for trials, and any other value has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import NormalDist

import numpy as np

from imgcls.core.randomness import generator
from imgcls.evaluation.arrays import Bools, Floats, Ints, Texts

__all__ = ["Statistic", "interval", "percentiles", "resampled", "units", "weights", "wilson"]

#: From weights (B, N) to M values of each resample, (B, M).
Statistic = Callable[[Floats], Floats]

#: Numbers in one block of weights: 2 MiB, small enough for the cache of a core; of large sets
#: at least this many rows, to share the cost of reading the records.
_BLOCK, _ROWS = 2**18, 4

#: More NaN resamples than this, and the rest no longer stands for the whole.
_MISSING = 0.05

#: Ends that are no further apart are equal but for rounding.
_EQUAL = 1e-12


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


def wilson(shares: Floats, sizes: Ints, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Compute the score interval of shares (Wilson 1927), which has a width even where all or none count.

    Args:
        shares: (M,) from 0 to 1.
        sizes: (M,) of how many each is a share; 0 gives NaN.
        level: The share of studies whose interval is to hold the truth.

    Returns:
        The low and the high ends, two of (M,).

    Examples:
        >>> low, high = wilson(np.array([1.0]), np.array([24]))
        >>> low.round(3).item(), high.item()
        (0.862, 1.0)
    """
    square = NormalDist().inv_cdf((1 + level) / 2) ** 2
    many = np.where(sizes > 0, sizes, np.nan)
    middle = shares + square / (2 * many)
    half = np.sqrt(square * (shares * (1 - shares) + square / (4 * many)) / many)
    whole = 1 + square / many
    return np.clip((middle - half) / whole, 0, shares), np.clip((middle + half) / whole, shares, 1)


def interval(
    statistic: Statistic,
    *,
    num_records: int,
    groups: Texts | None = None,
    counted: Bools | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Floats, Floats]:
    """Compute 95 % intervals of statistics.

    With fewer than two groups nothing is known about how groups differ, so there is no
    interval; it is NaN. Where the percentiles of the resamples coincide, as they do when every
    record is right, an interval of no width would promise certainty: a share of records then
    has the interval of Wilson (1927), with the number of groups that hold the records of its
    denominator for the number of trials, and any other value has none.

    Args:
        statistic: From weights (B, N) to (B, M).
        num_records: N.
        groups: (N,) the group of each record, or None, where each record is its own.
        counted: (N, M) the records that each value is a share of; none of them, or None, for
            values that are no shares.
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
    owners, values = units(groups, num_records), statistic(np.ones((1, num_records)))[0]
    if owners.max() < 1 or not resamples:
        return np.full(len(values), np.nan), np.full(len(values), np.nan)
    low, high = percentiles(resampled(statistic, owners, resamples=resamples, seed=seed))
    flat = np.flatnonzero(high - low <= _EQUAL)
    low[flat], high[flat] = wilson(values[flat], _sizes(owners, counted, flat))
    return low, high


def _sizes(owners: Ints, counted: Bools | None, columns: Ints) -> Ints:
    if counted is None:
        return np.zeros(len(columns), dtype=np.int64)
    return np.array([len(np.unique(owners[counted[:, column]])) for column in columns], dtype=np.int64)
