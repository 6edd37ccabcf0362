from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls.core.errors import ConfigError, SplitError
from imgcls.data.dataset import Dataset
from imgcls.splitting.base import splitters
from imgcls.splitting.plan import plan_folds

KFOLD = splitters.create({"name": "stratified-group-kfold", "k": 3})
GROUPS = np.arange(120) // 2


def made(*, splits: bool = False, prefix: str | None = "g", pixels: int = 0) -> Dataset:
    named = np.where(GROUPS < 12, "test", "train") if splits else None
    names = None if prefix is None else [f"{prefix}{group}" for group in GROUPS]
    arrays = np.arange(pixels, pixels + 120, dtype=np.uint8).repeat(4).reshape(-1, 2, 2)
    return Dataset.from_arrays(arrays, GROUPS % 2, groups=names, splits=named)


@pytest.mark.parametrize("test", ["auto", "predefined"])
def test_test_records_of_the_set_are_the_test_of_every_fold(test: str) -> None:
    folds = plan_folds(made(splits=True), KFOLD, test=test, seed=0)
    assert [fold.test.tolist() for fold in folds] == [list(range(24))] * 3
    assert np.array_equal(np.sort(np.concatenate([fold.val for fold in folds])), np.arange(24, 120))


@pytest.mark.parametrize(("test", "splits"), [(None, True), (None, False), ("auto", False)])
def test_without_a_fixed_test_set_the_test_rotates(test: str | None, splits: bool) -> None:
    folds = plan_folds(made(splits=splits), KFOLD, test=test, seed=0)
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(120))


@pytest.mark.parametrize("seed", range(3))
def test_share_is_cut_by_class_and_group(seed: int) -> None:
    data = made()
    folds = plan_folds(data, KFOLD, test=0.2, seed=seed)
    test = folds[0].test
    assert all(np.array_equal(fold.test, test) for fold in folds)
    assert np.bincount(data.labels[test]).tolist() == [12, 12]
    assert not set(GROUPS[test]) & set(GROUPS[np.setdiff1d(np.arange(120), test)])


@pytest.mark.parametrize("prefix", ["other", None])
def test_another_set_is_the_test_set(prefix: str | None) -> None:
    folds = plan_folds(made(), KFOLD, test=made(prefix=prefix, pixels=120), seed=0)
    assert [len(fold.test) for fold in folds] == [0, 0, 0]


@pytest.mark.parametrize(
    ("data", "test", "message"),
    [
        (made(), "predefined", "'test' must not be 'predefined' for a set without test records"),
        (made(), made(), "'test' must share no groups with the set, got 'g0', .* in both"),
        (made(), made(prefix="x", pixels=100), "'test' must share no images with the set, got 20 of 120 with the same"),
        (made(prefix=None), made(), "got 120 of 120 with the same pixels as one of the set; take them out"),
        (
            made(),
            made(prefix="x").relabel({"1": "one"}),
            r"'test' must have the classes \['0', '1'\], got \['0', 'one'\]",
        ),
        (made().subset(range(8)), 0.5, "class '0' must have at least 3 groups, got 2; collect more"),
    ],
)
def test_impossible_test_sets_are_refused(data: Dataset, test: Any, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        plan_folds(data, KFOLD, test=test, seed=0)


@pytest.mark.parametrize("test", ["auto", "predefined"])
def test_group_on_both_sides_of_the_test_is_refused(test: str) -> None:
    splits = np.where(np.arange(120) < 23, "test", "train")
    data = Dataset.from_arrays(np.zeros((120, 2, 2), np.uint8), GROUPS % 2, groups=GROUPS, splits=splits)
    with pytest.raises(SplitError, match="one side of the test split, got '11' on both sides"):
        plan_folds(data, KFOLD, test=test, seed=0)


def test_files_may_not_be_in_both_sets(make_images: Callable[..., Path]) -> None:
    root = make_images(*(f"{kind}/{number}.png" for kind in "ab" for number in range(4)))
    data = Dataset.from_folder(root)
    with pytest.raises(SplitError, match=r"'test' must share no files with the set, got '.*a/0\.png' in both"):
        plan_folds(data, KFOLD, test=data.subset([0]), seed=0)


@pytest.mark.parametrize("test", [0.2, "half"])
def test_wrong_test_is_a_wrong_option(test: Any) -> None:
    splitter = "predefined" if isinstance(test, float) else "stratified-group-kfold"
    with pytest.raises(ConfigError, match="'test' must be"):
        plan_folds(made(splits=True), splitters.create(splitter), test=test, seed=0)


@pytest.mark.parametrize("amount", [8, 30, 31])
def test_a_number_of_records_is_cut_as_nearly_as_groups_allow(amount: int) -> None:
    folds = plan_folds(made(), KFOLD, test=amount, seed=0)
    assert all(abs(len(fold.test) - amount) == amount % 2 for fold in folds)  # groups have two records
    assert not set(GROUPS[folds[0].test]) & set(GROUPS[folds[0].train])


def test_a_number_of_records_must_leave_some() -> None:
    with pytest.raises(SplitError, match="'test' must leave some of 120 records to train, got 120; hold out fewer"):
        plan_folds(made(), KFOLD, test=120, seed=0)
