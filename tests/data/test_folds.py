from __future__ import annotations

from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from imgcls.core.errors import SplitError
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold, Folds

DATA = Dataset.from_arrays(np.zeros((8, 2, 2), np.uint8), list("abababab"), groups=list("uuvvwwxx"))
CODES = np.array([[0, 0, 0, 0, 1, 1, 2, 2], [2, 2, 0, 0, 1, 1, 3, 3]])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_parts_are_disjoint_and_complete(codes: list[int]) -> None:
    fold = Fold.from_codes(np.array(codes, dtype=np.int8))
    parts = [fold.part(name) for name in ("train", "val", "test", "unused")]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(codes)))
    assert all(codes[position] == code for code, part in enumerate(parts) for position in part)


def test_good_codes_make_folds() -> None:
    folds = Folds.from_codes(CODES, DATA)
    assert len(folds) == 2
    assert [fold.test.tolist() for fold in folds] == [[6, 7], [0, 1]]
    assert folds[1].unused.tolist() == [6, 7]


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (CODES[0], r"codes must have shape \(folds, 8\), got \(8,\)"),
        (CODES[:, :7], r"codes must have shape \(folds, 8\), got \(2, 7\)"),
        (CODES[:0], r"got \(0, 8\)"),
        (CODES - 1, "codes must be whole numbers from 0 to 3, got int64 from -1 to 2"),
        (CODES + 256, "got int64 from 256 to 259"),
        (CODES / 2, "whole numbers .* got float64"),
        ([[1] * 8], "fold 0 must have records to train, got none"),
        ([[0] * 8], "fold 0 must have records to val, got none"),
        ([CODES[0], [0, 1, 0, 1, 0, 1, 0, 1]], "fold 1 must train on every class, got none of 'b'"),
        (
            [CODES[0], [0, 0, 1, 1, 2, 2, 2, 2]],
            r"each record must be tested by one fold, or the same records by all, got 2 in several; let the test parts",
        ),
        ([[0, 0, 0, 1, 1, 1, 2, 0]], r"groups must stand on one side .* got 'v', 'x' on both train and val of fold 0"),
    ],
)
def test_wrong_codes_are_refused(codes: ArrayLike, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        Folds.from_codes(np.asarray(codes), DATA)


def test_folds_may_have_one_test_part() -> None:
    folds = Folds.from_codes(np.array([[0, 0, 0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 0, 0, 2, 2]]), DATA)
    assert [fold.test.tolist() for fold in folds] == [[6, 7], [6, 7]]


def test_unused_records_divide_no_group() -> None:
    folds = Folds.from_codes(np.array([[0, 3, 0, 0, 1, 3, 2, 2]]), DATA)
    assert folds[0].unused.tolist() == [1, 5]


def test_divided_groups_can_be_allowed() -> None:
    folds = Folds.from_codes(np.array([[0, 0, 0, 1, 1, 1, 2, 0]]), DATA, keeps_groups=False)
    assert folds[0].test.tolist() == [6]


def test_folds_come_back_from_disk(tmp_path: Path) -> None:
    folds = Folds.from_codes(CODES, DATA)
    folds.save(tmp_path / "splits.json", DATA)
    again = Folds.load(tmp_path / "splits.json", DATA)
    assert again.fingerprint == DATA.fingerprint
    for one, two in zip(folds, again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(attrs.astuple(one), attrs.astuple(two), strict=True))
        assert two.unused.dtype == np.int64


def test_folds_of_another_set_are_refused(tmp_path: Path) -> None:
    Folds.from_codes(CODES, DATA).save(tmp_path / "splits.json", DATA)
    with pytest.raises(SplitError, match=r"the set must be the one that '.*splits\.json' was made for.*split anew"):
        Folds.load(tmp_path / "splits.json", DATA.relabel({"a": "c"}))


def test_balance_counts_records_groups_and_classes() -> None:
    balance = Folds.from_codes(CODES, DATA).balance(DATA)
    counts = {"records": 4, "groups": 2, "classes": {"a": 2, "b": 2}}
    off = {"deviation": {"a": 0.0, "b": 0.0}, "largest_deviation": 0.0}
    assert balance[0] == {"repeat": 0, "fold": 0, "split": "train", **counts, **off}
    assert [(row["fold"], row["split"]) for row in balance[3:]] == [
        (1, "train"),
        (1, "val"),
        (1, "test"),
        (1, "unused"),
    ]


def test_deviation_is_the_share_in_the_part_minus_that_in_the_set() -> None:
    data = Dataset.from_arrays(np.zeros((8, 2, 2), np.uint8), list("aaaaaabb"))
    rows = Folds.from_codes(np.array([[0, 0, 0, 0, 0, 1, 1, 0]]), data).balance(data)
    assert rows[1]["deviation"] == {"a": 0.5 - 0.75, "b": 0.5 - 0.25}
    assert [row["largest_deviation"] for row in rows] == [pytest.approx(1 / 12), 0.25]


def test_balance_of_several_labels_counts_each() -> None:
    labels = np.array([[1, 1], [1, 0], [0, 0], [1, 1]])
    data = Dataset.from_arrays(np.zeros((4, 2, 2), np.uint8), labels, classes=["a", "b"])
    rows = Folds.from_codes(np.array([[0, 0, 0, 1]]), data).balance(data)
    assert [row["classes"] for row in rows] == [{"a": 2, "b": 1}, {"a": 1, "b": 1}]
    assert rows[1]["deviation"] == {"a": 1 - 0.75, "b": 1 - 0.5}


def test_class_of_several_that_does_not_train_is_refused() -> None:
    data = Dataset.from_arrays(np.zeros((3, 2, 2), np.uint8), np.array([[1, 0], [1, 0], [0, 1]]), classes=["a", "b"])
    with pytest.raises(SplitError, match="fold 0 must train on every class, got none of 'b'"):
        Folds.from_codes(np.array([[0, 1, 1]]), data)


# Repeats

REPEATS = np.stack([CODES, CODES[::-1]])


def test_repeats_may_test_a_record_once_each(tmp_path: Path) -> None:
    folds = Folds.from_codes(REPEATS, DATA)
    assert (folds.repeats, folds.num_repeats, len(folds)) == ((0, 0, 1, 1), 2, 4)
    assert [row["repeat"] for row in folds.balance(DATA) if row["split"] == "val"] == [0, 0, 1, 1]
    folds.save(tmp_path / "splits.json", DATA)
    again = Folds.load(tmp_path / "splits.json", DATA)
    assert (again.repeats, again.report) == (folds.repeats, "test")
    with pytest.raises(SplitError, match="the set must be the one"):
        Folds.load(tmp_path / "splits.json", DATA.relabel({"a": "c"}))


def test_within_a_repeat_a_record_is_tested_once() -> None:
    twice = [[CODES[0], CODES[1]], [CODES[0], [0, 0, 1, 1, 2, 2, 2, 2]]]
    with pytest.raises(SplitError, match=r"each record must be tested by one fold, .* got 2 in several"):
        Folds.from_codes(np.array(twice), DATA)


@pytest.mark.parametrize(
    ("codes", "report"), [(CODES.astype(np.int8), "test"), (CODES.clip(0, 1).astype(np.int8), "val")]
)
def test_without_test_parts_validation_is_reported(codes: NDArray[np.int8], report: str) -> None:
    assert Folds.from_codes(codes, DATA).report == report
    assert Folds.from_codes(codes, DATA, report="test").report == "test"


# The population


def test_the_population_is_what_is_outside_of_test(tmp_path: Path) -> None:
    data = Dataset.from_arrays(np.zeros((8, 2, 2), np.uint8), list("aaaaabbb"))
    folds = Folds.from_codes(np.array([[0, 0, 0, 1, 2, 0, 1, 2]]), data, reweight=True)
    assert folds.prior == pytest.approx({"a": 4 / 6, "b": 2 / 6})
    folds.save(tmp_path / "splits.json", data)
    assert Folds.load(tmp_path / "splits.json", data).prior == folds.prior
    assert Folds.from_codes(np.array([[0, 0, 0, 1, 2, 0, 1, 2]]), data).prior is None
