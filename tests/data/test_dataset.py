from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.dataset import Dataset
from imgcls.data.spec import ImageSpec

Make = Callable[..., Path]
PATHS = ("cat/1.png", "cat/2.png", "dog/1.png", "fox/1.jpg")


def words(labels: str, **options: Any) -> Dataset:
    return Dataset.from_arrays(np.zeros((len(labels), 4, 4), np.uint8), list(labels), **options)


def test_classes_are_alphabetical_or_as_given() -> None:
    assert words("cab").classes == ("a", "b", "c")
    data = words("cab", classes=["c", "x", "b", "a"])
    assert (data.classes, data.labels.tolist()) == (("c", "x", "b", "a"), [0, 3, 2])
    assert data.counts() == {"c": 1, "x": 0, "b": 1, "a": 1}


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["a", "a ", "b"], r"'classes' must name each class once, got \['a', 'a', 'b'\]"),
        (["a", "bc"], r"'classes' must name every label, got none for 'b'; did you mean 'bc'"),
    ],
)
def test_wrong_class_order_is_refused(classes: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        words("ab", classes=classes)


@pytest.mark.parametrize(
    ("labels", "options", "positive", "given"),
    [
        ("aab", {}, "b", False),
        ("abb", {}, "a", False),
        ("ab", {}, "b", False),
        ("ab", {"classes": ["b", "a"]}, "a", False),
        ("aab", {"positive": "a"}, "a", True),
        ("abc", {}, None, False),
        ("aaa", {}, None, False),
    ],
)
def test_positive_class(labels: str, options: dict[str, Any], positive: str | None, given: bool) -> None:
    data = words(labels, **options)
    assert (data.positive, data.positive_given) == (positive, given)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("ab", r"'positive' must be a class, got 'c'; there are 'a', 'b'"),
        ("abc", r"'positive' must be left out unless there are two classes, got 3"),
    ],
)
def test_wrong_positive_class_is_refused(labels: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        words(labels, positive="c")


@pytest.mark.parametrize(("positive", "name"), [(1, "1"), (0.0, "0"), (np.int64(1), "1"), (" 0", "0")])
def test_positive_class_may_be_a_number(positive: Any, name: str) -> None:
    assert words("001", positive=positive).positive == name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"positive": True}, "'positive' must be the name of a class, got True; put it in quotes"),
        ({"positive": ["a"]}, r"'positive' must be the name of a class, got \['a'\]"),
        ({"classes": "ab"}, "'classes' must be a list of names, got 'ab'"),
        ({"classes": 2}, "'classes' must be a list of names, got 2"),
        ({"classes": ["a", None]}, r"'classes' must be a list of names, got \['a', None\]; put each in quotes"),
    ],
)
def test_names_of_the_wrong_type_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        words("ab", **options)


def test_new_names_of_the_wrong_type_are_refused() -> None:
    wrong: list[Any] = [{"a": None}, {"a": " "}, "ab"]
    for names in wrong:
        with pytest.raises(ConfigError, match="'names' must give new names by old ones, got"):
            words("ab").relabel(names)


def test_sample_of_files_is_decoded_as_it_is(tmp_path: Path) -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5)
    (tmp_path / "cat").mkdir()
    Image.fromarray(grey).save(tmp_path / "cat" / "p1.png")
    sample = Dataset.from_folder(tmp_path, group=r"p\d")[0]
    assert (sample.id, sample.label, sample.group) == ("cat/p1.png", "cat", "p1")
    assert np.array_equal(sample.image, grey[..., None])


def test_sample_of_arrays_and_iteration() -> None:
    pixels = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    data = Dataset.from_arrays(pixels, ["x", "y"])
    assert [sample.label for sample in data] == ["x", "y"]  # type: ignore[attr-defined]
    assert np.array_equal(data[-1].image, pixels[1])
    assert np.array_equal(data.pixels(1, ImageSpec(size=(3, 4))), pixels[1])


