from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.dataset import Dataset

Make = Callable[..., Path]
ROWS = [("a/1.png", "cat", "s1", "train"), ("b/2.png", "dog", "s2", "Validation"), ("3.png", "cat", "s1", "TEST")]
COLUMNS = ("image", "label", "site", "part")


def write(path: Path, rows: list[Any], *, header: tuple[str, ...] = COLUMNS, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def listed(values: NDArray[np.str_] | None) -> list[str]:
    assert values is not None
    return list(values.tolist())


@pytest.fixture
def root(make_images: Make) -> Path:
    return make_images(*(row[0] for row in ROWS))


@pytest.fixture
def table(root: Path) -> Path:
    return write(root / "index.csv", ROWS)


def test_class_folders(make_images: Make) -> None:
    data = Dataset.from_folder(make_images("dog/b.png", "cat/deep/er/c.PNG", "cat/a.jpg", "dog/.hidden.png"))
    assert data.ids.tolist() == ["cat/a.jpg", "cat/deep/er/c.PNG", "dog/b.png"]
    assert (data.classes, data.labels.tolist(), data.splits, data.groups) == (("cat", "dog"), [0, 0, 1], None, None)


def test_split_folders(make_images: Make) -> None:
    root = make_images("train/cat/1.png", "Valid/cat/1.png", "test/dog/x/2.png")
    data = Dataset.from_folder(root)
    assert data.frame[["id", "label", "split"]].to_numpy().tolist() == [
        ["Valid/cat/1.png", "cat", "val"],
        ["test/dog/x/2.png", "dog", "test"],
        ["train/cat/1.png", "cat", "train"],
    ]


def test_class_may_be_called_train(make_images: Make) -> None:
    data = Dataset.from_folder(make_images("train/1.png", "car/2.png", "car/2/3.png"))
    assert (data.classes, data.splits) == (("car", "train"), None)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/cat/1.png", "train/2.png"], r"split folders with class folders of images, got 'train/2\.png' outside"),
        (["cat/1.png", " /2.png"], r"must hold class folders of images, got ' /2\.png' outside of them"),
        (["cat/1.png", "2.png"], r"must hold class folders of images, got '2\.png' outside of them"),
        (["cat/1.txt.gz.png/x/.y.png"], "got no images below"),
        (["train/cat/1.png", "test/cat/1.png", "extra/1.png"], r"got both 'test', 'train' and 'extra'; move"),
    ],
)
def test_wrong_layout_is_refused(make_images: Make, paths: list[str], message: str) -> None:
    root = make_images(*paths)
    with pytest.raises(DataError, match=message):
        Dataset.from_folder(root)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'root' must be an existing folder, got '.*nowhere'"):
        Dataset.from_folder(tmp_path / "nowhere")


def test_csv(root: Path, table: Path) -> None:
    data = Dataset.from_csv(table, group="site", split="part")
    assert list(data.frame) == ["id", "label", "group", "split"]
    assert data.ids.tolist() == [row[0] for row in ROWS]
    assert listed(data.groups) == ["s1", "s2", "s1"]
    assert listed(data.splits) == ["train", "val", "test"]


