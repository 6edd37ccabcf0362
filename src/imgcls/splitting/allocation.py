"""Divide groups among parts so that each part has its share of every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgcls.core.errors import SplitError
from imgcls.data.dataset import Dataset

__all__ = ["allocate", "class_counts", "refuse_few", "unit_codes"]


def unit_codes(dataset: Dataset, *, grouped: bool) -> NDArray[np.int64]:
    """Number what must stay together.

    Args:
        dataset: The set.
        grouped: Whether groups stay together; else each record is a unit of its own.

    Returns:
        The unit of each record, (N,), from 0.
    """
    codes = dataset.group_codes
    return np.arange(len(dataset)) if not grouped or codes is None else codes


def class_counts(units: NDArray[np.int64], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """Count the classes in each unit.

    Args:
        units: The unit of each record, (N,).
        labels: The class of each record, (N,).
        num_classes: How many classes there are.

    Returns:
        Counts (units, classes).
    """
    flat = np.bincount(units * num_classes + labels, minlength=(units.max() + 1) * num_classes)
    return flat.reshape(-1, num_classes)


def allocate(counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Divide units among parts, each class in proportion.

    Units with the same class counts are interchangeable, so each such kind is dealt out in
    proportion at once, but for one unit a part that is kept to even out larger ones. What
    is left over, less than two units a part and kind, is placed one by one, large units
    first, where it brings the counts nearest to their ideal: the part with the smallest
    increase of the squared deviation, each class measured in shares of its total. Of a class
    with few units, every part gets one as long as there are enough.

    Args:
        counts: Class counts of each unit (G, K).
        shares: The share of each part (P,), summing to 1.
        rng: The chance of which unit of a kind goes where.

    Returns:
        The part of each unit, (G,).
    """
    kinds, kind = np.unique(counts, axis=0, return_inverse=True)
    totals = np.maximum(counts.sum(axis=0), 1)
    wanted = shares[:, None] * totals
    held = np.zeros_like(wanted)
    parts = np.empty(len(counts), dtype=np.int64)
    shuffled = rng.permutation(len(counts))
    members = np.split(shuffled[np.argsort(kind[shuffled], kind="stable")], np.cumsum(np.bincount(kind))[:-1])
    rest: list[int] = []
    for index, units in enumerate(members):
        dealt = np.maximum(np.floor(len(units) * shares + 1e-9).astype(np.int64) - 1, 0)
        parts[units[: dealt.sum()]] = np.repeat(np.arange(len(shares)), dealt)
        held += dealt[:, None] * kinds[index]
        rest += units[dealt.sum() :].tolist()
    left = (counts[rest] > 0).sum(axis=0)
    for unit in sorted(rng.permutation(rest).tolist(), key=lambda unit: -int(counts[unit].sum())):
        open_to = _in_need(counts[unit], held, left)
        parts[unit] = best = _nearest_part(counts[unit], held - wanted, totals, np.where(open_to, shares, np.nan))
        held[best] += counts[unit]
        left -= counts[unit] > 0
    return parts


# Once a class has no more units than there are parts without it, these parts get them: a part that
# lacks a class can neither train nor measure it, which is worse than a share that is off.
def _in_need(unit: NDArray[np.int64], held: NDArray[np.float64], left: NDArray[np.int64]) -> NDArray[np.bool_]:
    without = held == 0
    scarce = (unit > 0) & (left <= without.sum(axis=0))
    needy = without[:, scarce].any(axis=1)
    return needy if needy.any() else np.ones(len(held), dtype=np.bool_)


# The increase of sum(((held - wanted) / total)^2) when a unit is added, with a part that is
# small weighing an excess more; ties go to the part that lacks most. A share of NaN is no candidate
# (lexsort puts NaN last).
def _nearest_part(
    unit: NDArray[np.int64], excess: NDArray[np.float64], totals: NDArray[np.int64], shares: NDArray[np.float64]
) -> int:
    increase = (unit * (2 * excess + unit) / totals**2).sum(axis=1) / shares
    lack = (excess / totals).sum(axis=1) / shares
    return int(np.lexsort((lack, np.round(increase, 12)))[0])


def refuse_few(counts: NDArray[np.int64], dataset: Dataset, *, parts: int, grouped: bool, remedy: str) -> None:
    """Refuse a class that has fewer units than there are parts.

    Args:
        counts: Class counts of each unit (G, K).
        dataset: The set, for the names.
        parts: How many parts want each class.
        grouped: Whether the units are groups.
        remedy: What to do.

    Raises:
        SplitError: if a class is too rare.
    """
    have = (counts > 0).sum(axis=0)
    unit = "groups" if grouped and dataset.groups is not None else "records"
    for name, number in zip(dataset.classes, have.tolist(), strict=True):
        if number < parts:
            raise SplitError(f"class {name!r} must have at least {parts} {unit}, got {number}; {remedy}")
