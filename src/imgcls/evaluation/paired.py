"""One model against another on the same records: differences with intervals, and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

from imgcls.evaluation.arrays import Bools, Floats, Ints
from imgcls.evaluation.evaluate import Table
from imgcls.evaluation.intervals import standard_errors
from imgcls.evaluation.resampling import drawn

__all__ = ["delong", "differences", "holm", "mcnemar"]

#: More discordant groups than this, and the test of McNemar takes the normal distribution.
_EXACT = 200

#: Numbers in one block of weights: 32 MiB.
_BLOCK = 2**22


def differences(
    first: Table, second: Table, *, resamples: int = 1000, seed: int = 0
) -> tuple[Floats, Floats, Floats, Floats]:
    """Compare every row by a paired bootstrap: both models are judged by the same groups in each resample.

    Args:
        first: The rows of one model.
        second: The same rows of the other model, of the same groups in the same order.
        resamples: How often groups are drawn.
        seed: Of the draws.

    Returns:
        Four of (M,): second minus first, the low and the high end of the 95 % interval (Student's t times the standard
        error of the resamples, degrees of freedom from the groups of the rarest class), and the two-sided p.
    """
    num_groups = first.num_groups
    values, *rest = (second.values(w) - first.values(w) for w in _blocks(num_groups, resamples, seed))
    gap, found = values[0], np.concatenate(rest)
    groups = np.maximum(first.support().groups, 2)
    known = np.isnan(found).mean(axis=0) <= 0.05
    errors = np.where(known, standard_errors(found, groups), np.nan)
    half = stdtrit(groups - 1.0, 0.975) * errors
    sure = np.divide(np.abs(gap), errors, out=np.zeros_like(gap), where=errors > 0)
    p = np.where(np.isnan(errors), np.nan, 2 * stdtr(groups - 1.0, -sure))
    return gap, gap - half, gap + half, np.where((errors <= 0) & (gap != 0), np.nan, p)


def _blocks(num_groups: int, resamples: int, seed: int) -> Sequence[Floats]:
    rows = max(1, _BLOCK // num_groups)
    return [np.ones((1, num_groups)), *drawn(num_groups, resamples=resamples, seed=seed, rows=rows)]


def delong(positive: Bools, first: Floats, second: Floats, owners: Ints | None = None) -> tuple[float, float, float]:
    """Compare two areas under the ROC curve (DeLong et al. 1988; for groups of records Obuchowski 1997).

    Args:
        positive: (N,) whether a record is.
        first: (N,) scores of one model.
        second: (N,) scores of the other.
        owners: (N,) the number of each record's group, or None, where each record is its own.

    Returns:
        Second minus first area, its standard error, and the two-sided p; NaN where there are fewer than two groups
        with, or without, the class.

    Examples:
        >>> hit = np.array([False, False, True, True])
        >>> delong(hit, np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.1, 0.3, 0.2, 0.4]))[0]
        -0.25
    """
    owners = np.arange(len(positive)) if owners is None else owners
    (upper, lower), (upper_, lower_) = (_placements(positive, scores) for scores in (first, second))
    above, below = upper_ - upper, lower_ - lower
    gap, groups = float(above.mean()) if len(above) else np.nan, int(owners.max()) + 1
    sums = [
        np.bincount(owners[part], weights=values - gap, minlength=groups)
        for part, values in ((positive, above), (~positive, below))
    ]
    many, few = len(above), len(below)
    holders = [len(np.unique(owners[part])) for part in (positive, ~positive)]
    if min(holders) < 2:
        return gap, float("nan"), float("nan")
    variance = sum(
        h / (h - 1) * (one**2).sum() / size**2 for h, one, size in zip(holders, sums, (many, few), strict=True)
    )
    variance += 2 * groups / (groups - 1) * (sums[0] * sums[1]).sum() / (many * few)
    error = float(np.sqrt(max(variance, 0)))
    return gap, error, 1.0 if gap == 0 else float(2 * ndtr(-abs(gap) / error)) if error > 0 else float("nan")


# Of each positive the share of negatives below it, of each negative that of positives above it; ties count one half.
def _placements(positive: Bools, scores: Floats) -> tuple[Floats, Floats]:
    hits, misses = np.sort(scores[positive]), np.sort(scores[~positive])
    sides: tuple[Literal["left", "right"], ...] = ("left", "right")
    below = sum(np.searchsorted(misses, scores[positive], side=side) for side in sides)
    under = sum(np.searchsorted(hits, scores[~positive], side=side) for side in sides)
    return np.asarray(below) / (2 * max(len(misses), 1)), 1 - np.asarray(under) / (2 * max(len(hits), 1))


def mcnemar(first: Bools, second: Bools, owners: Ints | None = None) -> tuple[int, int, float]:
    """Compare how often two models are right (McNemar 1947; of groups the signed sums of Obuchowski 1998).

    Up to 200 groups on which the models differ the test is exact: if the models are equally good, the difference of
    each group may as well have the other sign. Without groups that is the exact binomial test.

    Args:
        first: (N,) whether one model is right.
        second: (N,) whether the other is.
        owners: (N,) the number of each record's group, or None, where each record is its own.

    Returns:
        How many records the first alone has right, and the second alone, and the two-sided p.

    Examples:
        >>> mcnemar(np.array([True] * 6), np.array([False] * 6))
        (6, 0, 0.03125)
    """
    owners = np.arange(len(first)) if owners is None else owners
    alone = [int((one & ~other).sum()) for one, other in ((first, second), (second, first))]
    gaps = np.bincount(owners, weights=second.astype(np.float64) - first)
    steps = np.abs(gaps[gaps != 0]).astype(np.int64)
    total = abs(int(gaps.sum()))
    if not len(steps):
        return alone[0], alone[1], 1.0
    if len(steps) > _EXACT:
        return alone[0], alone[1], float(2 * ndtr(-total / np.sqrt((steps**2).sum())))
    chances = np.ones(1)  # of each sum, from the least to the greatest
    for step in steps:
        shifted = np.zeros(len(chances) + 2 * step)
        shifted[: len(chances)] += chances / 2
        shifted[2 * step :] += chances / 2
        chances = shifted
    sums = np.abs(np.arange(len(chances)) - len(chances) // 2)
    return alone[0], alone[1], float(min(chances[sums >= total].sum(), 1))


def holm(chances: Floats) -> Floats:
    """Correct p values for their number (Holm 1979).

    Args:
        chances: (M,) p values, NaN for none.

    Returns:
        (M,) corrected ones: the chance of one wrong rejection or more is at most that at which one rejects.

    Examples:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    found = np.full(len(chances), np.nan)
    order = np.argsort(chances)  # NaN last
    order = order[~np.isnan(chances[order])]
    left = len(order) - np.arange(len(order))
    found[order] = np.minimum(np.maximum.accumulate(chances[order] * left), 1)
    return found