def test_tsv_elsewhere_with_odd_columns(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    rows = [(row[1], f".\\{row[0]}".replace("/", "\\"), 'say "hi"\n', "007") for row in ROWS]
    header = ("the label", "Pfad, Bild", "Größe (mm)", "id")
    path = write(tmp_path_factory.mktemp("other") / "x.tsv", rows, header=header, delimiter="\t")
    data = Dataset.from_csv(path, root=root, image="Pfad, Bild", label="the label", group="id")
    assert data.ids.tolist() == [row[0] for row in ROWS]
    assert data.frame["Größe (mm)"].tolist() == ['say "hi"\n'] * 3
    assert set(data.frame["group"]) == {"007"}


def test_byte_order_mark_is_no_part_of_the_first_column(table: Path) -> None:
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
    assert len(Dataset.from_csv(table)) == 3


def test_labels_and_groups_stay_words(root: Path) -> None:
    rows = [(ROWS[0][0], "01", "1.0"), (ROWS[1][0], "NA", "nan"), (ROWS[2][0], "10", "1e3")]
    data = Dataset.from_csv(write(root / "x.csv", rows, header=("image", "label", "g")), group="g")
    assert data.classes == ("01", "10", "NA")
    assert data.frame["group"].tolist() == ["1.0", "nan", "1e3"]


def test_space_makes_no_classes_and_groups(root: Path) -> None:
    rows = [
        (ROWS[0][0], "a", "p1", "train"),
        (ROWS[1][0], " a ", "p1 ", "test "),
        (ROWS[2][0], "b", "\u00a0p2", " Val"),
    ]
    data = Dataset.from_csv(write(root / "x.csv", rows), group="site", split="part", classes=["b ", "a"])
    assert (data.classes, data.labels.tolist()) == (("b", "a"), [1, 1, 0])
    assert (listed(data.groups), listed(data.splits)) == (["p1", "p1", "p2"], ["train", "test", "val"])


def test_space_in_folders_is_in_the_path_only(make_images: Make) -> None:
    data = Dataset.from_folder(make_images("train /a /p 1.png", "test/a/p1.png"), group=r"p ?")
    assert data.frame.to_numpy().tolist() == [
        ["test/a/p1.png", "a", "test", "p"],
        ["train /a /p 1.png", "a", "train", "p"],
    ]


def test_columns_of_our_names_are_not_taken_unasked(root: Path) -> None:
    rows = [(*row[:2], "fold7", "s") for row in ROWS]
    data = Dataset.from_csv(write(root / "x.csv", rows, header=("image", "label", "split", "group")))
    assert (data.splits, data.groups) == (None, None)
    assert data.frame["split_"].tolist() == ["fold7"] * 3


def test_one_column_may_have_two_roles(root: Path, table: Path) -> None:
    data = Dataset.from_csv(table, group="label")
    assert listed(data.groups) == ["cat", "dog", "cat"]


FRAMES: list[Callable[[dict[str, list[Any]]], Any]] = [
    pd.DataFrame,
    pl.DataFrame,
    pa.table,
    lambda columns: pd.DataFrame(columns, index=[7, 7, 9]),
    lambda columns: pd.DataFrame(columns).astype({"label": "category", "site": "category", "part": "category"}),
]


@pytest.mark.parametrize("make", FRAMES, ids=["pandas", "polars", "pyarrow", "index", "category"])
def test_frames_give_the_set_of_the_table(root: Path, table: Path, make: Callable[..., Any]) -> None:
    frame = make({name: [row[i] for row in ROWS] for i, name in enumerate(COLUMNS)})
    data = Dataset.from_frame(frame, root=root, group="site", split="part")
    wanted = Dataset.from_csv(table, group="site", split="part")
    assert data.frame.astype(str).equals(wanted.frame.astype(str))
    assert (data.classes, data.fingerprint) == (wanted.classes, wanted.fingerprint)


@pytest.mark.parametrize("make", FRAMES[:3], ids=["pandas", "polars", "pyarrow"])
def test_numbers_in_frames_become_words(root: Path, make: Callable[..., Any]) -> None:
    frame = make({"image": [row[0] for row in ROWS], "label": [2, 10, 2], "site": [1.0, 2.0, 2.5]})
    data = Dataset.from_frame(frame, root=root, group="site")
    assert data.frame[["label", "group"]].to_numpy().tolist() == [["2", "1"], ["10", "2"], ["2", "2.5"]]


def test_positions_in_frames_are_no_rows(root: Path) -> None:
    frame = pd.DataFrame({"image": [ROWS[0][0], "x.png"], "label": ["a", "b"]})
    with pytest.raises(DataError, match=r"got no 'x\.png' \(record 1\)"):
        Dataset.from_frame(frame, root=root)


def test_other_things_are_no_frames() -> None:
    with pytest.raises(DataError, match="'frame' must be a frame of pandas, polars or pyarrow, got list"):
        Dataset.from_frame([1])


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS, {"label": "lable"}, r"'label' must name a column, got 'lable'; the table has 'image', .*'part'"),
        (ROWS, {"group": "patient"}, r"'group' must name a column, got 'patient'"),
        (ROWS, {"split": "site"}, r"'split' must say train, val or test, got 's1', 's2'"),
        ([], {}, "the table must have records, got none"),
        ([*ROWS, ("x.png", "", "", "")], {}, r"'label' must be filled in every row, got nothing in .*'label' of row 5"),
        ([*ROWS, ("", "cat", "", "")] * 8, {}, "'image' must be .* of rows 5, 9, 13, 17, 21 and 3 more"),
        ([*ROWS, ("x.png", " ", "", "")], {}, r"got nothing in column 'label' of row 5"),
        ([*ROWS, ("3.png", "dog", "", "")], {}, r"each image must appear once, got '3\.png' again in row 5"),
        ([*ROWS, ("./a//1.png", "dog", "", "")], {}, r"must appear once, got 'a/1\.png' again in row 5"),
        ([*ROWS, ("../3.png", "cat", "", "")], {}, r"must stay below 'root', got '\.\./3\.png' in row 5"),
        ([("/etc/x.png", "cat", "", "")], {}, r"must stay below 'root', got '/etc/x\.png' in row 2"),
        ([("a/../3.png", "cat", "", "")], {}, r"must stay below 'root'"),
        (
            [*ROWS, ("x.png", "cat", "", "")],
            {},
            r"images must exist below .*, got no 'x\.png' \(row 5\); correct 'root'",
        ),
        ([(*row, "x") for row in ROWS], {}, r"must name a table, got rows with more fields than the header"),
        ([*ROWS, (*ROWS[0], "x")], {}, r"must name a table with one header and rows that fit it, got .*line 5"),
    ],
)
def test_wrong_tables_are_refused(root: Path, rows: list[Any], options: dict[str, Any], message: str) -> None:
    path = write(root / "bad.csv", rows)
    with pytest.raises(DataError, match=message):
        Dataset.from_csv(path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": 5}, "'path' must be a path, got 5"),
        ({"root": 5}, "'root' must be a path, got 5"),
        ({"image": 5}, "'image' must be the name of a column, got 5"),
        ({"label": None}, "'label' must be the name of a column, or of several, got None"),
        ({"group": 5}, "'group' must be a column or a regular expression, got 5"),
        ({"split": ["part"]}, r"'split' must be the name of a column, or None, got \['part'\]"),
    ],
)
def test_options_of_the_wrong_type_are_refused(table: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dataset.from_csv(**{"path": table, **options})


def test_options_of_a_folder_of_the_wrong_type_are_refused(root: Path) -> None:
    wrong: Any = 5
    with pytest.raises(ConfigError, match="'root' must be a path, got 5"):
        Dataset.from_folder(wrong)
    with pytest.raises(ConfigError, match="'group' must be a regular expression as text, got 5"):
        Dataset.from_folder(root, group=wrong)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_file_name_that_is_no_text_is_named(make_images: Make) -> None:
    root = make_images("cat/1.png")
    (root / "cat" / os.fsdecode(b"caf\xe9.png")).touch()
    with pytest.raises(DataError, match=r"names of images must be UTF-8, got 'cat/caf\\udce9\.png'; rename"):
        Dataset.from_folder(root)
    paths = [path.relative_to(root).as_posix() for path in root.glob("*/*")]
    frame = pd.DataFrame({"image": paths, "label": "a"}, dtype=object)
    with pytest.raises(DataError, match="names of images must be UTF-8"):
        Dataset.from_frame(frame, root=root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "'path' must name an existing file"),
        (b"", "'path' must name a table with one header"),
        ("image,label\nä.png,x".encode("utf-16"), "'path' must name a UTF-8 table"),
    ],
)
def test_files_that_are_no_tables_are_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        Dataset.from_csv(tmp_path / "x.csv")


