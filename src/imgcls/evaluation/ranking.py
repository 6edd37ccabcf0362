"""Areas and the equal error rate of a ranking, for many resamples of its records at once.

Records are sorted by score once. A resample is then one cumulated sum down the ranking, read only
where positive records stand, so the cost is linear in the records and no resample is sorted again.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor

import attrs
import numpy as np

from imgcls.evaluation.arrays import Bools, Floats, Ints, ratio

__all__ = ["Ranking", "curves"]

#: Numbers that one thread works on at a time: 2 MiB of whole numbers, about the cache of a core.
_BLOCK = 2**19

#: Gaps that are no further apart are equal but for rounding.
_EQUAL = 1e-12


@attrs.frozen(eq=False)
class Ranking:
    """Records in the order of falling score.

    Attributes:
        order: (N,) positions of the records.
        hits: (N,) whether they are of the class, in that order.
        ends: (U,) where each run of equal scores ends.
    """

    order: Ints
    hits: Bools
    ends: Ints

    @classmethod
    def of(cls, scores: Floats, hits: Bools) -> Ranking:
        """Sort records.

        Args:
            scores: (N,), high for the class.
            hits: (N,) whether a record is of the class.

        Returns:
            The ranking.
        """
        order = np.argsort(-scores, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
        return cls(order, hits[order], ends)

    @functools.cached_property
    def positives(self) -> Ints:
        """(P,) where records of the class stand."""
        return np.flatnonzero(self.hits)

    @functools.cached_property
    def _runs(self) -> tuple[Ints, Ints, Ints]:
        runs = np.searchsorted(self.ends, self.positives)
        used, firsts = np.unique(runs, return_index=True)
        return used, self.ends[used], firsts

    @property
    def lasts(self) -> Ints:
        """(R,) the end of each run that holds a record of the class."""
        return self._runs[1]

    @property
    def firsts(self) -> Ints:
        """(R,) the first record of the class of each such run, as a place in `positives`."""
        return self._runs[2]

    @functools.cached_property
    def befores(self) -> Ints:
        """(R,) the last place before each such run, -1 for none."""
        used = self._runs[0]
        return np.where(used > 0, self.ends[used - 1], -1)

    @functools.cached_property
    def passed(self) -> Ints:
        """(U,) how many such runs end there or above."""
        return np.searchsorted(self.lasts, self.ends, side="right")


def curves(ranking: Ranking, weights: Floats, owners: Ints, scale: Floats | None = None) -> Floats:
    """Compute what the ROC and the precision-recall curve say in one number.

    The area under the ROC curve is the trapezoidal one: a tie of a positive and a negative counts one half (Hanley and
    McNeil 1982). Average precision sums precision times the step of recall, not interpolated. The equal error rate is
    the mean of false acceptance and false rejection at the threshold where they differ least, the highest of equals.

    Args:
        ranking: N records.
        weights: (B, G) how often each group counts.
        owners: (N,) the column of each record in `weights`.
        scale: (N,) what each record counts besides.

    Returns:
        (3, B): area under the ROC curve, average precision and equal error rate; NaN where a class is absent.
    """
    if not len(ranking.positives):
        return np.full((3, len(weights)), np.nan)
    places = owners[ranking.order]
    factors = None if scale is None else scale[ranking.order]
    if factors is None and np.array_equal(weights, np.rint(weights)) and weights.max() * len(places) < 2**31:
        weights = weights.astype(np.int32)  # whole numbers are cumulated six times as fast
    rows = max(1, _BLOCK // len(places))
    blocks = [weights[start : start + rows] for start in range(0, len(weights), rows)]
    if len(blocks) == 1:
        return _curves(ranking, weights, places, factors)
    with ThreadPoolExecutor(_cores()) as pool:  # numpy releases the lock
        found = pool.map(lambda block: _curves(ranking, block, places, factors), blocks)
        return np.concatenate(list(found), axis=1)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _curves(ranking: Ranking, weights: Floats, places: Ints, factors: Floats | None) -> Floats:
    ranked = np.take(weights, places, axis=1)
    if factors is not None:
        ranked *= factors
    steps = np.take(ranked, ranking.positives, axis=1)
    if len(ranking.firsts) < steps.shape[1]:
        steps = np.add.reduceat(steps, ranking.firsts, axis=1)
    called = np.cumsum(ranked, axis=1, out=ranked)
    true = np.cumsum(steps, axis=1, dtype=steps.dtype)
    at_end = np.take(called, ranking.lasts, axis=1)
    before = np.take(called, ranking.befores, axis=1) + steps - true
    before[:, ranking.befores < 0] = 0
    steps, false = steps.astype(np.float64), at_end - true + before
    positives = true[:, -1].astype(np.float64)
    negatives = called[:, -1] - positives
    above = np.einsum("bu,bu->b", steps, false.astype(np.float64)) / 2
    share = np.divide(true, at_end, out=np.zeros(true.shape), where=at_end > 0)
    roc = 1 - ratio(above, positives * negatives)
    precision = ratio(np.einsum("bu,bu->b", steps, share), positives)
    return np.stack([roc, precision, _equal_error(ranking, called, true, negatives)])


# Down the ranking false acceptance rises and false rejection falls, so they cross once.
def _equal_error(ranking: Ranking, called: Floats, true: Floats, negatives: Floats) -> Floats:
    rows, positives = np.arange(len(called)), true[:, -1]

    def rates(runs: Ints) -> tuple[Floats, Floats]:
        passed = ranking.passed[runs]
        hits = np.where((runs >= 0) & (passed > 0), true[rows, passed - 1], 0)
        calls = np.where(runs >= 0, called[rows, ranking.ends[runs]], 0)
        return ratio((calls - hits) * 1.0, negatives), 1 - ratio(hits * 1.0, positives)

    low, high = np.full(len(rows), -1), np.full(len(rows), len(ranking.ends) - 1)
    while (low + 1 < high).any():
        middle = (low + high) // 2
        accepted, rejected = rates(middle)
        crossed = accepted >= rejected
        low, high = np.where(crossed, low, middle), np.where(crossed, middle, high)
    ends = [rates(low), rates(high)]
    gaps = [np.abs(accepted - rejected) for accepted, rejected in ends]
    means = [(accepted + rejected) / 2 for accepted, rejected in ends]
    return np.where(gaps[0] <= gaps[1] + _EQUAL, *means)
