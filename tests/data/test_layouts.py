"""Sets whose labels stand in other tables, in lines and in names; and how each set can be read again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls.core.config import from_yaml, to_yaml
from imgcls.core.errors import ConfigError, DataError
from imgcls.data.dataset import Dataset

Make = Callable[..., Path]


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def stems(root: Path, rows: str, **options: Any) -> Dataset:
    table = written(root / "labels" / "labels.csv", f"filename,label\n{rows}")
    return Dataset.from_csv(table, root=root / "data", image="filename", match="stem", **options)


@pytest.fixture
def shelf(make_images: Make) -> Path:
    return make_images("data/a.png", "data/b.jpg", "data/x/c.PNG", "data/x/d.e.png", "data/y/c.png")


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        ("a b", ["a.png", "b.jpg"]),
        ("a.jpg b.png", ["a.png", "b.jpg"]),
        ("x/c y/c.tiff", ["x/c.PNG", "y/c.png"]),
        ("d.e a.PNG", ["x/d.e.png", "a.png"]),
        (r".\x\c.gif ./a", ["x/c.PNG", "a.png"]),
    ],
)
def test_stems_find_their_files(shelf: Path, names: str, ids: list[str]) -> None:
    data = stems(shelf, "".join(f"{name},k\n" for name in names.split()))
    assert data.ids.tolist() == ids


def test_files_without_a_row_are_left_out(shelf: Path) -> None:
    data = stems(shelf, "b,1\n")
    assert (data.ids.tolist(), data.classes) == (["b.jpg"], ("1",))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,k\nz,k\n", r"images must exist below '.*data', got no file for 'z' \(row 3\)"),
        ("c,k\n", r"names must mean one file each, got 'c' for 'x/c\.PNG', 'y/c\.png' \(row 2\); give the folder too"),
        ("a,k\na.jpg,k\n", r"each image must appear once, got 'a\.png' again in row 3"),
        ("z/a,k\n", r"got no file for 'z/a' \(row 2\)"),
        ("A,k\n", r"got no file for 'A'"),
        ("../labels/labels,k\n", r"must stay below 'root', got '\.\./labels/labels' in row 2"),
    ],
)
def test_wrong_stems_are_refused(shelf: Path, rows: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        stems(shelf, rows)


def test_stem_with_two_extensions_is_ambiguous(make_images: Make) -> None:
    root = make_images("data/a.png", "data/a.jpg")
    with pytest.raises(DataError, match=r"got 'a\.png' for 'a\.jpg', 'a\.png' \(row 2\); .*match='path'"):
        stems(root, "a.png,k\n")


@pytest.mark.parametrize("match", ["stems", None, ["stem"], True])
def test_other_ways_to_match_are_refused(shelf: Path, match: Any) -> None:
    with pytest.raises(ConfigError, match="'match' must be 'path' or 'stem', got"):
        Dataset.from_csv(written(shelf / "x.csv", "image,label\na.png,k\n"), match=match)


@pytest.fixture
def numbered(make_images: Make) -> Path:
    return make_images(*(f"{number:06d}.jpg" for number in (1, 2, 3)))


def lines(root: Path, text: str, **options: Any) -> Dataset:
    return Dataset.from_lines(written(root / "labels.txt", text), root=root, **options)


@pytest.mark.parametrize("text", ["b\na\nb\n", "b\r\na\r\nb", "\ufeffb\n a \nb\n\n\n"])
def test_line_names_the_image_of_its_number(numbered: Path, text: str) -> None:
    data = lines(numbered, text)
    assert data.ids.tolist() == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert (data.classes, data.labels.tolist()) == (("a", "b"), [1, 0, 1])


@pytest.mark.parametrize(
    ("paths", "name", "first"),
    [
        (["0.png", "1.png"], "%d.png", 0),
        (["x/im_09.png", "x/im_10.png"], "x/im_%02d.png", 9),
        (["5.png", "6.png"], "./%d.png", 5),
        (["x/5.png", "x/6.png"], ".\\x\\\\%d.png", 5),
        (["50%_1.png", "50%_2.png"], "50%%_%d.png", 1),
    ],
)
def test_names_and_numbers_of_lines_may_differ(make_images: Make, paths: list[str], name: str, first: int) -> None:
    data = lines(make_images(*paths), "a\nb\n", name=name, first=first)
    assert data.ids.tolist() == paths


def test_lines_have_groups_by_expression(numbered: Path) -> None:
    data = lines(numbered, "a\nb\nb\n", group=r"0([12]|3)")
    assert data.frame["group"].tolist() == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a\nb\nb\n", {"first": 0}, r"got 3 lines from number 0 on and no line for '000003\.jpg'; check 'first'"),
        ("a\nb\n", {}, r"each image must have a line, got 2 lines from number 1 on and no line for '000003\.jpg'"),
        ("a\nb\n", {"name": "./%06d.jpg"}, r"and no line for '000003\.jpg'"),
        ("a\nb\nb\nb\n", {}, r"images must exist below .*, got no '000004\.jpg' \(record 3\)"),
        ("a\n\nb\n\n", {}, r"'path' must have a label in every line, got nothing in line 2 of '.*labels\.txt'; "),
        ("a\n\n\nb\n", {}, r"nothing in line 2 and 1 more of .*; write it there: the number of a line names its"),
        ("\n", {}, r"got nothing in line 1 of"),
        ("0.5\n1.5\n2\n", {}, r"'label' must hold words or whole numbers, got '0\.5', '1\.5'"),
        ("a\nb\nb\n", {"name": "../%06d.jpg"}, r"must stay below 'root', got '\.\./000001\.jpg'"),
        ("a\nb\nb\n", {"name": "/%06d.jpg"}, "must stay below 'root'"),
        ("a\nb\nb\n", {"name": "\0%06d.jpg"}, "must stay below 'root'"),
        ("ä\nb\nb\n", {"encoding": "ascii"}, "'path' must name a text in ascii, got"),
    ],
)
def test_wrong_lines_are_refused(numbered: Path, text: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        lines(numbered, text, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": -1}, "'first' must be a whole number of at least 0, got -1"),
        ({"first": True}, "'first' must be a whole number of at least 0, got True"),
        ({"first": 1.0}, "'first' must be a whole number"),
        ({"name": 5}, "'name' must be a path with a place for a number, got 5"),
        ({"encoding": 8}, "'encoding' must be the name of an encoding, got 8"),
        ({"encoding": "utf-9"}, "'encoding' must be one that Python knows, got 'utf-9'"),
        ({"group": 5}, "'group' must be a regular expression as text, got 5"),
        *(
            ({"name": name}, "'name' must have one place for a number, such as '%06d.jpg'")
            for name in ("x.jpg", "%d%d.jpg", "%s.jpg", "%6d.jpg", "%%d.jpg", "9%.jpg", "%.2f.jpg", "%(a)d.jpg")
        ),
    ],
)
def test_options_of_lines_are_checked(numbered: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        lines(numbered, "a\nb\nb\n", **options)


@pytest.mark.parametrize("path", ["nowhere.txt", "."])
def test_missing_text_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="'path' must name an existing file"):
        Dataset.from_lines(tmp_path / path, root=tmp_path)


NAMED = ("train/p1_cat_1.png", "train/p2_dog_1.png", "valid/p3_cat_1.png")
PATTERN = r"(?P<split>\w+)/(?P<group>p\d+)_(?P<label>[a-z]+)"


def test_names_give_label_group_and_split(make_images: Make) -> None:
    data = Dataset.from_names(make_images(*NAMED, "train/notes.txt.png/.hidden.png"), pattern=PATTERN)
    assert data.frame[["id", "label", "group", "split"]].to_numpy().tolist() == [
        [NAMED[0], "cat", "p1", "train"],
        [NAMED[1], "dog", "p2", "train"],
        [NAMED[2], "cat", "p3", "val"],
    ]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            r"p1_(?P<label>\w+)_",
            r"'pattern' must match every path, got no match of .* in 2 of 3: 'train/p2_dog_1\.png'",
        ),
        (r"(?P<label>\w+)/|$", None),
        (r"_(?P<label>cat)?", r"'pattern' must match every path, got no 'label' in 1 of 3: 'train/p2_dog_1\.png'"),
        (r"_(?P<label>[a-z]+)_(?P<split>\d)", "'split' must say train, val or test, got '1'"),
        (r"(?P<group>x)?_(?P<label>[a-z]+)", "got no 'group' in 3 of 3"),
    ],
)
def test_names_that_do_not_match_are_refused(make_images: Make, pattern: str, message: str | None) -> None:
    root = make_images(*NAMED)
    if message is None:
        assert Dataset.from_names(root, pattern=pattern).classes == ("train", "valid")
        return
    with pytest.raises(DataError, match=message):
        Dataset.from_names(root, pattern=pattern)


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(cat)", r"'pattern' must have a group named 'label' and no others .*, got '\(cat\)'; write \(\?P<label>"),
        ("(?P<label>a)(?P<site>b)", "and no others than 'group' and 'split'"),
        ("(?P<label>", "'pattern' must be a regular expression, got"),
        (5, "'pattern' must be a regular expression as text, got 5"),
    ],
)
def test_expressions_of_names_are_checked(make_images: Make, pattern: Any, message: str) -> None:
    root = make_images(*NAMED)
    with pytest.raises(ConfigError, match=message):
        Dataset.from_names(root, pattern=pattern)


def test_names_in_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'pattern' must match every path, got no images below"):
        Dataset.from_names(tmp_path, pattern="(?P<label>a)")


def test_folder_that_cannot_be_read_is_named(make_images: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root, scandir = make_images("cat/1.png", "dog/1.png"), os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"folders below 'root' must be readable, got .*Permission denied: '.*dog'"):
        Dataset.from_folder(root)


@pytest.mark.parametrize(
    ("paths", "empty", "told"),
    [
        (["cat/1.png", "dog/x/1.png"], ["cat/2", ".git"], None),
        (
            ["cat/1.png", "dog/1.png"],
            ["emu", "fox/x"],
            "are no classes: 'emu', 'fox'; links to folders are not followed",
        ),
        (["train/cat/1.png", "test/dog/1.png"], ["train/emu", "val"], "are no classes: 'train/emu', 'val'; links"),
    ],
)
def test_folders_without_images_are_told(
    make_images: Make,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    paths: list[str],
    empty: list[str],
    told: str | None,
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET")
    root = make_images(*paths)
    for name in empty:
        (root / name).mkdir(parents=True)
        (root / name / "1.heic").touch()
    assert len(Dataset.from_folder(root)) == 2
    err = capsys.readouterr().err
    assert told in err if told else not err


def folder_source(root: Path) -> Dataset:
    options: dict[str, Any] = {"mask": "masks/<stem>.png", "views": {"uv": "uv/<stem>.*"}, "mask_threshold": 3.5}
    return Dataset.from_folder(root, group=r"\d", classes=[2, "1"], positive=2, **options)


def csv_source(root: Path) -> Dataset:
    written(
        root / "x.csv", "f;l;g;s;w;m;v\n1/a.png;ä 1;x;train;1;masks/a.png;uv/a.jpg\n2/b.png;2;y;test;0.5;;uv/b.jpg\n"
    )
    roles: dict[str, Any] = {"image": "f", "label": "l", "group": "g", "split": "s", "weight": "w", "mask": "m"}
    return Dataset.from_csv(root / "x.csv", delimiter=";", views={"uv": "v"}, mask_threshold=9, positive="ä 1", **roles)


def stem_source(root: Path) -> Dataset:
    (root / "labels.csv").write_bytes("image,label,other\nuv/a,é;z,\nuv/b,,\n".encode("latin-1"))
    options: dict[str, Any] = {"match": "stem", "encoding": "latin-1", "label_separator": ";", "group": r"([ab])\."}
    return Dataset.from_csv(root / "labels.csv", classes=("z", "é"), **options)


def columns_source(root: Path) -> Dataset:
    table = written(root / "x.tsv", "image\tno\t1\na.png\t1\t1\nb.png\t0\t0\n")
    return Dataset.from_csv(table, root=root / "masks", label=["no", "1"])


def lines_source(root: Path) -> Dataset:
    for number, name in enumerate("ab", start=3):
        (root / "uv" / f"{name}.jpg").rename(root / "uv" / f"{number}.jpg")
    return lines(root, "x\nx\n", name="uv/%d.jpg", first=3, group=r"\d", classes=["x", "y"], encoding="utf-8")


def names_source(root: Path) -> Dataset:
    pattern = r"(?P<label>\d)/(?P<group>\w)"
    return Dataset.from_names(root, pattern=pattern, mask="masks/<stem>.*", views={"uv": "uv/<stem>.*"}, positive=1)


def npz_source(root: Path) -> Dataset:
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {
        f"{part}_images": rng.integers(0, 256, (4, 5, 6), dtype=np.uint8) for part in ("train", "val")
    }
    np.savez(root / "x.npz", train_labels=[[0], [1], [1], [0]], val_labels=[[1]] * 4, **parts)
    return Dataset.from_npz(root / "x.npz", classes=np.array(["no", "on"]), positive=np.str_("no"))  # type: ignore[arg-type]


SOURCES = [folder_source, csv_source, stem_source, columns_source, lines_source, names_source, npz_source]


@pytest.mark.parametrize("make", SOURCES)
def test_source_in_yaml_rebuilds_the_set(make_images: Make, make: Callable[[Path], Dataset]) -> None:
    root = make_images("1/a.png", "2/b.png", "masks/a.png", "masks/b.png", "uv/a.jpg", "uv/b.jpg")
    data = make(root)
    again = Dataset.from_config(from_yaml(to_yaml(data.source)))
    assert (again.fingerprint, again.classes, again.positive) == (data.fingerprint, data.classes, data.positive)
    assert (again.positive_given, again.mask_threshold) == (data.positive_given, data.mask_threshold)
    assert again.frame.equals(data.frame)
    assert again.source == data.source


def test_other_sets_have_no_source(make_images: Make) -> None:
    data = Dataset.from_folder(make_images("a/1.png", "b/1.png"))
    assert data.source == {"from": "folder", "root": str(data.root)}
    for other in (data.subset([0, 1]), data.relabel({"a": "c"}), data.sample(2), Dataset.concat([data])):
        assert other.source is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"from": "lines", "path": "x"}, r"'data\.root' must be given"),
        ({"from": "names", "root": "x"}, r"'data\.pattern' must be given"),
        ({"from": "npz"}, r"'data\.path' must be given"),
        ({"from": "npz", "path": "x", "group": "y"}, r"'data\.group' must be an option of 'npz'; there are"),
        ({"from": "arrays"}, r"'data\.from' must name a reader, got 'arrays'; there are 'csv'"),
    ],
)
def test_wrong_sources_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dataset.from_config(options)
