"""Images in memory: arrays, lists of several shapes, npz files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.dataset import Dataset
from imgcls.data.memory import Items
from imgcls.data.spec import ImageSpec

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6), dtype=np.uint8)
RAGGED: list[NDArray[Any]] = [np.full((3 + k, 4, *([3] * (k % 2))), k, np.uint8) for k in range(4)]


def made(arrays: Any, labels: Any = "abba", **options: Any) -> Dataset:
    return Dataset.from_arrays(arrays, list(labels) if isinstance(labels, str) else labels, **options)


def test_list_of_one_shape_is_an_array() -> None:
    data = made(list(PIXELS))
    assert isinstance(data.arrays, np.ndarray)
    assert data.fingerprint == made(PIXELS).fingerprint


def test_lists_of_several_shapes_are_kept() -> None:
    data = made(RAGGED)
    assert isinstance(data.arrays, Items)
    assert [data[k].image.shape for k in range(4)] == [(3, 4, 1), (4, 4, 3), (5, 4, 1), (6, 4, 3)]
    assert data.pixels(3, ImageSpec(size=2, channels=1)).tolist() == [[[3], [3]]] * 2
    assert [int(image.flat[0]) for image in data.arrays] == [0, 1, 2, 3]


def test_types_are_not_mixed_into_one() -> None:
    data = made([PIXELS[0], PIXELS[1].astype(np.uint16)], "ab")
    assert [data[k].image.dtype for k in range(2)] == [np.uint8, np.uint16]


def test_pictures_of_pillow_are_as_they_look() -> None:
    colours = Image.fromarray(PIXELS[0]).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)
    data = made([colours, Image.fromarray(PIXELS[1])], "ab")
    assert np.array_equal(data.original(0), np.asarray(colours.convert("RGB")))
    assert data.original(1).shape == (5, 6, 1)
    turned = Image.fromarray(PIXELS[2])
    turned.getexif()[0x0112] = 3
    assert np.array_equal(made([turned], "a").original(0)[..., 0], PIXELS[2, ::-1, ::-1])


def test_deep_images_stay_deep() -> None:
    deep = PIXELS.astype(np.uint16) * np.uint16(200)
    data = made(deep)
    assert np.array_equal(data.original(2), deep[2][..., None])
    assert data.fingerprint != made(PIXELS).fingerprint
    assert data.fingerprint != made(deep.view(np.uint8)[..., :6]).fingerprint


def test_subsets_of_lists_are_theirs() -> None:
    data = made(RAGGED)
    part = data.subset([3, 1]).subset([1])
    assert (part.ids.tolist(), part[0].image.shape) == (["000001"], (4, 4, 3))
    assert data.subset([0, 1, 2, 3]).fingerprint == data.fingerprint
    assert len({data.subset([k]).fingerprint for k in range(4)} | {data.fingerprint}) == 5


def test_fingerprint_of_lists_knows_shape_and_pixels() -> None:
    other = [*RAGGED[:3], RAGGED[3] + np.uint8(1)]
    turned = [*RAGGED[:3], RAGGED[3].reshape(4, 6, 3)]
    assert len({made(images).fingerprint for images in (RAGGED, other, turned)}) == 3
    assert made([image.copy(order="F") for image in RAGGED]).fingerprint == made(RAGGED).fingerprint


def test_fingerprint_of_arrays_is_the_checksum_of_old() -> None:
    data = made(PIXELS, groups=["p", "q", "p", "q"], splits=["train", "val", "test", "train"])
    digest = hashlib.sha256(b"('a', 'b')")
    digest.update(b"id\x00000000\x00000001\x00000002\x00000003\0" + b"label\0a\0b\0b\0a\0")
    digest.update(b"group\0p\0q\0p\0q\0" + b"split\0train\0val\0test\0train\0" + b"(4, 5, 6)" + PIXELS.tobytes())
    assert data.fingerprint == digest.hexdigest()


@pytest.mark.parametrize("weights", [[1, 0, 2, 0.5], np.array([1, 0, 2, 0.5], np.float32), ["1", "0", "2", "0.5"]])
def test_weights_are_numbers_from_0_on(weights: Any) -> None:
    data = made(PIXELS, weights=weights)
    assert data.weights is not None
    assert data.weights.tolist() == [1, 0, 2, 0.5]
    assert data.fingerprint != made(PIXELS).fingerprint


@pytest.mark.parametrize(
    ("weights", "got"),
    [
        ([1, 1, 1, -1], "-1 in record 3"),
        ([1, np.inf, 1, 1], "inf in record 1"),
        ([1.0, np.nan, 1, 1], "nan in record 1"),
        (["1", "x", "1", "1"], "'1' in record 0"),
        ([1, None, 1, 1], "None in record 1"),
    ],
)
def test_wrong_weights_are_refused(weights: Any, got: str) -> None:
    with pytest.raises(DataError, match=f"'weights' must hold numbers from 0 on, got {got}"):
        made(PIXELS, weights=weights)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([b"b", b"a", b"a", b"b"]), ("a", "b")),
        (np.array([1.0, 0, 10, 9]), ("0", "1", "9", "10")),
        (np.array([True, False, True, True]), ("False", "True")),
        (np.array(["10", "9", "2", "-1"], dtype=object), ("-1", "2", "9", "10")),
        (["10", "9", "2", "x"], ("10", "2", "9", "x")),
        (["1.10", "a", "a", "1.9"], ("1.10", "1.9", "a")),
    ],
)
def test_labels_become_names(labels: Any, classes: tuple[str, ...]) -> None:
    assert made(PIXELS, labels).classes == classes


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0.5, 1, 2, 3], "'labels' must hold words or whole numbers, got '0.5'; if it is a measurement"),
        ([0, np.nan, 1, 1], "'labels' must hold words or whole numbers, got 'nan'"),
        (["a", "", "a", "a"], "'label' must be filled in every row, got nothing in .* of record 1"),
        (["a", None, "a", "a"], "'label' must be filled in every row"),
        ([], r"'labels' must have shape \(4,\) like the images, got \(0,\)"),
        ("a", r"'labels' must have shape \(4,\) like the images, got \(1,\)"),
        (5, r"'labels' must have shape \(4,\) like the images, got \(\)"),
    ],
)
def test_wrong_labels_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        made(PIXELS, labels)


@pytest.mark.parametrize(
    "arrays", [[], PIXELS[:0], np.zeros((4, 0, 6), np.uint8), PIXELS[0], 5, np.zeros((2, 3, 4, 4))]
)
def test_what_is_no_images_is_refused(arrays: Any) -> None:
    with pytest.raises(DataError, match=r"'arrays' must have shape \(N, height, width\[, 1 or 3\]\), got"):
        made(arrays)


def saved(path: Path, **content: Any) -> Path:
    np.savez(path / "x.npz", **content)
    return path / "x.npz"


def test_npz_with_official_splits(tmp_path: Path) -> None:
    parts = {"train": 4, "val": 2, "test": 1}
    images = {f"{part}_images": PIXELS[:n] for part, n in parts.items()}
    labels = {f"{part}_labels": np.arange(n, dtype=np.uint8)[:, None] % 2 for part, n in parts.items()}
    data = Dataset.from_npz(saved(tmp_path, **images, **labels), classes=["healthy", "ill"], positive="ill")
    assert data.frame["split"].tolist() == ["train"] * 4 + ["val"] * 2 + ["test"]
    assert (data.counts(), data.multilabel, data.positive_given) == ({"healthy": 4, "ill": 3}, False, True)
    assert np.array_equal(data.original(5)[..., 0], PIXELS[1])


def test_npz_with_other_names_of_splits_and_several_labels(tmp_path: Path) -> None:
    images = {"train_images": PIXELS[:1], "valid_images": PIXELS[1:3]}
    labels = {"train_labels": [[0, 1, 1]], "valid_labels": [[1, 1, 0], [0, 0, 0]]}
    data = Dataset.from_npz(saved(tmp_path, **images, **labels))
    assert data.frame["split"].tolist() == ["train", "val", "val"]
    assert data.labels.tolist() == [[0, 1, 1], [1, 1, 0], [0, 0, 0]]


def test_plain_npz_is_like_arrays(tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "groups": [1, 1, 2, 2],
        "splits": ["train", "val", "test", "train"],
        "weights": [1, 2, 3, 4],
    }
    data = Dataset.from_npz(saved(tmp_path, images=PIXELS, labels=list("abba"), **options, extra=1))
    assert data.fingerprint == made(PIXELS, **options).fingerprint


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": PIXELS}, "'path' must hold 'images' and 'labels', or 'train_images' and so on, got 'x' in"),
        ({"train_images": PIXELS}, "'path' must hold labels of all images, got no 'train_labels' in"),
        (
            {"train_images": PIXELS, "train_labels": [0, 1], "val_images": PIXELS[:2], "val_labels": [0, 1, 1, 0]},
            r"'train_labels' must be as many as 'train_images', got \(4, 5, 6\) and \(2,\)",
        ),
        (
            {
                "train_images": PIXELS[:1],
                "train_labels": [0],
                "val_images": PIXELS[:1, :3],
                "val_labels": [1],
            },
            r"'val_images' must be like those of the other splits, got uint8 \(1, 3, 6\) and uint8 \(1, 5, 6\)",
        ),
        (
            {"train_images": PIXELS[:1], "train_labels": [[0, 1]], "val_images": PIXELS[:1], "val_labels": [[1, 1, 0]]},
            "'val_labels' must be like those of the other splits",
        ),
        ({"images": PIXELS / 255, "labels": list("abba")}, "'arrays' must be uint8 or uint16, got float64"),
        ({"images": PIXELS, "labels": list("ab")}, r"'labels' must have shape \(4,\) like the images, got \(2,\)"),
        ({"images": PIXELS, "labels": np.array([None] * 4)}, "'path' must name an npz file without objects"),
    ],
)
def test_wrong_content_of_npz_is_refused(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_npz(saved(tmp_path, **content))


def damaged(path: Path) -> list[bytes]:
    whole = saved(path, images=PIXELS, labels=list("abba")).read_bytes()
    inside = bytearray(whole)
    inside[200:210] = bytes(10)
    return [
        b"",
        b"x",
        b"PK\x03\x04 no archive",
        whole[: len(whole) // 2],
        whole[:-30],
        bytes(inside),
        b"\x93NUMPY" + b"\0" * 9,
    ]


@pytest.mark.parametrize("number", range(7))
def test_damaged_npz_is_named(tmp_path: Path, number: int) -> None:
    (tmp_path / "y.npz").write_bytes(damaged(tmp_path)[number])
    with pytest.raises(DataError, match=r"'path' must name an npz file without objects, got '.*y\.npz'; "):
        Dataset.from_npz(tmp_path / "y.npz")


def test_single_array_is_no_npz(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIXELS)
    with pytest.raises(DataError, match="'path' must name an npz file without objects"):
        Dataset.from_npz(tmp_path / "x.npy")


@pytest.mark.parametrize("path", ["nowhere.npz", "."])
def test_missing_npz_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="'path' must name an existing file, got"):
        Dataset.from_npz(tmp_path / path)
    with pytest.raises(ConfigError, match="'path' must be a path, got 5"):
        Dataset.from_npz(5)  # type: ignore[arg-type]