def test_fingerprint_survives_a_copy(make_images: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = make_images(*PATHS)
    copy = tmp_path_factory.mktemp("copy") / "x"
    shutil.copytree(root, copy, copy_function=shutil.copyfile)
    one, two = Dataset.from_folder(root), Dataset.from_folder(copy)
    assert one.fingerprint == two.fingerprint
    assert not np.array_equal(one.times(), two.times())


def _moved(root: Path) -> Dataset:
    (root / "cat/1.png").rename(root / "dog/9.png")
    return Dataset.from_folder(root)


def _longer(root: Path) -> Dataset:
    with (root / "cat/1.png").open("ab") as file:
        file.write(b"x")
    return Dataset.from_folder(root)


CHANGES: list[Callable[[Path], Dataset]] = [
    _moved,
    _longer,
    lambda root: Dataset.from_folder(root, classes=["dog", "cat", "fox"]),
    lambda root: Dataset.from_folder(root, group=r"\d"),
    lambda root: Dataset.from_folder(root).subset([0, 1, 2]),
    lambda root: Dataset.from_folder(root).subset([1, 0, 2, 3]),
    lambda root: Dataset.from_folder(root).relabel({"fox": "wolf"}),
]


@pytest.mark.parametrize("change", CHANGES)
def test_fingerprint_changes_with_the_records(make_images: Make, change: Callable[[Path], Dataset]) -> None:
    root = make_images(*PATHS)
    before = Dataset.from_folder(root).fingerprint
    assert change(root).fingerprint != before


def test_fingerprint_does_not_depend_on_time_or_positive_class(make_images: Make) -> None:
    root = make_images(*PATHS[:3])
    before = Dataset.from_folder(root).fingerprint
    os.utime(root / PATHS[0], (1, 1))
    assert Dataset.from_folder(root, positive="cat").fingerprint == before


def test_fingerprint_of_arrays_knows_pixels_shape_and_roles() -> None:
    pixels = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    splits = ["train", "test"]
    sets = [
        Dataset.from_arrays(pixels, ["a", "b"]),
        Dataset.from_arrays(pixels[::-1], ["a", "b"]),
        Dataset.from_arrays(pixels.reshape(2, 2, 8), ["a", "b"]),
        Dataset.from_arrays(pixels, ["a", "b"], groups=splits),
        Dataset.from_arrays(pixels, ["a", "b"], splits=splits),
    ]
    assert len({data.fingerprint for data in sets}) == len(sets)


@pytest.mark.parametrize("positions", [[2, 0], np.array([2, 0]), np.array([2, 0], dtype=np.uint8)])
def test_subset_takes_positions_in_their_order(positions: Any) -> None:
    data = words("abc", groups=["x", "y", "z"]).subset(positions)
    assert (data.frame["label"].tolist(), data.frame["group"].tolist()) == (["c", "a"], ["z", "x"])
    assert (data.classes, len(data), data.arrays is not None and len(data.arrays)) == (("a", "b", "c"), 2, 2)


def test_subset_takes_a_mask_and_keeps_the_positive_class() -> None:
    data = words("aab", positive="a").subset(np.array([True, False, True]))
    assert (data.ids.tolist(), data.positive, data.positive_given) == (["000000", "000002"], "a", True)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([0, 2, 0], "must name each record once, got 0 again"),
        ([0, 3], "must be from 0 to 2, got 0 to 3"),
        ([-1], "must be from 0 to 2, got -1 to -1"),
    ],
)
def test_subset_refuses_repeated_and_unknown_positions(positions: list[int], message: str) -> None:
    with pytest.raises(DataError, match=f"'positions' {message}"):
        words("abc").subset(positions)


@pytest.mark.parametrize("positions", [[True, False], [0.5], [[0]], []])
def test_subset_refuses_what_is_no_choice(positions: Any) -> None:
    with pytest.raises(DataError, match=r"'positions' must be whole numbers \(M,\) or a mask \(3,\)"):
        words("abc").subset(positions)


