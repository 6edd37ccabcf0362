"""Several sets as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.dataset import Dataset

Make = Callable[..., Path]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)


@pytest.fixture
def root(make_images: Make) -> Path:
    return make_images("x/cat/1.png", "x/dog/1.png", "y/z/dog/1.png", "y/z/fox/2.png", "y/z/fox/2_m.png")


def test_roots_are_brought_to_the_common_one(root: Path) -> None:
    one, two = Dataset.from_folder(root / "x"), Dataset.from_folder(root / "y/z", mask="<stem>_m*")
    data = Dataset.concat([one, two])
    assert data.root is not None
    assert data.root.samefile(root)
    assert data.ids.tolist() == ["x/cat/1.png", "x/dog/1.png", "y/z/dog/1.png", "y/z/fox/2.png"]
    assert data.frame["mask"].tolist() == ["", "", "", "y/z/fox/2_m.png"]
    assert (data.classes, data.labels.tolist()) == (("cat", "dog", "fox"), [0, 1, 1, 2])
    assert data.sizes is not None
    assert one.sizes is not None
    assert two.sizes is not None
    assert data.sizes[0].tolist() == [*one.sizes[0], *two.sizes[0]]
    assert data.sizes[1].tolist() == [0, 0, *two.sizes[1]]
    assert len(data.times()) == len(data.times("mask")) == 4
    assert np.array_equal(data.original(3), two.original(1))


def test_set_inside_of_another_folder(root: Path) -> None:
    outer = Dataset.from_names(root, pattern=r"(?P<label>\w+)/\w+\.png").subset([3])
    data = Dataset.concat([Dataset.from_folder(root / "x"), outer])
    assert data.ids.tolist() == ["x/cat/1.png", "x/dog/1.png", "y/z/fox/2.png"]


def test_links_to_one_folder_are_one_place(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("links") / "x"
    link.symlink_to(root / "x")
    with pytest.raises(DataError, match=r"'datasets' must have no image in common, got 'cat/1.png' in two of them"):
        Dataset.concat([Dataset.from_folder(root / "x"), Dataset.from_folder(link)])


def test_relative_and_absolute_roots_meet(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    data = Dataset.concat([Dataset.from_folder("x"), Dataset.from_folder(root / "y")])
    assert len(data.times()) == len(data) == 5


def test_fingerprint_is_that_of_the_whole(root: Path) -> None:
    parts = [Dataset.from_folder(root / "x"), Dataset.from_folder(root / "y/z")]
    prints = {Dataset.concat(parts).fingerprint for _ in range(2)}
    assert len(prints) == 1
    assert Dataset.concat(parts[::-1]).fingerprint not in prints
    half = Dataset.from_folder(root / "x")
    assert Dataset.concat([half.subset([0]), half.subset([1])]).fingerprint == half.fingerprint


def memory(labels: str = "abba", pixels: Any = PIXELS, **options: Any) -> Dataset:
    return Dataset.from_arrays(pixels, list(labels), **options)


def test_arrays_are_put_behind_each_other() -> None:
    data = Dataset.concat([memory(), memory("cc", PIXELS[:2] + np.uint8(1))])
    assert isinstance(data.arrays, np.ndarray)
    assert (len(data.arrays), data.root, data.classes) == (6, None, ("a", "b", "c"))
    assert data.ids.tolist()[3:5] == ["0/000003", "1/000000"]
    assert data.fingerprint == Dataset.concat([memory(), memory("cc", PIXELS[:2] + np.uint8(1))]).fingerprint


def test_parts_of_one_set_keep_their_ids() -> None:
    data = memory()
    assert Dataset.concat([data.subset([2, 3]), data.subset([0])]).ids.tolist() == ["000002", "000003", "000000"]
    assert Dataset.concat([data.subset([0, 1]), data.subset([2, 3])]).fingerprint == data.fingerprint


def test_several_shapes_and_types_stand_together() -> None:
    ragged = memory("ab", [PIXELS[0], PIXELS[1, :2]])
    deep = memory("ab", PIXELS[2:].astype(np.uint16))
    data = Dataset.concat([ragged, memory(), Dataset.concat([deep, ragged])]).subset([0, 1, 5, 6, 9])
    images = [data.original(k)[..., 0] for k in range(5)]
    wanted = [PIXELS[0], PIXELS[1, :2], PIXELS[3], PIXELS[2].astype(np.uint16), PIXELS[1, :2]]
    assert [image.dtype for image in images] == [image.dtype for image in wanted]
    assert all(map(np.array_equal, images, wanted))


@pytest.mark.parametrize(
    ("first", "second", "wanted", "expected"),
    [
        ({}, {}, None, ("b", False)),
        ({"positive": "a"}, {"positive": "a"}, None, ("a", True)),
        ({"positive": "a"}, {"positive": "b"}, None, ("b", False)),
        ({"positive": "a"}, {}, None, ("b", False)),
        ({"positive": "a"}, {}, "a", ("a", True)),
    ],
)
def test_positive_class_is_that_of_all(
    first: dict[str, Any], second: dict[str, Any], wanted: str | None, expected: tuple[str, bool]
) -> None:
    data = Dataset.concat([memory(**first), memory(**second)], positive=wanted)
    assert (data.positive, data.positive_given) == expected


def test_classes_without_records_stay() -> None:
    data = Dataset.concat([memory(classes=["b", "x", "a"]), memory("cc", PIXELS[:2])])
    assert data.counts() == {"b": 2, "x": 0, "a": 2, "c": 2}


def test_roles_are_kept_and_other_columns_may_be_missing(root: Path) -> None:
    (root / "x.csv").write_text("image,label,w,age\nx/cat/1.png,a,2,7\n")
    (root / "y.csv").write_text("image,label,w,site\nx/dog/1.png,b,3,s\n")
    data = Dataset.concat([Dataset.from_csv(root / name, weight="w") for name in ("x.csv", "y.csv")])
    assert data.weights is not None
    assert data.weights.tolist() == [2, 3]
    assert data.frame["age"].isna().tolist() == [False, True]
    assert data.rows is None


@pytest.mark.parametrize("role", ["groups", "splits", "weights"])
def test_roles_in_one_only_are_refused(role: str) -> None:
    values: Any = {"groups": list("pqpq"), "splits": ["train"] * 4, "weights": [1] * 4}[role]
    with pytest.raises(DataError, match=f"'datasets' must all have a column '{role[:-1]}' or none, got 1 of 2 with it"):
        Dataset.concat([Dataset.from_arrays(PIXELS, list("abba"), **{role: values}), memory()])


def test_views_in_one_only_are_refused(root: Path) -> None:
    (root / "x.csv").write_text("image,label,v\nx/cat/1.png,a,y/z/fox/2.png\n")
    with pytest.raises(DataError, match="must all have a column 'view:v' or none, got 1 of 2"):
        Dataset.concat([Dataset.from_csv(root / "x.csv", views={"v": "v"}), Dataset.from_folder(root / "y")])


def test_thresholds_of_masks_must_be_one(root: Path) -> None:
    one, two = (Dataset.from_folder(root / "y/z", mask="<stem>_m*", mask_threshold=k) for k in (1, 2))
    with pytest.raises(DataError, match=r"'datasets' must all have one 'mask_threshold', got \[1\.0, 2\.0\]"):
        Dataset.concat([one, two])
    assert Dataset.concat([Dataset.from_folder(root / "x"), two]).mask_threshold == 2


def test_files_and_memory_are_not_mixed(root: Path) -> None:
    for pair in ([memory(), Dataset.from_folder(root / "x")], [Dataset.from_folder(root / "x"), memory()]):
        with pytest.raises(DataError, match="'datasets' must all have files or all be in memory, got both"):
            Dataset.concat(pair)


@pytest.mark.parametrize("datasets", [[], [5], "ab"])
def test_other_things_are_no_sets(datasets: Any) -> None:
    with pytest.raises(DataError, match="'datasets' must be a list of at least one Dataset"):
        Dataset.concat(datasets)


@pytest.mark.parametrize("positive", [["a"], True])
def test_positive_class_is_a_name(positive: Any) -> None:
    with pytest.raises(ConfigError, match="'positive' must be the name of a class"):
        Dataset.concat([memory()], positive=positive)
