from __future__ import annotations

import warnings

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from imgcls.splitting.allocation import allocate, cut, settle
from imgcls.splitting.units import class_counts


def deviation(part: NDArray[np.int64], counts: NDArray[np.int64], k: int) -> float:
    """Sum the squared differences of the parts' shares of each class from the ideal."""
    held = np.stack([counts[part == number].sum(axis=0) for number in range(k)])
    return float(((held / counts.sum(axis=0) - 1 / k) ** 2).sum())


def case(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    rng = np.random.default_rng(seed)
    num_classes, k, num_groups = rng.integers(2, 6), int(rng.integers(2, 8)), rng.integers(30, 120)
    groups = np.repeat(np.arange(num_groups), rng.integers(1, rng.integers(2, 30), size=num_groups))
    size, unit = (num_groups, groups) if seed % 2 else (len(groups), np.arange(len(groups)))
    return groups, rng.choice(num_classes, p=rng.dirichlet(np.full(num_classes, 3.0)), size=size)[unit], k


def test_balance_is_at_least_that_of_scikit_learn() -> None:
    ours, theirs = np.empty(30), np.empty(30)
    for seed in range(30):
        groups, labels, k = case(seed)
        counts = class_counts(groups, np.unique(labels, return_inverse=True)[1], len(np.unique(labels)))
        ours[seed] = deviation(allocate(counts, np.full(k, 1 / k), np.random.default_rng(seed)), counts, k)
        part = np.empty(len(counts), dtype=np.int64)
        with warnings.catch_warnings(action="ignore"):  # of rare classes
            folds = list(StratifiedGroupKFold(k, shuffle=True, random_state=seed).split(labels, labels, groups))
        for number, (_, test) in enumerate(folds):
            part[groups[test]] = number
        theirs[seed] = deviation(part, counts, k)
    assert ours.sum() <= theirs.sum()
    assert np.mean(ours <= theirs + 1e-12) > 0.95


@given(st.integers(2, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 99))
def test_equal_groups_are_divided_exactly(k: int, num_classes: int, times: int, seed: int) -> None:
    counts = np.repeat(np.eye(num_classes, dtype=np.int64) * 3, k * times, axis=0)
    part = allocate(counts, np.full(k, 1 / k), np.random.default_rng(seed))
    assert deviation(part, counts, k) == 0


def test_equal_groups_are_interchangeable() -> None:
    counts = np.ones((40, 1), dtype=np.int64)
    shares = np.array([0.75, 0.25])
    chosen = np.mean([allocate(counts, shares, np.random.default_rng(seed)) for seed in range(400)], axis=0)
    assert np.abs(chosen - 0.25).max() < 0.1  # each group is in the small part a quarter of the times


def test_class_counts_by_hand() -> None:
    counts = class_counts(np.array([0, 1, 1, 2]), np.array([1, 0, 1, 1]), 3)
    assert counts.tolist() == [[0, 1, 0], [1, 1, 0], [0, 1, 0]]


def test_groups_that_all_differ_are_divided_by_seed() -> None:
    sizes = np.arange(3, 43)
    counts = sizes[:, None] * np.eye(2, dtype=np.int64)[np.arange(40) % 2]
    shares = np.array([0.6, 0.2, 0.2])
    found = np.stack([allocate(counts, shares, np.random.default_rng(seed)) for seed in range(30)])
    assert len({row.tobytes() for row in found}) == 30
    assert np.all((found[:, 5:35] > 0).any(axis=0) & (found[:, 5:35] == 0).any(axis=0))
    assert (
        max(
            np.abs(counts[row == part].sum(axis=0) / counts.sum(axis=0) - share).max()
            for row in found
            for part, share in enumerate(shares)
        )
        < 0.03
    )


def test_every_part_gets_a_unit_of_a_rare_class() -> None:
    counts = np.column_stack([np.full(50, 10), np.arange(50) < 5])
    for seed in range(10):
        parts = allocate(counts, np.full(5, 0.2), np.random.default_rng(seed))
        assert sorted(parts[:5].tolist()) == [0, 1, 2, 3, 4]


def test_columns_too_many_to_be_one_number_are_divided_too() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (60, 40))
    parts = allocate(counts, np.array([0.5, 0.5]), np.random.default_rng(0))
    assert np.abs(counts[parts == 0].sum(axis=0) / counts.sum(axis=0) - 0.5).mean() < 0.03


def test_the_only_unit_of_a_class_is_never_cut_off() -> None:
    counts = np.array([[9, 1], [5, 0], [1, 0]])
    assert {tuple(cut(counts, 0.4, np.random.default_rng(seed))) for seed in range(20)} <= {
        (False, True, False),
        (False, False, True),
    }
    assert cut(counts[:2], 0.1, np.random.default_rng(0)).tolist() == [False, True]
    assert not cut(counts[:1], 0.5, np.random.default_rng(0)).any()


def test_units_move_until_the_number_is_near() -> None:
    sizes = np.array([5, 5, 3, 3, 1, 7])
    parts = settle(np.array([0, 0, 0, 0, 0, 1]), sizes[:, None], sizes, part=1, wanted=11)
    assert sizes[parts == 1].sum() == 11
    parts = settle(np.ones(6, np.int64), sizes[:, None], sizes, part=1, wanted=8)
    assert abs(sizes[parts == 1].sum() - 8) <= 1
