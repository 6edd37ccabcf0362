"""Folds in which each part is held out once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgcls.core.options import rejected
from imgcls.core.randomness import generator
from imgcls.data.folds import TEST, TRAIN, VAL
from imgcls.splitting.allocation import TRIES, cut
from imgcls.splitting.units import Units

__all__ = ["REPORTS", "VAL_SHARE", "refuse_unused", "rotate"]

#: What the part that rotates can do.
REPORTS = ("test", "val")

#: The share of the records outside of test that validates.
VAL_SHARE = 0.2

#: All validation parts together are tried up to so often, since leaving out each of a thousand
#: groups would take long otherwise; up to 25 folds have the usual number of tries each.
_TRIED = 200


def rotate(
    parts: NDArray[np.int64], units: Units, counts: NDArray[np.int64], *, val: float | None, seed: int
) -> NDArray[np.int8]:
    """Hold out one part after the other.

    Args:
        parts: The part of each unit, (G,), from 0 to P - 1.
        units: The units of N records.
        counts: What is to be in proportion in validation, (G, C).
        val: The share of what a fold does not test that validates; None lets the part that
            rotates validate, and nothing tests.
        seed: The seed of what validates.

    Returns:
        Codes (P, N).
    """
    codes = np.full((parts.max() + 1, len(units)), TRAIN, dtype=np.int8)
    tries = min(max(_TRIED // len(codes), 1), TRIES)
    for fold, row in enumerate(codes):
        row[parts == fold] = VAL if val is None else TEST
        if val is not None:
            rest = np.flatnonzero(parts != fold)
            row[rest[cut(counts[rest], val, generator(seed, "val", fold), tries=tries)]] = VAL
    return codes[:, units.code]


def refuse_unused(val: float, report: str) -> None:
    """Refuse a share for validation where the part that rotates validates.

    Args:
        val: The option `val`.
        report: The option `report`.

    Raises:
        ConfigError: if one leaves the other without effect.
    """
    if report == "val" and val != VAL_SHARE:
        raise rejected("val", "be left out where 'report' is 'val' and a whole part validates", val)
