"""Percentile intervals of values that are no metrics, such as thresholds, curves and differences."""

from __future__ import annotations

import numpy as np

from imgcls.evaluation.arrays import Floats, Texts
from imgcls.evaluation.intervals import Statistic, percentiles, resampled, units

__all__ = ["record_intervals"]


def record_intervals(
    statistic: Statistic, *, num_records: int, groups: Texts | None, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """Compute 95 % percentile intervals from resamples of groups.

    Args:
        statistic: From weights (B, N) of records to (B, M).
        num_records: N.
        groups: (N,) the group of each record, or None, where each record is its own.
        resamples: How often groups are drawn; 0 gives NaN.
        seed: Of the draws.

    Returns:
        The low and the high ends, two of (M,); NaN where nothing is known, as with fewer than two groups.
    """
    owners = units(groups, num_records)
    if owners.max() < 1 or not resamples:
        nothing = np.full(statistic(np.ones((1, num_records))).shape[1], np.nan)
        return nothing, nothing
    return percentiles(resampled(statistic, owners, resamples=resamples, seed=seed))
