"""Divide units among parts so that each part has its share of every class."""

from __future__ import annotations

import math

import attrs
import numpy as np
from numpy.typing import NDArray

from imgcls.splitting.polishing import polished

__all__ = ["TRIES", "allocate", "cut", "settle"]

#: How far the order of units may differ from that by weight: a factor of exp(0.5). Without it, the
#: division of units that all differ would be the same for every seed.
_JITTER = 0.5

#: The greedy placement is tried up to so often, and all tries together place about so many units.
TRIES, _PLACED = 8, 20_000

#: Of parts that are equally good for a unit, the one that lacks most takes it.
_TIE = 1e-9


def allocate(
    counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator, *, tries: int = TRIES
) -> NDArray[np.int64]:
    """Divide units among parts, each class in proportion.

    Units with the same counts are interchangeable, so each such kind is dealt out in proportion
    at once, but for one unit a part that is kept to even out others. What is left over, less than
    two units a part and kind, is placed one by one, heavy units first, where it brings the counts
    nearest to their ideal: the part with the smallest increase of the squared deviation, each
    class measured in shares of its total. Of a class with few units, every part gets one as long
    as there are enough. Several random orders are tried where that is quick. In a small set units
    are then moved, or change places, as long as that brings the counts nearer.

    Args:
        counts: What the units have of each class, (G, K).
        shares: The share of each part (P,), summing to 1.
        rng: The chance.
        tries: How many random orders at most.

    Returns:
        The part of each unit, (G,).
    """
    weights = counts / np.maximum(counts.sum(axis=0), 1)
    dealt = _deal(counts, shares, rng)
    rest = np.flatnonzero(dealt == len(shares))
    excess = _sums(weights, dealt, len(shares)) - np.outer(shares, weights.sum(axis=0))
    absent = (_sums(counts, dealt, len(shares)) == 0) & counts.any(axis=0)
    start = _Start(weights=weights[rest], excess=excess, absent=absent, shares=shares)
    found = [start.place(rng) for _ in range(min(max(_PLACED // max(len(rest), 1), 1), tries))]
    dealt[rest] = min(found, key=lambda placed: placed[0])[1]
    return polished(dealt, weights, shares)


# The part of each unit; for what is left over one more than there are parts.
def _deal(counts: NDArray[np.int64], shares: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    kind = _kinds(counts)
    sizes = np.bincount(kind)
    bounds = np.maximum(np.floor(sizes[:, None] * shares + 1e-9).astype(np.int64) - 1, 0).cumsum(axis=1)
    order = rng.permutation(len(counts))
    order = order[np.argsort(kind[order], kind="stable")]
    rank = np.arange(len(counts)) - np.repeat(sizes.cumsum() - sizes, sizes)
    parts = np.empty(len(counts), dtype=np.int64)
    parts[order] = (rank[:, None] >= bounds[kind[order]]).sum(axis=1)
    return parts


# Rows are compared as one number each where they fit into one, which is far quicker.
def _kinds(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    counts = counts[:, counts.any(axis=0)]
    levels = [int(level) + 1 for level in counts.max(axis=0)]
    if math.prod(levels) < 2**62:
        return np.unique(np.ravel_multi_index(tuple(counts.T), levels), return_inverse=True)[1]
    return np.unique(counts, axis=0, return_inverse=True)[1].reshape(-1)


def _sums(values: NDArray[np.generic], parts: NDArray[np.int64], number: int) -> NDArray[np.float64]:
    return np.array([np.asarray(values[parts == part]).sum(axis=0) for part in range(number)], dtype=np.float64)


@attrs.frozen(kw_only=True, eq=False)
class _Start:
    """Where the greedy placement of units begins.

    Attributes:
        weights: What each unit has of each class, in shares of its total, (R, K).
        excess: What each part has more than its share, (P, K).
        absent: Which part has none of which class, (P, K).
        shares: The share of each part (P,).
    """

    weights: NDArray[np.float64]
    excess: NDArray[np.float64]
    absent: NDArray[np.bool_]
    shares: NDArray[np.float64]

    def place(self, rng: np.random.Generator) -> tuple[tuple[int, float], NDArray[np.int64]]:
        """Place each unit where it does most good.

        The increase of sum(excess^2) / share when a unit w is added is
        (2 excess w + w^2) / share: a small part weighs an excess more.

        Args:
            rng: The chance of the order.

        Returns:
            How bad it is, first by classes that parts lack, then by squared deviation; and the
            part of each unit (R,).
        """
        excess, absent, has = self.excess.copy(), self.absent.copy(), self.weights > 0
        left, lacking = has.sum(axis=0), bool(absent.any())
        slope, square = 2 * self.weights + _TIE, (self.weights**2).sum(axis=1)
        parts = np.empty(len(has), dtype=np.int64)
        for unit in _order(self.weights, rng).tolist():
            increase = (excess @ slope[unit] + square[unit]) / self.shares
            if lacking:
                increase[~_open(has[unit], absent, left)] = np.inf
            parts[unit] = best = increase.argmin()
            excess[best] += self.weights[unit]
            if lacking:
                absent[best] &= ~has[unit]
                left -= has[unit]
                lacking = bool(absent.any())
        return (int(absent.sum()), float((excess**2 / self.shares[:, None]).sum())), parts


def _order(weights: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    weight = weights.sum(axis=1)
    return np.argsort(-weight * np.exp(rng.uniform(0, _JITTER, len(weight))), kind="stable")


# Once a class has no more units than there are parts without it, these parts get them: a part that
# lacks a class can neither train nor measure it, which is worse than a share that is off.
def _open(has: NDArray[np.bool_], absent: NDArray[np.bool_], left: NDArray[np.int64]) -> NDArray[np.bool_]:
    scarce = has & (left <= absent.sum(axis=0))
    needy = (absent & scarce).sum(axis=1) > 0
    return needy if needy.any() else ~needy


def cut(counts: NDArray[np.int64], share: float, rng: np.random.Generator, *, tries: int = TRIES) -> NDArray[np.bool_]:
    """Cut off a part, each class in proportion as far as it has several units.

    Args:
        counts: What the units have of each class, (G, K).
        share: The share of the part.
        rng: The chance.
        tries: As for `allocate`.

    Returns:
        Whether a unit is in the part, (G,). The only unit of a class never is.
    """
    only = (counts > 0).sum(axis=0) == 1
    free = np.flatnonzero(~(counts[:, only] > 0).any(axis=1))
    held = np.zeros(len(counts), dtype=bool)
    if not len(free):
        return held
    held[free] = allocate(counts[free], np.array([1 - share, share]), rng, tries=tries) == 1
    if not held.any() and len(free) < len(counts):
        held[free[counts[free].sum(axis=1).argmin()]] = True
    return held


def settle(
    parts: NDArray[np.int64], counts: NDArray[np.int64], sizes: NDArray[np.int64], *, part: int, wanted: int
) -> NDArray[np.int64]:
    """Move units between a part and part 0 until it has nearly the wanted number of records.

    Args:
        parts: The part of each unit, (G,).
        counts: What the units have of each class, (G, K).
        sizes: The records of each unit, (G,).
        part: The part, not 0.
        wanted: How many records it should have.

    Returns:
        The new part of each unit. No move of one more unit would come nearer without taking the
        last unit of a class from where it is.
    """
    parts = parts.copy()
    weights = counts / np.maximum(counts.sum(axis=0), 1)
    while gap := wanted - int(sizes[parts == part].sum()):
        source, target = (0, part) if gap > 0 else (part, 0)
        gaps = np.where(_spare(parts, counts, source), np.abs(abs(gap) - sizes), abs(gap))
        if gaps.min() >= abs(gap):
            break
        excess = weights[parts == part].sum(axis=0) - wanted / sizes.sum()
        increase = (np.sign(gap) * 2 * weights * excess + weights**2).sum(axis=1)
        parts[np.lexsort((increase, gaps))[0]] = target
    return parts


# Units of a part whose classes have others there.
def _spare(parts: NDArray[np.int64], counts: NDArray[np.int64], part: int) -> NDArray[np.bool_]:
    inside, has = parts == part, counts > 0
    last = has[inside].sum(axis=0) == 1
    return inside & ~has[:, last].any(axis=1)
