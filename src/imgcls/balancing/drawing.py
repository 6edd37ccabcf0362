"""Ways to draw that leave less to chance than draws with replacement; all vectorised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["by_key", "passes", "repeated", "systematic"]


def by_key(keys: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort positions by a key, those of equal keys in random order.

    Args:
        keys: Keys (N,), such as class indices.
        rng: The chance.

    Returns:
        Positions (N,), and of each the place among those of its key, from 0.
    """
    shuffled = rng.permutation(len(keys))
    order = shuffled[np.argsort(keys[shuffled], kind="stable")]
    ordered = keys[order]
    return order, np.arange(len(keys)) - np.searchsorted(ordered, ordered)


def systematic(weights: NDArray[np.float64], total: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw a total in proportion to weights: each the floor or the ceiling of its share.

    One random offset, and from there steps of equal length through the weights (Madow, "On the
    Theory of Systematic Sampling II", 1949). What holds for one holds for every run of neighbours
    as well, such as a class whose records stand together. The expected count is the share.

    Args:
        weights: Weights (N,), 0 or more, not all 0.
        total: How many draws there are.
        rng: The chance.

    Returns:
        How often each is drawn, (N,); their sum is `total`.
    """
    ends = np.cumsum(weights)
    ends = np.minimum(np.floor(ends * (total / ends[-1]) + rng.random()), total)
    ends[-1] = total  # whatever rounding made of it
    return np.diff(ends, prepend=0).astype(np.int64)


def repeated(positions: NDArray[np.int64], times: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Repeat positions and put all into random order.

    Args:
        positions: Positions (N,).
        times: How often each appears, (N,).
        rng: The chance.

    Returns:
        Positions (sum of times,).
    """
    return rng.permutation(np.repeat(positions, times))


def passes(positions: NDArray[np.int64], total: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Go through positions in random order, again and again, each pass in another.

    Args:
        positions: Positions (N,).
        total: How many draws there are.
        rng: The chance.

    Returns:
        Positions (total,); none appears again before all have appeared.
    """
    rounds = -(-total // len(positions))
    return rng.permuted(np.tile(positions, (rounds, 1)), axis=1).ravel()[:total]
