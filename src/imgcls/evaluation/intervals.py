"""Intervals from resamples of whole groups.

Four ways to make one, of which `limits` takes the first two unless told otherwise, since their coverage was the best
in simulated studies (docs/results/coverage.json):

- shares of records: the score interval of Wilson (1927) with an effective number of records (Korn and Graubard 1998),
  which the standard error of the resamples gives, and the quantile of Student's t for the groups that count;
- other values: t times the standard error of the resamples, on the logit or log scale, so that no end leaves the range
  of the metric (Efron and Tibshirani 1993, chapter 12);
- percentiles of the resamples (ibid., chapter 13);
- BCa, percentiles corrected for bias and skewness (Efron 1987; acceleration from a jackknife of groups).

Resamples that all agree say nothing about chance; there a share has the interval of Wilson with the number of groups
for trials, and any other value has none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Literal

import attrs
import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from imgcls.evaluation.arrays import Bools, Floats, Ints, Texts
from imgcls.evaluation.resampling import drawn, units

__all__ = [
    "Method",
    "Resampled",
    "Statistic",
    "bca",
    "interval",
    "limits",
    "percentiles",
    "resampled",
    "standard",
    "standard_errors",
    "units",
    "weights",
    "wilson",
]

#: From weights (B, N) to M values of each resample, (B, M).
Statistic = Callable[[Floats], Floats]

Method = Literal["t", "percentile", "bca"]

#: Numbers in one block of weights: 2 MiB, small enough for the cache of a core; of large sets
#: at least this many rows, to share the cost of reading the records.
_BLOCK, _ROWS = 2**18, 4

#: More NaN resamples than this, and the rest no longer stands for the whole.
_MISSING = 0.05

#: Ends that are no further apart are equal but for rounding.
_EQUAL = 1e-12


def weights(owners: Ints, *, resamples: int, seed: int) -> Iterator[Floats]:
    """Draw groups with replacement, and give each record the number of its group.

    Args:
        owners: (N,) the number of each record's group.
        resamples: How often to draw.
        seed: Of the draws; they do not depend on the size of the blocks.

    Yields:
        Blocks of (B, N): how often each record's group was drawn.
    """
    rows = max(_ROWS, _BLOCK // len(owners))
    for times in drawn(int(owners.max()) + 1, resamples=resamples, seed=seed, rows=rows):
        yield np.take(times, owners, axis=1)


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


def _known(values: Floats) -> Bools:
    return np.isnan(values).mean(axis=0) <= _MISSING


def percentiles(values: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Cut the tails off resampled values.

    Args:
        values: (B, M), NaN where a resample lacked a class.
        level: The share that the interval holds.

    Returns:
        The low and the high ends, two of (M,); NaN where over 5 % of the values are.
    """
    ends = np.full((2, values.shape[1]), np.nan)
    good = _known(values)
    tail = (1 - level) / 2
    if good.any():
        ends[:, good] = np.nanquantile(values[:, good], [tail, 1 - tail], axis=0)
    return ends[0], ends[1]


def bca(values: Floats, drawn_values: Floats, left: Floats, *, level: float = 0.95) -> tuple[Floats, Floats]:
    """Cut tails that are corrected for bias and skewness (Efron 1987, sections 2 to 6).

    Args:
        values: (M,) of all records.
        drawn_values: (B, M) of resamples, NaN where one lacked a class.
        left: (J, M) with one group, or one set of groups, left out in turn.
        level: The share of studies whose interval is to hold the truth.

    Returns:
        The low and the high ends, two of (M,); NaN where over 5 % of the resamples are.
    """
    ends = np.full((2, len(values)), np.nan)
    tails = ndtri([(1 - level) / 2, (1 + level) / 2])
    for at in np.flatnonzero(_known(drawn_values) & ~np.isnan(values)):
        own = drawn_values[~np.isnan(drawn_values[:, at]), at]
        below = (np.mean(own < values[at] - _EQUAL) + np.mean(own <= values[at] + _EQUAL)) / 2
        bias = ndtri(np.clip(below, 1 / len(own), 1 - 1 / len(own)))
        moved = bias + tails
        ends[:, at] = np.quantile(own, ndtr(bias + moved / (1 - _acceleration(left[:, at]) * moved)))
    return ends[0], ends[1]


