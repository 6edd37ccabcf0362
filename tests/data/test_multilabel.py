"""Records with several labels, or none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.dataset import Dataset

Make = Callable[..., Path]
PATHS = ("1.png", "2.png", "3.png", "4.png")


@pytest.fixture
def root(make_images: Make) -> Path:
    return make_images(*PATHS)


def arrays(labels: Any, **options: Any) -> Dataset:
    return Dataset.from_arrays(np.zeros((len(labels), 2, 2), np.uint8), labels, **options)


def separated(root: Path, *labels: Any, separator: str = ";", **options: Any) -> Dataset:
    frame = pd.DataFrame({"image": PATHS[: len(labels)], "label": labels})
    return Dataset.from_frame(frame, root=root, label_separator=separator, **options)


def test_separator_gives_a_matrix(root: Path) -> None:
    data = separated(root, "b; a", "", "a", "c;;b;c")
    assert (data.multilabel, data.classes, data.positive) == (True, ("a", "b", "c"), None)
    assert data.labels.tolist() == [[1, 1, 0], [0, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert data.frame["label"].tolist() == ["b|a", "", "a", "c|b"]
    assert data.counts() == {"a": 2, "b": 2, "c": 1}
    assert data[3].label == "c|b"


@pytest.mark.parametrize(("separator", "entry"), [(" ", " a  b "), ("|", "a|b|"), (", ", "a, b"), ("a", "2a1")])
def test_separators(root: Path, separator: str, entry: str) -> None:
    assert separated(root, entry, separator=separator).labels.tolist() == [[1, 1]]


def test_nothing_may_be_written_as_nothing(root: Path) -> None:
    assert separated(root, "a", None, np.nan, " ; ").labels.tolist() == [[1], [0], [0], [0]]


def test_classes_of_two_are_no_binary_task(root: Path) -> None:
    data = separated(root, "a;b", "a", classes=["b", "a", "x"])
    assert (data.classes, data.positive) == (("b", "a", "x"), None)
    with pytest.raises(DataError, match=r"'positive' must be left out .*, got several labels a record"):
        separated(root, "a;b", "a", positive="a")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["", None], {}, "'label' must name at least one class, got records without labels only"),
        (["a|b;c"], {}, r"labels of several a record must not have '\|' in them, got 'a\|b'; rename it"),
        (["a;b"], {"classes": ["a"]}, "'classes' must name every label, got none for 'b'"),
        ([["a"], ["a", "b"]], {}, "'label' must hold text or numbers, got others; write several labels as one text"),
    ],
)
def test_wrong_labels_are_refused(root: Path, labels: list[Any], options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        separated(root, *labels, **options)


@pytest.mark.parametrize("separator", ["", 5])
def test_wrong_separators_are_refused(root: Path, separator: Any) -> None:
    with pytest.raises(ConfigError, match=r"'label_separator' must be .*, got"):
        separated(root, "a", separator=separator)


COLUMNS = {"image": PATHS[:3], "zoster": [1, 0, 0], "acne": [1, 0, 1], "age": [7, 8, 9]}


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table], ids=["pandas", "polars", "pyarrow"])
@pytest.mark.parametrize("kind", [int, float, bool, str])
def test_columns_are_classes_in_their_order(root: Path, make: Any, kind: Any) -> None:
    columns = {name: list(map(kind, v)) if name in {"zoster", "acne"} else v for name, v in COLUMNS.items()}
    data = Dataset.from_frame(make(columns), root=root, label=["zoster", "acne"])
    assert (data.multilabel, data.classes, list(data.frame)) == (True, ("zoster", "acne"), ["id", "label", "age"])
    assert data.labels.tolist() == [[1, 1], [0, 0], [0, 1]]


def test_columns_of_a_file(root: Path) -> None:
    pd.DataFrame(COLUMNS).to_csv(root / "x.csv", index=False)
    data = Dataset.from_csv(root / "x.csv", label=("zoster", "acne"), classes=["acne", "zoster"])
    assert data.labels.tolist() == [[1, 1], [0, 0], [1, 0]]


def test_class_that_nobody_has_stays(root: Path) -> None:
    data = Dataset.from_frame(pd.DataFrame(COLUMNS | {"acne": 0}), root=root, label=["zoster", "acne"])
    assert data.counts() == {"zoster": 1, "acne": 0}


@pytest.mark.parametrize("value", [2, -1, 0.5, None, "x"])
def test_columns_hold_yes_and_no_only(root: Path, value: Any) -> None:
    pd.DataFrame(COLUMNS | {"acne": [1, 0, value]}).to_csv(root / "x.csv", index=False)
    with pytest.raises(DataError, match=rf"'label' columns must hold 0 or 1 only, got .*'{value or ''}' in row 4"):
        Dataset.from_csv(root / "x.csv", label=["zoster", "acne"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": []}, r"'label' must be the name of a column, or of several, got \(\)"),
        ({"label": ["acne", "acne"]}, "'label' must name each column once, got"),
        ({"label": ["acne", 5]}, "'label' must be the name of a column"),
        ({"label": ["acne"], "label_separator": ";"}, "'label_separator' must be left out, or go with one column"),
    ],
)
def test_columns_of_labels_are_checked(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dataset.from_frame(pd.DataFrame(COLUMNS), root=root, **options)


def test_missing_column_of_labels_is_named(root: Path) -> None:
    with pytest.raises(DataError, match="'label' must name a column, got 'acme'; the table has"):
        Dataset.from_frame(pd.DataFrame(COLUMNS), root=root, label=["zoster", "acme"])


MATRIX = st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=8)


@given(MATRIX, st.sampled_from([bool, int, float, np.uint8]))
def test_matrix_is_kept(matrix: list[list[bool]], kind: Any) -> None:
    data = arrays(np.array(matrix).astype(kind), classes=["c", "a", "b"])
    assert np.array_equal(data.labels, np.array(matrix))
    assert data.counts() == dict(zip("cab", np.sum(matrix, axis=0).tolist(), strict=True))


@given(MATRIX)
def test_merging_classes_is_their_union(matrix: list[list[bool]]) -> None:
    data = arrays(matrix, classes=["a", "b", "c"]).relabel({"c": "a"})
    found = np.array(matrix)
    assert data.classes == ("a", "b")
    assert np.array_equal(data.labels, np.stack([found[:, 0] | found[:, 2], found[:, 1]], axis=1))


def test_swapping_names_swaps_nothing_else() -> None:
    data = arrays([[1, 0], [1, 1], [0, 0]], classes=["a", "b"])
    swapped = data.relabel({"a": "b", "b": "a"})
    assert swapped.classes == ("b", "a")
    assert np.array_equal(swapped.labels, data.labels)
    with pytest.raises(DataError, match=r"must not have '\|' in them"):
        data.relabel({"a": "x|y"})


def test_matrix_without_names_is_numbered() -> None:
    data = arrays([[0, 1, 1], [0, 0, 0]])
    assert (data.classes, data.labels.tolist()) == (("0", "1", "2"), [[0, 1, 1], [0, 0, 0]])


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([[0, 2], [1, 1]], {}, "'label' columns must hold 0 or 1 only, got '0', '2' in record 0"),
        ([[0, np.nan], [1, 1]], {}, "must hold 0 or 1 only, got '0', '' in record 0"),
        ([[0, 1], [1, 1]], {"classes": ["a"]}, "'classes' must name the 2 columns of 'labels', got 1 names"),
        ([[0, 1], [1, 1]], {"classes": ["a", "a"]}, r"'classes' must name each class once, got \['a', 'a'\]"),
        ([[0, 1], [1]], {}, "'labels' must be one a record, .* got lists of several lengths"),
        ([[[0, 1]], [[1, 1]]], {}, r"'labels' must have shape \(2,\) like the images, got \(2, 1, 2\)"),
    ],
)
def test_wrong_matrices_are_refused(labels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        arrays(labels, **options)


def test_one_column_of_numbers_is_one_label_a_record() -> None:
    data = arrays(np.array([[7], [9], [9]]))
    assert (data.multilabel, data.classes, data.labels.tolist()) == (False, ("7", "9"), [0, 1, 1])


def test_parts_and_wholes_keep_several_labels() -> None:
    data = arrays([[1, 0], [0, 0], [1, 1]], classes=["a", "b"])
    assert data.subset([2, 1]).labels.tolist() == [[1, 1], [0, 0]]
    whole = Dataset.concat([data, data.subset([2])])
    assert whole.labels.tolist() == [[1, 0], [0, 0], [1, 1], [1, 1]]
    with pytest.raises(DataError, match="'datasets' must all have one label a record, or all several"):
        Dataset.concat([data, arrays([1, 0])])


def test_stratified_sample_has_every_combination() -> None:
    data = arrays([[1, 0]] * 9 + [[1, 1]] + [[0, 0]] * 3)
    assert set(data.sample(3, stratified=True).frame["label"]) == {"0", "0|1", ""}


def test_fingerprint_knows_the_labels() -> None:
    sets = [arrays(labels) for labels in ([[1, 0]], [[0, 1]], [[1, 1]], [[0, 0]])]
    assert len({data.fingerprint for data in sets}) == 4
