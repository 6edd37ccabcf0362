"""Units move between parts as long as that evens them out."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgcls.splitting.polishing import polished

Floats = NDArray[np.float64]


def unevenness(parts: NDArray[np.int64], weights: Floats, shares: Floats) -> float:
    excess = np.stack([weights[parts == part].sum(axis=0) for part in range(len(shares))])
    return float(((excess - np.outer(shares, weights.sum(axis=0))) ** 2 / shares[:, None]).sum())


# With few units: whether any move of one, or exchange of two, that keeps each part's classes would be better.
def neighbours(parts: NDArray[np.int64], weights: Floats, num_parts: int) -> list[NDArray[np.int64]]:
    found = []
    for unit, part in itertools.product(range(len(parts)), range(num_parts)):
        found.append(np.where(np.arange(len(parts)) == unit, part, parts))
    for one, other in itertools.combinations(range(len(parts)), 2):
        swapped = parts.copy()
        swapped[[one, other]] = parts[[other, one]]
        found.append(swapped)
    return found


def present(parts: NDArray[np.int64], weights: Floats, num_parts: int) -> NDArray[np.bool_]:
    return np.stack([(weights[parts == part] > 0).any(axis=0) for part in range(num_parts)])


@given(st.integers(2, 4), st.integers(1, 3), st.integers(2, 14), st.integers(0, 999))
def test_no_move_or_exchange_is_left_that_would_be_better(k: int, classes: int, units: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 9, (units, classes)) / 10  # every unit has every class: only the last of a part is bound
    shares = rng.dirichlet(np.full(k, 5.0))
    begun = rng.integers(0, k, units)
    found = polished(begun, weights, shares)
    assert unevenness(found, weights, shares) <= unevenness(begun, weights, shares) + 1e-9
    alone = np.bincount(found, minlength=k)[found] == 1
    for other in neighbours(found, weights, k):
        if (other == found)[alone].all():
            assert unevenness(other, weights, shares) >= unevenness(found, weights, shares) - 1e-8
    assert (present(found, weights, k) | ~present(begun, weights, k)).all()


def test_the_last_unit_of_a_class_stays() -> None:
    weights = np.array([[1.0, 0.0], [0.0, 0.5], [0.0, 0.5]])
    parts = polished(np.array([0, 1, 0]), weights, np.array([0.5, 0.5]))
    assert present(parts, weights, 2).tolist() == [[True, True], [False, True]]