def test_folder_in_the_place_of_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'path' must name an existing file"):
        Dataset.from_csv(tmp_path)


GROUPED = ("cat/p1_x.png", "cat/p1_y.png", "dog/p2_x.png", "dog/q3.png")


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        (r"p\d+|q\d+", ["p1", "p1", "p2", "q3"]),
        (r"(\w)\d+", ["p", "p", "p", "q"]),
        (r"/(p|q)(\d)", ["p", "p", "p", "q"]),
        (r"^[^/]+", ["cat", "cat", "dog", "dog"]),
    ],
)
def test_group_by_regular_expression(make_images: Make, pattern: str, groups: list[str]) -> None:
    data = Dataset.from_folder(make_images(*GROUPED), group=pattern)
    assert listed(data.groups) == groups


def test_table_may_group_by_regular_expression(root: Path, table: Path) -> None:
    data = Dataset.from_csv(table, group=r"(\d)\.png")
    assert listed(data.groups) == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (r"p\d+", r"'group' must match every path, got no match of 'p\\\\d\+' in 1 of 4: 'dog/q3\.png'"),
        (r"(p\d)|q\d", r"in 1 of 4: 'dog/q3\.png'"),
        (r"z*", r"no match of 'z\*' in 4 of 4: 'cat/p1_x\.png', .* and 1 more"),
    ],
)
def test_path_without_a_group_is_refused(make_images: Make, pattern: str, message: str) -> None:
    root = make_images(*GROUPED)
    with pytest.raises(DataError, match=message):
        Dataset.from_folder(root, group=pattern)