def test_sample_is_repeatable_and_without_repeats() -> None:
    data = words("abcdefghij" * 3)
    ids = [data.sample(12, seed=seed).ids.tolist() for seed in (0, 0, 1)]
    assert ids[0] == ids[1] == sorted(set(ids[0]))
    assert ids[0] != ids[2]


@pytest.mark.parametrize("n", [0, -1, 4, 1.5])
def test_sample_of_an_impossible_size_is_refused(n: Any) -> None:
    with pytest.raises(DataError, match=f"'n' must be from 1 to 3, got {n}"):
        words("abc").sample(n)


def test_relabel_merges_classes() -> None:
    data = words("vbnv").relabel({"v": "ill", "b": "ill"})
    assert (data.classes, data.frame["label"].tolist()) == (("ill", "n"), ["ill", "ill", "n", "ill"])
    assert (data.positive, data.labels.tolist()) == ("n", [0, 0, 1, 0])
    assert words("vbn").relabel({"b": "v"}, positive="v").positive_given


@pytest.mark.parametrize(
    ("names", "positive", "given"),
    [
        ({"b": "x"}, "a", True),
        ({"a": "x"}, "x", True),
        ({"a": "b", "b": "a"}, "b", True),
        ({"a": "b"}, None, False),
    ],
)
def test_relabel_keeps_the_positive_class_that_was_given(
    names: dict[str, str], positive: str | None, given: bool
) -> None:
    data = words("aab", positive="a").relabel(names)
    assert (data.positive, data.positive_given) == (positive, given)


def test_relabel_takes_numbers_as_names_and_no_space() -> None:
    assert words("01").relabel({1: 7, "0": "x "}).classes == ("x", "7")  # type: ignore[dict-item]


def test_relabel_of_an_unknown_class_is_refused() -> None:
    with pytest.raises(DataError, match=r"'names' must rename classes of the set, got 'virs'; did you mean"):
        Dataset.from_arrays(np.zeros((2, 4, 4), np.uint8), ["virus", "none"]).relabel({"virs": "x"})


def test_source_rebuilds_the_set(make_images: Make) -> None:
    data = Dataset.from_folder(make_images(*PATHS), group=r"\d", classes=["fox", "dog", "cat"])
    again = Dataset.from_config(data.source or {})
    assert (again.fingerprint, again.classes) == (data.fingerprint, data.classes)


def test_source_of_a_table_rebuilds_the_set(make_images: Make) -> None:
    root = make_images("1.png", "2.png")
    (root / "x.csv").write_text("file,kind,part\n1.png,a,train\n2.png,b,test\n")
    data = Dataset.from_csv(root / "x.csv", image="file", label="kind", split="part", positive="a")
    again = Dataset.from_config(data.source or {})
    assert (again.fingerprint, again.positive, again.positive_given) == (data.fingerprint, "a", True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "'data.from' must name a reader, got None"),
        ("folder", "'data' must be options by name, got 'folder'"),
        ({"from": ["folder"]}, r"'data\.from' must name a reader, got \['folder'\]"),
        ({"from": "folder", "root": ".", 5: 6}, r"'data\.5' must be an option of 'folder'"),
        ({"from": "folder", "root": 5}, "'root' must be a path, got 5"),
        ({"from": "foldr"}, r"'data\.from' must name a reader, got 'foldr'; did you mean 'folder'\?"),
        ({"from": "folder"}, r"'data\.root' must be given"),
        (
            {"from": "folder", "root": ".", "grop": "x"},
            r"'data\.grop' must be an option of 'folder'; did you mean 'group'",
        ),
    ],
)
def test_wrong_source_is_refused(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Dataset.from_config(options)


def test_set_in_memory_has_no_paths() -> None:
    data = words("ab")
    with pytest.raises(DataError, match="'data' must have files, got images in memory"):
        data.path(0)
    assert attrs.evolve(data, positive="a").positive == "a"
