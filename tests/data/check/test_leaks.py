from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from imgcls.core.errors import SplitError
from imgcls.data.check.checking import check
from imgcls.data.check.leaks import clusters_of
from imgcls.data.check.report import CheckReport
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Folds

Texture = Callable[..., NDArray[np.uint8]]


@pytest.fixture
def images(texture: Texture) -> NDArray[np.uint8]:
    """Eight images: 0 and 4 are equal, 1 and 5 nearly, 2 and 6 and the rest are different."""
    drawn = [texture(seed) for seed in range(8)]
    drawn[4] = drawn[0]
    drawn[5] = (drawn[1] * 0.6).astype(np.uint8)
    return np.stack(drawn)


def _rows(report: CheckReport, kind: str) -> list[list[str]]:
    rows = report.problems[report.problems["kind"] == kind]
    return rows[["severity", "id", "other", "detail"]].to_numpy().tolist()


def test_duplicates_on_two_sides_of_a_split_are_errors(images: NDArray[np.uint8]) -> None:
    splits = ["train"] * 4 + ["test"] * 4
    report = check(Dataset.from_arrays(images, list("abcdabcd"), splits=splits))
    assert not report.ok
    assert _rows(report, "exact duplicate across") == [["error", "000000", "000004", "split: train|test"]]
    assert _rows(report, "near duplicate across") == [["error", "000001", "000005", "split: train|test"]]
    assert report.pairs["across"].tolist() == ["split: train|test"] * 2


def test_duplicates_on_one_side_are_no_errors(images: NDArray[np.uint8]) -> None:
    splits = ["train", "train", "val", "test"] * 2
    report = check(Dataset.from_arrays(images, list("abcdabcd"), splits=splits))
    assert report.ok
    assert report.pairs["across"].tolist() == ["", ""]
    assert _rows(report, "duplicate")[0][:3] == ["note", "000000", "000004"]


def test_folds_are_looked_at_and_unused_records_are_not(images: NDArray[np.uint8]) -> None:
    data = Dataset.from_arrays(images, list("abababab"), classes=["a", "b"])
    codes = np.array([[0, 0, 0, 0, 0, 1, 1, 2], [2, 0, 0, 0, 0, 3, 1, 1]])
    folds = Folds.from_codes(codes, data)
    report = check(data, folds=folds)
    assert report.pairs["across"].tolist() == ["fold 1: test|train", "fold 0: train|val"]


def test_folds_of_another_set_are_refused(images: NDArray[np.uint8]) -> None:
    data = Dataset.from_arrays(images, list("abababab"))
    folds = Folds.from_codes(np.array([[0, 0, 0, 0, 0, 1, 1, 2]]), data)
    with pytest.raises(SplitError, match="'folds' must be made for this set, got those of another one; split it anew"):
        check(data.subset(range(7)), folds=folds)


def test_divided_groups_are_errors(images: NDArray[np.uint8]) -> None:
    groups = list("uvwxuvwx")
    data = Dataset.from_arrays(images, list("abcdabcd"), groups=groups, splits=["train"] * 4 + ["train"] * 3 + ["test"])
    report = check(data)
    assert _rows(report, "group across") == [["error", "x", "", "split: train|test"]]
    codes = np.array([[0, 0, 0, 0, 0, 0, 1, 2]])
    report = check(data, folds=Folds.from_codes(codes, data, keeps_groups=False))
    assert [row[1:] for row in _rows(report, "group across")] == [
        ["x", "", "split: train|test"],
        ["w", "", "fold 0: train|val"],
        ["x", "", "fold 0: train|test"],
    ]


def test_contradicting_labels_are_told(images: NDArray[np.uint8]) -> None:
    report = check(Dataset.from_arrays(images, list("aaaabbbb")))
    assert _rows(report, "label conflict") == [
        ["error", "000000", "000004", "exact duplicates: 'a' and 'b'"],
        ["warning", "000001", "000005", "near duplicates: 'a' and 'b'"],
    ]
    assert report.pairs["same_label"].tolist() == [False, False]
    assert _rows(check(Dataset.from_arrays(images, list("abababab"))), "label conflict") == []


def test_groups_with_two_labels_are_a_note(images: NDArray[np.uint8]) -> None:
    report = check(Dataset.from_arrays(images, list("aaabaaab"), groups=list("uuvvwwxy")))
    assert _rows(report, "mixed group") == [["note", "v", "", "records with the labels 'a', 'b'"]]


def test_groups_that_share_images_may_be_one(images: NDArray[np.uint8]) -> None:
    report = check(Dataset.from_arrays(images, list("abababab"), groups=list("uvwxvwyz")))
    assert report.missing_groups == (("u", "v", "w"),)
    assert _rows(report, "missing group")[0][:3] == ["warning", "u", "v"]
    assert report.pairs["same_group"].tolist() == [False, False]
    known = check(Dataset.from_arrays(images, list("abababab"), groups=list("uvwxuvyz")))
    assert known.missing_groups == ()
    assert known.pairs["same_group"].tolist() == [True, True]


def test_duplicates_without_groups_ask_for_them(images: NDArray[np.uint8]) -> None:
    report = check(Dataset.from_arrays(images, list("abababab")))
    assert _rows(report, "no groups")[0][3] == "4 images form 2 clusters of duplicates; give the set a 'group'"
    assert report.pairs["same_group"].tolist() == [None, None]


def test_clusters_hang_together() -> None:
    found = clusters_of(np.array([0, 1, 5]), np.array([1, 2, 6]), 8)
    assert [cluster.tolist() for cluster in found] == [[0, 1, 2], [5, 6]]
    assert clusters_of(np.array([], np.int64), np.array([], np.int64), 3) == []