def test_wrong_regular_expression_is_a_wrong_option(make_images: Make) -> None:
    root = make_images(*GROUPED)
    with pytest.raises(ConfigError, match=r"'group' must be a regular expression, got '\(p'; missing \)"):
        Dataset.from_folder(root, group="(p")


PIXELS = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)


def test_arrays() -> None:
    data = Dataset.from_arrays(PIXELS, ["b", "a", "b"], groups=[1, 1, 2], splits=["train", "test", "val"])
    assert (data.classes, data.labels.tolist(), data.ids.tolist()) == (
        ("a", "b"),
        [1, 0, 1],
        ["000000", "000001", "000002"],
    )
    assert data.frame[["group", "split"]].to_numpy().tolist() == [["1", "train"], ["1", "test"], ["2", "val"]]


def test_numbers_as_labels_keep_their_order_or_index_the_classes() -> None:
    assert Dataset.from_arrays(PIXELS, [10, 9, 10]).classes == ("9", "10")
    named = Dataset.from_arrays(PIXELS, np.array([1, 0, 1]), classes=["no", "yes"])
    assert named.frame["label"].tolist() == ["yes", "no", "yes"]


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        ([0, 1, 1], [1, 0], ["0", "1", "1"]),
        ([0, 1, 1], ["1", "0"], ["0", "1", "1"]),
        ([1, 2, 1], ["1", "2", "3"], ["1", "2", "1"]),
        ([0, 2, 1], ["1", "2", "3"], ["1", "3", "2"]),
        ([0, 1, 1], ["1", "x"], ["1", "x", "x"]),
    ],
)
def test_numbers_that_are_all_classes_are_names(labels: list[int], classes: list[Any], names: list[str]) -> None:
    data = Dataset.from_arrays(PIXELS, labels, classes=classes)
    assert data.frame["label"].tolist() == names
    assert data.classes == tuple(map(str, classes))


@pytest.mark.parametrize(
    ("arrays", "labels", "options", "message"),
    [
        (PIXELS[0], [0], {}, r"'arrays' must have shape \(N, height, width\[, 1 or 3\]\), got \(4, 5\)"),
        (np.zeros((3, 4, 5, 2), np.uint8), [0] * 3, {}, r"got \(3, 4, 5, 2\)"),
        (PIXELS[:0], [], {}, r"got \(0, 4, 5\)"),
        (
            PIXELS.astype(np.int32),
            [0] * 3,
            {},
            "'arrays' must be uint8 or uint16, got int32; scale the images to 0..255",
        ),
        (PIXELS / 255, [0] * 3, {}, "must be uint8 or uint16, got float64"),
        ([PIXELS[0], PIXELS[0, 0]], [0, 1], {}, r"must be images \(height, width\[, 1 or 3\]\), got \(5,\)"),
        ([PIXELS[0], PIXELS[0, :2] / 255], [0, 1], {}, "must be uint8 or uint16, got float64"),
        (PIXELS, [0, 1], {}, r"'labels' must have shape \(3,\) like the images, got \(2,\)"),
        (PIXELS, [0, 1, 0], {"groups": [1]}, r"'groups' must have shape \(3,\)"),
        (PIXELS, [0, 1, 2], {"classes": ["a", "b"]}, "'labels' must index the 2 classes, got 0 to 2"),
        (PIXELS, ["a", None, "b"], {}, "'label' must be filled in every row, got nothing in .* of record 1"),
        (PIXELS, [0, 1, 0], {"splits": ["train", "hold", "test"]}, "'split' must say train, val or test, got 'hold'"),
    ],
)
def test_wrong_arrays_are_refused(arrays: Any, labels: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_arrays(arrays, labels, **options)
