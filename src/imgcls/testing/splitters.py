"""The conformance kit of splitters."""

from __future__ import annotations

import numpy as np

from imgcls.core.errors import SplitError
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold, Folds
from imgcls.splitting.base import Splitter, splitters
from imgcls.testing.sets import blobs
from imgcls.testing.values import chance_untouched, check_value, require

__all__ = ["check_splitter"]


def check_splitter(splitter: Splitter) -> None:
    """Check that a splitter keeps its contract.

    It is tried on sets with and without groups and splits, of two and three classes, and of
    several labels a record; it may refuse some of them with a `SplitError`, but not all.

    Args:
        splitter: The splitter.

    Raises:
        AssertionError: with what is broken.
    """
    check_value(splitter, splitters)
    taken = [data for data in _sets() if _accepts(splitter, data)]
    require(taken, splitter, "accept one of the sets of the kit: grouped, without groups, with splits")
    for data in taken:
        _check_folds(splitter, data)
        _check_repeats(splitter, data)
        _check_fixed_test(splitter, data)


def _sets() -> list[Dataset]:
    splits = ["train", "train", "train", "test", "val"]
    return [
        blobs(groups=31, per_group=3, size=8),
        blobs(groups=90, per_group=1, classes=3, size=8, grouped=False),
        blobs(groups=40, per_group=2, size=8, splits=splits),
        blobs(groups=40, per_group=2, classes=3, size=8, splits=["train", "train", "test"]),
        _several_labels(),
    ]


# Records with two labels, one or none, two of them a group.
def _several_labels() -> Dataset:
    number = np.arange(96)
    labels = np.stack([number % 2, number % 3 == 0, number % 6 == 1], axis=1).astype(np.int64)
    pixels = np.zeros((len(number), 8, 8), dtype=np.uint8)
    return Dataset.from_arrays(pixels, labels, groups=[f"g{group:02d}" for group in number // 2], classes=list("abc"))


def _accepts(splitter: Splitter, data: Dataset) -> bool:
    before = data.frame.copy()
    try:
        with chance_untouched(splitter):
            splitter.split(data, seed=3)
    except SplitError:
        return False
    require(before.equals(data.frame), splitter, "leave the set as it is")
    return True


# Written anew instead of trusted to `Folds`, so that the kit stands on its own.
def _check_folds(splitter: Splitter, data: Dataset) -> None:
    folds = splitter.split(data, seed=3)
    _check_tested(splitter, folds)
    for fold in folds:
        parts = _parts(fold)
        positions = np.concatenate(list(parts.values()))
        once = np.array_equal(np.sort(positions), np.arange(len(data)))
        require(once, splitter, "give each record exactly one part in each fold")
        require(len(fold.train) and len(fold.val), splitter, "leave records to train and to validate in each fold")
        labels = data.labels if data.multilabel else np.eye(len(data.classes))[data.labels]
        require(labels[fold.train].any(axis=0).all(), splitter, "leave every class to train in each fold")
        if splitter.keeps_groups and data.groups is not None:
            _check_whole(splitter, data.groups, fold)


def _check_tested(splitter: Splitter, folds: Folds) -> None:
    for repeat in range(folds.num_repeats):
        tests = [fold.test.tolist() for fold, number in zip(folds, folds.repeats, strict=True) if number == repeat]
        records = [record for test in tests for record in test]
        once = len(set(records)) == len(records) or all(test == tests[0] for test in tests)
        require(once, splitter, "test each record in one fold of a repeat, or the same records in all")


def _check_whole(splitter: Splitter, groups: np.ndarray[tuple[int], np.dtype[np.str_]], fold: Fold) -> None:
    sides = [set(groups[part].tolist()) for part in (fold.train, fold.val, fold.test)]
    apart = sum(map(len, sides)) == len(set.union(*sides))
    require(apart, splitter, "keep each group on one side, or say 'keeps_groups = False'")


def _parts(fold: Fold) -> dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]:
    return {"train": fold.train, "val": fold.val, "test": fold.test, "unused": fold.unused}


def _check_repeats(splitter: Splitter, data: Dataset) -> None:
    first = splitter.split(data, seed=3)
    splitter.split(data, seed=4)
    same = _equal(first, splitter.split(data, seed=3))
    require(same, splitter, "divide a set alike for the same seed, whatever was divided before")


def _equal(one: Folds, other: Folds) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(ours, _parts(theirs)[name])
        for mine, theirs in zip(one, other, strict=True)
        for name, ours in _parts(mine).items()
    )


def _check_fixed_test(splitter: Splitter, data: Dataset) -> None:
    folds = splitter.split(data, seed=3, test=False)
    require(all(not len(fold.test) for fold in folds), splitter, "give no test records where 'test' is False")