def _acceleration(left: Floats) -> float:
    gaps = np.nanmean(left) - left[~np.isnan(left)]
    spread = float((gaps**2).sum())
    return float((gaps**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0


def _quantiles(groups: Ints | None, level: float) -> Floats:
    if groups is None:
        return np.array(NormalDist().inv_cdf((1 + level) / 2))
    return np.asarray(stdtrit(np.maximum(groups - 1.0, 1.0), (1 + level) / 2))


def wilson(
    shares: Floats, sizes: Ints | Floats, *, groups: Ints | None = None, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Compute the score interval of shares (Wilson 1927), which has a width even where all or none count.

    Args:
        shares: (M,) from 0 to 1.
        sizes: (M,) of how many each is a share; 0 gives NaN.
        groups: (M,) how many groups tell how much shares vary: the quantile is that of Student's t, with one degree
            of freedom less. None takes the normal one.
        level: The share of studies whose interval is to hold the truth.

    Returns:
        The low and the high ends, two of (M,).

    Examples:
        >>> low, high = wilson(np.array([1.0]), np.array([24]))
        >>> low.round(3).item(), high.item()
        (0.862, 1.0)
    """
    square = _quantiles(groups, level) ** 2
    many = np.where(sizes > 0, sizes, np.nan)
    middle = shares + square / (2 * many)
    half = np.sqrt(square * (shares * (1 - shares) + square / (4 * many)) / many)
    whole = 1 + square / many
    return np.clip((middle - half) / whole, 0, shares), np.clip((middle + half) / whole, shares, 1)


def standard(values: Floats, errors: Floats, groups: Ints, spans: Floats) -> tuple[Floats, Floats]:
    """Compute 95 % intervals from standard errors, on a scale that has no ends.

    Args:
        values: (M,).
        errors: (M,) their standard errors.
        groups: (M,) how many groups tell the errors: the quantile is that of Student's t, one degree of freedom less.
        spans: (M, 2) the least and the greatest value possible: the scale is the logit between them, the logarithm
            where there is no greatest.

    Returns:
        The low and the high ends, two of (M,); NaN for values at an end.

    Examples:
        >>> low, high = standard(np.array([0.9]), np.array([0.03]), np.array([40]), np.array([[0.0, 1.0]]))
        >>> low.round(3).item(), high.round(3).item()
        (0.821, 0.946)
    """
    least, width = spans[:, 0], spans[:, 1] - spans[:, 0]
    bounded = np.isfinite(width)
    width = np.where(bounded, width, 1)
    inside = (values - least) / width
    # With few groups the factor may be infinite: then the ends are those of the range.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        odds = np.where(bounded, inside / (1 - inside), inside)
        slope = np.where(bounded, inside * (1 - inside), inside) * width
        factor = np.exp(_quantiles(groups, 0.95) * errors / slope)
        ends = [odds / factor, odds * factor]
        low, high = (least + width * np.where(bounded, 1 / (1 + 1 / end), end) for end in ends)
    good = np.isfinite(low) & np.isfinite(high)
    return np.where(good, low, np.nan), np.where(good, high, np.nan)


def standard_errors(found: Floats, groups: Ints) -> Floats:
    """Compute how much values differ between studies from how much they differ between resamples.

    Args:
        found: (B, M) of resamples, NaN where one lacked a class.
        groups: (M,) how many groups tell it. They are drawn from those at hand, so the spread of resamples is too small
            by (n - 1) / n, which is made up for.

    Returns:
        (M,) standard errors.
    """
    count, known = np.maximum(groups, 2), ~np.isnan(found)
    many = np.maximum(known.sum(axis=0), 2)
    middle = np.where(known, found, 0).sum(axis=0) / many
    squares = np.where(known, (found - middle) ** 2, 0).sum(axis=0)
    return np.sqrt(squares / (many - 1) * count / (count - 1))


@attrs.frozen(kw_only=True, eq=False)
class Resampled:
    """M values and what resamples say of them.

    Attributes:
        values: (M,) of all records.
        drawn: (B, M) of the resamples.
        left: (J, M) with groups left out in turn, for BCa; None for the other methods.
        shares: (M,) whether they are shares of records.
        records: (M,) how many records each counts.
        groups: (M,) how many groups: those of the denominator of a share, and of the rarest class for others.
        spans: (M, 2) the least and the greatest value possible.
    """

    values: Floats
    drawn: Floats
    left: Floats | None = None
    shares: Bools
    records: Ints
    groups: Ints
    spans: Floats

    @functools.cached_property
    def errors(self) -> Floats:
        """(M,) standard errors, as `standard_errors` gives them."""
        return standard_errors(self.drawn, self.groups)

    @property
    def flat(self) -> Bools:
        """(M,) whether all resamples agree."""
        return self.errors <= _EQUAL


def limits(found: Resampled, method: Method = "t") -> tuple[Floats, Floats, list[str]]:
    """Compute 95 % intervals.

    Args:
        found: M values and their resamples.
        method: "t" takes Wilson's for shares of records and Student's t on the logit or log scale for others;
            "percentile" or "bca" those for all.

    Returns:
        The low and the high ends, two of (M,), NaN for none; and of each how it was made: "wilson", "t", "percentile",
        "bca", or "" for none.
    """
    flat = found.flat
    low, high = _ends(found, method)
    score = found.shares & (flat | (method == "t")) & (found.groups > 1)
    none = ~score & (flat | ~_known(found.drawn) | np.isnan(found.values) | (found.groups < 2))
    low[none] = high[none] = np.nan
    low[score], high[score] = _scored(found, flat, score)
    return low, high, np.where(np.isnan(low), "", np.where(score, "wilson", method)).tolist()


def _ends(found: Resampled, method: Method) -> tuple[Floats, Floats]:
    if method == "percentile":
        return percentiles(found.drawn)
    if method == "bca":
        assert found.left is not None, "BCa needs values with groups left out"
        return bca(found.values, found.drawn, found.left)
    return standard(found.values, found.errors, found.groups, found.spans)


# As many records as would give the standard error if they were independent, at most those there are. Where resamples
# all agree, no standard error was estimated: groups are the trials, with the quantile of the normal distribution.
def _scored(found: Resampled, flat: Bools, chosen: Bools) -> tuple[Floats, Floats]:
    values, groups, flat = found.values[chosen], found.groups[chosen], flat[chosen]
    errors = np.where(flat, 1, found.errors[chosen])
    sizes = np.clip(values * (1 - values) / errors**2, 1, found.records[chosen])
    plain, studied = wilson(values, groups), wilson(values, sizes, groups=groups)
    return np.where(flat, plain[0], studied[0]), np.where(flat, plain[1], studied[1])


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

    Shares of records have that of Wilson with an effective number of records, other values the percentiles of the
    resamples. With fewer than two groups nothing is known about how groups differ, so there is no interval; it is NaN.
    Where all resamples agree, an interval of no width would promise certainty: a share then has the interval of Wilson
    for the number of groups that hold the records of its denominator, and any other value has none.

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
    counted = np.zeros((num_records, len(values)), dtype=np.bool_) if counted is None else counted
    shares = np.asarray(counted.any(axis=0))
    sizes = [
        len(np.unique(owners[column])) if share else owners.max() + 1
        for column, share in zip(counted.T, shares, strict=True)
    ]
    found = Resampled(
        values=values,
        drawn=resampled(statistic, owners, resamples=resamples, seed=seed),
        shares=shares,
        records=counted.sum(axis=0),
        groups=np.array(sizes, dtype=np.int64),
        spans=np.tile([0.0, 1.0], (len(values), 1)),
    )
    plain, scored = limits(found, "percentile"), limits(found)
    return np.where(shares, scored[0], plain[0]), np.where(shares, scored[1], plain[1])
