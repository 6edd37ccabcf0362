"""Datasets of torchvision and Hugging Face."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import ConcatDataset, Subset, TensorDataset, random_split
from torchvision.datasets import CIFAR10, FakeData, ImageFolder, VisionDataset

from imgcls.core.errors import ConfigError, DataError
from imgcls.data.dataset import Dataset

Make = Callable[..., Path]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 5, 6, 3), dtype=np.uint8)


@pytest.fixture
def root(make_images: Make) -> Path:
    return make_images("cat/1.png", "cat/x/2.png", "dog/1.png")


class Small(VisionDataset):  # type: ignore[misc]
    """What CIFAR and MNIST look like."""

    classes = ("cat", "dog", "emu")

    def __init__(self, targets: Any = (2, 0, 1, 2), *, data: Any = PIXELS, **options: Any) -> None:
        super().__init__("nowhere", **options)
        self.data, self.targets = data, targets

    def __getitem__(self, index: int) -> Any:
        image = Image.fromarray(self.data[index])
        return image if self.transform is None else self.transform(image), self.targets[index]

    def __len__(self) -> int:
        return len(self.data)


@pytest.mark.parametrize("targets", [(2, 0, 1, 2), [2, 0, 1, 2], np.array([2, 0, 1, 2]), torch.tensor([2, 0, 1, 2])])
def test_targets_index_the_classes(targets: Any) -> None:
    data = Dataset.from_torch(Small(targets))
    assert (data.classes, data.labels.tolist()) == (Small.classes, [2, 0, 1, 2])
    assert (data.root, data.ids.tolist()[-1]) == (None, "000003")
    assert np.array_equal(data.original(1), PIXELS[1])


def test_classes_may_be_ordered() -> None:
    data = Dataset.from_torch(Small([0, 1, 1, 0]), classes=["dog", "cat"], positive="cat")
    assert (data.classes, data.labels.tolist(), data.positive_given) == (("dog", "cat"), [1, 0, 0, 1], True)


def test_cifar_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "__init__", lambda self: VisionDataset.__init__(self, tmp_path))
    cifar = CIFAR10()
    cifar.data, cifar.targets, cifar.classes = PIXELS, [1, 0, 1, 1], ["plane", "car"]
    data = Dataset.from_torch(cifar)
    assert (data.classes, data.positive, data.counts()) == (("plane", "car"), "plane", {"plane": 1, "car": 3})
    assert np.array_equal(data.original(3), PIXELS[3])


def test_fake_data_is_the_same_from_any_thread() -> None:
    fake = FakeData(size=12, image_size=(3, 8, 9), num_classes=3)
    data = Dataset.from_torch(fake)
    assert data.labels.tolist() == [fake[k][1] for k in range(12)]
    assert np.array_equal(data.original(5), np.asarray(fake[5][0]))
    assert len({Dataset.from_torch(fake).fingerprint for _ in range(3)}) == 1
    assert data.subset([1]).fingerprint != data.subset([2]).fingerprint


def test_image_folder_is_read_from_its_files(root: Path) -> None:
    data, wanted = Dataset.from_torch(ImageFolder(root)), Dataset.from_folder(root)
    assert data.ids.tolist() == wanted.ids.tolist()
    assert (data.labels.tolist(), data.root, data.arrays) == (wanted.labels.tolist(), root, None)
    assert data.fingerprint == wanted.fingerprint


def test_parts_by_name_are_splits(root: Path, make_images: Make) -> None:
    make_images("t/cat/3.png", "t/gnu/1.png", root=root.parent / "other")
    data = Dataset.from_torch({"train": ImageFolder(root), "valid": ImageFolder(root.parent / "other/t")})
    assert data.frame["split"].tolist() == ["train"] * 3 + ["val"] * 2
    assert data.classes == ("cat", "dog", "gnu")
    assert data.ids.tolist()[3] == "other/t/cat/3.png"
    assert data.original(4).shape == (12, 10, 3)


def test_parts_in_memory_are_splits() -> None:
    data = Dataset.from_torch({"test": Small(), "train": Small([0, 0, 0, 0])})
    assert data.frame["split"].tolist() == ["test"] * 4 + ["train"] * 4
    assert (data.ids[4], data.counts()) == ("1/000000", {"cat": 5, "dog": 1, "emu": 2})


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "'dataset' must have parts, got none"),
        ({"train": Small(), "extra": Small()}, "'split' must say train, val or test, got 'extra'"),
        ({"train": Small(), "test": Small(transform=print)}, "'dataset' must give images as they are"),
    ],
)
def test_wrong_parts_are_refused(parts: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(parts)


def test_part_of_a_dataset_keeps_names_and_files(root: Path) -> None:
    part = Dataset.from_torch(Subset(ImageFolder(root), [2, 0]))
    assert (part.ids.tolist(), part.classes) == (["dog/1.png", "cat/1.png"], ("cat", "dog"))
    data = Dataset.from_torch(Subset(Subset(Small(), [3, 2, 1]), [2, 0]))
    assert (data.ids.tolist(), data.labels.tolist()) == (["000001", "000003"], [0, 2])
    assert np.array_equal(data.original(0), PIXELS[1])
    with pytest.raises(DataError, match="'positions' must name each record once, got 0 again"):
        Dataset.from_torch(Subset(Small(), [0, 0]))


def test_random_parts_become_splits() -> None:
    parts: Any = random_split(Small(), [3, 1], torch.Generator().manual_seed(0))
    data = Dataset.from_torch(dict(zip(["train", "test"], parts, strict=True)))
    assert (len(data), data.frame["split"].tolist()) == (4, ["train"] * 3 + ["test"])
    assert sorted(data.ids.tolist()) == ["000000", "000001", "000002", "000003"]


@pytest.mark.parametrize("option", ["transform", "target_transform", "transforms"])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: Subset(x, [0]), lambda x: ConcatDataset([Small(), x])])
def test_transforms_are_refused(option: str, wrap: Callable[[Any], Any]) -> None:
    dataset = wrap(Small(**{option: lambda *values: values}))
    with pytest.raises(
        DataError, match=r"'dataset' must give images as they are, got one with '.*transforms?'; make it"
    ):
        Dataset.from_torch(dataset)


def test_datasets_behind_each_other_are_taken() -> None:
    data = Dataset.from_torch(ConcatDataset([Small(), Small([0, 0, 0, 1])]))
    assert (len(data), data.classes) == (8, ("0", "1", "2"))


class Pairs:
    """The least that a dataset may be."""

    def __init__(self, *pairs: Any) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Any:
        return self.pairs[index]


class Shy(Pairs):
    """One that cannot be asked by two threads at once, such as one with a file that it keeps open."""

    busy = False

    def __getitem__(self, index: int) -> Any:
        assert not self.busy
        self.busy = True
        time.sleep(0.002)
        self.busy = False
        return super().__getitem__(index)


def test_datasets_are_asked_by_one_thread_at_a_time() -> None:
    data = Dataset.from_torch(Shy(*((image, "a") for image in PIXELS)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(data.original, [0, 1, 2, 3] * 2))
    assert np.array_equal(found[4:], PIXELS)


def test_file_name_that_is_no_text_is_named(root: Path) -> None:
    folder = ImageFolder(root)
    folder.samples[0] = (os.fsdecode(bytes(root / "cat") + b"/caf\xe9.png"), 0)
    with pytest.raises(DataError, match=r"names of images must be UTF-8, got 'cat/caf\\udce9\.png'"):
        Dataset.from_torch(folder)


def turned() -> Image.Image:
    image = Image.fromarray(PIXELS[0])
    image.getexif()[0x0112] = 6
    return image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (PIXELS[0], PIXELS[0]),
        (PIXELS[0, ..., 0], PIXELS[0, ..., :1]),
        (PIXELS[0].astype(np.uint16), PIXELS[0].astype(np.uint16)),
        (torch.from_numpy(PIXELS[0]).permute(2, 0, 1), PIXELS[0]),
        (torch.from_numpy(PIXELS[0, ..., 0]), PIXELS[0, ..., :1]),
        (Image.fromarray(PIXELS[0]).convert("P"), None),
        (turned(), np.rot90(PIXELS[0], -1)),
    ],
)
def test_pictures_of_any_kind_become_pixels(image: Any, expected: NDArray[Any] | None) -> None:
    found = Dataset.from_torch(Pairs((image, "a"))).original(0)
    wanted = np.asarray(image.convert("RGB")) if expected is None else expected
    assert found.dtype == wanted.dtype
    assert np.array_equal(found, wanted)


def test_tensors_with_labels_are_pairs() -> None:
    images = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    data = Dataset.from_torch(TensorDataset(images, torch.tensor([1, 0, 1, 1])))
    assert (data.classes, data.labels.tolist()) == (("0", "1"), [1, 0, 1, 1])
    assert np.array_equal(data.original(2), PIXELS[2])


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Pairs(), r"must have records with one label each, got 0 and labels \(0,\)"),
        (Pairs((PIXELS[0], [0, 1])), r"must have records with one label each, got 1 and labels \(1, 2\)"),
        (
            Pairs((PIXELS[0], [0]), (PIXELS[0], [0, 1])),
            "must have a length and give pairs of image and label, got Pairs",
        ),
        (Pairs(PIXELS[0, 0, 0, 0]), "must have a length and give pairs"),
        (Pairs({"image": PIXELS[0], "label": 1}), "must have a length and give pairs"),
        (5, "must have a length and give pairs of image and label, got int"),
        (iter([]), "must have a length and give pairs"),
        (Pairs((PIXELS[0], 0.5)), "'label' must hold words or whole numbers, got '0.5'"),
        (Pairs((PIXELS[0], None)), "'label' must be filled in every row"),
        (Pairs((PIXELS[0] / 255, "a")), "must give images of uint8 or uint16, got ndarray of float64"),
        (Pairs((torch.rand(3, 4, 4), "a")), r"must give images of uint8 or uint16, got Tensor of float32 \(4, 4, 3\)"),
        (Pairs((PIXELS[0].T, "a")), r"must give images of uint8 or uint16, got ndarray of uint8 \(3, 6, 5\)"),
        (Pairs(("a.png", "a")), "must give images of uint8 or uint16, got str"),
        (Small([0, 1, -1, 0]), "'label' must be known of every record, got -1; leave these out"),
        (Small([0, 1]), r"must have records with one label each, got 4 and labels \(2,\)"),
    ],
)
def test_other_datasets_are_refused(dataset: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(dataset)


def test_classes_that_do_not_fit_the_numbers_are_left_out() -> None:
    assert Dataset.from_torch(Small([0, 1, 3, 0])).classes == ("0", "1", "3")


def test_files_outside_of_the_folder_are_refused(root: Path, make_images: Make) -> None:
    folder = ImageFolder(root)
    folder.samples.append((str(make_images("z.png", root=root.parent / "z") / "z.png"), 0))
    with pytest.raises(DataError, match=r"files of 'dataset' must lie below its root '.*', got '.*z\.png'"):
        Dataset.from_torch(folder)


def test_links_out_of_the_folder_are_refused(root: Path, make_images: Make) -> None:
    make_images("z.png", root=root.parent / "z")
    (root / "cat" / "2.png").symlink_to(root.parent / "z" / "z.png")
    with pytest.raises(DataError, match=r"got links that lead out of it: 'cat/2\.png' \(record 1\)"):
        Dataset.from_torch(ImageFolder(root))


@pytest.mark.parametrize("option", ["image", "label", "group"])
def test_columns_are_for_datasets_that_have_them(option: str) -> None:
    with pytest.raises(DataError, match="'image', 'label' and 'group' must be left out unless 'dataset' has columns"):
        Dataset.from_torch(Small(), **{option: "x"})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Make datasets of Hugging Face; with labels of class labels where names are given."""
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what others say while they are imported is theirs
        import datasets

    def make(labels: Any = (1, 0, 1, 1), *, names: Any = ("cat", "dog"), **columns: Any) -> Any:
        kinds: dict[str, Any] = {name: datasets.Image() for name, v in columns.items() if isinstance(v[0], Image.Image)}
        kinds |= {name: datasets.Value("string") for name in columns if name not in kinds}
        kinds["label"] = datasets.ClassLabel(names=list(names)) if names else None
        features = {"image": datasets.Image(), **kinds}
        images = [Image.fromarray(PIXELS[k % 4]) for k in range(len(labels))]
        content = {"image": images, "label": list(labels), **columns}
        known = datasets.Features({name: kind for name, kind in features.items() if kind is not None})
        if names:
            return datasets.Dataset.from_dict(content, features=known)
        return datasets.Dataset.from_dict(content).cast_column("image", datasets.Image())

    return make


def test_hugging_face_dataset(hub: Callable[..., Any], capfd: pytest.CaptureFixture[str]) -> None:
    data = Dataset.from_torch(hub(patient=["p", "p", "q", "r"]), group="patient")
    assert (data.classes, data.labels.tolist(), data.positive) == (("cat", "dog"), [1, 0, 1, 1], "cat")
    assert data.frame["group"].tolist() == ["p", "p", "q", "r"]
    assert np.array_equal(data.original(3), PIXELS[3])
    assert data.fingerprint == Dataset.from_torch(hub(patient=["p", "p", "q", "r"]), group="patient").fingerprint
    assert data.fingerprint != data.subset([1, 0, 2, 3]).fingerprint
    assert capfd.readouterr() == ("", "")


def test_hugging_face_words_are_labels(hub: Callable[..., Any]) -> None:
    dataset = hub(["b", "a", "b", "b"], names=None)
    assert Dataset.from_torch(dataset, label="label").classes == ("a", "b")
    with pytest.raises(DataError, match="'label' must name a column, got none and not one of type ClassLabel: 'image'"):
        Dataset.from_torch(dataset)


@pytest.mark.parametrize("kind", ["torch", "numpy", "pandas"])
def test_hugging_face_format_does_not_matter(hub: Callable[..., Any], kind: str) -> None:
    data = Dataset.from_torch(hub().with_format(kind))
    assert data.labels.tolist() == [1, 0, 1, 1]
    assert np.array_equal(data.original(1), PIXELS[1])


def test_hugging_face_parts_are_splits(hub: Callable[..., Any]) -> None:
    from datasets import DatasetDict

    data = Dataset.from_torch(DatasetDict(train=hub(), validation=hub([0, 0])))
    assert data.frame["split"].tolist() == ["train"] * 4 + ["val"] * 2
    assert data.labels.tolist() == [1, 0, 1, 1, 0, 0]


def test_hugging_face_dataset_of_several_images(hub: Callable[..., Any]) -> None:
    dataset = hub(other=[Image.fromarray(image[::-1]) for image in PIXELS])
    assert np.array_equal(Dataset.from_torch(dataset, image="other").original(2), PIXELS[2][::-1])
    with pytest.raises(DataError, match="'image' must name a column, got none and not one of type Image: 'image', "):
        Dataset.from_torch(dataset)
    with pytest.raises(DataError, match="'image' must name a column, got 'imge'; the dataset has 'image'"):
        Dataset.from_torch(dataset, image="imge")


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        ([1, -1, 0, 0], {}, "'label' must be known of every record, got -1; leave these out"),
        ([1, None, 0, 0], {}, "'label' must be known of every record, got nan"),
        (["a", None, "b", "b"], {"names": None}, "'label' must be filled in every row, got nothing in .*record 1"),
        ([0.5, 1, 2, 3], {"names": None}, "'label' must hold words or whole numbers, got '0.5'"),
        ([["a"], ["a", "b"]], {"names": None}, "'label' must hold text or numbers, got others"),
        ([], {}, "'dataset' must have records that can be counted, got none in Dataset"),
    ],
)
def test_wrong_labels_of_hugging_face_are_refused(
    hub: Callable[..., Any], labels: Any, options: dict[str, Any], message: str
) -> None:
    dataset = hub(labels, **options)
    with pytest.raises(DataError, match=message):
        Dataset.from_torch(dataset, label="label")


def test_hugging_face_groups_have_no_gaps(hub: Callable[..., Any]) -> None:
    dataset = hub(patient=["p", "", "q", "r"])
    with pytest.raises(
        DataError, match="'group' must be filled in every row, got nothing in column 'patient' of record 1"
    ):
        Dataset.from_torch(dataset, group="patient")


def test_hugging_face_transforms_and_streams_are_refused(hub: Callable[..., Any]) -> None:
    dataset = hub()
    with pytest.raises(
        DataError, match=r"must give images as they are, got one with a transform; call reset_format\(\)"
    ):
        Dataset.from_torch(dataset.with_transform(lambda rows: rows))
    with pytest.raises(DataError, match="must have records that can be counted, got none in IterableDataset"):
        Dataset.from_torch(dataset.to_iterable_dataset())


@pytest.mark.parametrize("options", [{"classes": "ab"}, {"positive": True}])
def test_options_are_checked(options: Any) -> None:
    with pytest.raises(ConfigError, match=r"'(classes|positive)' must be"):
        Dataset.from_torch(Small(), **options)


def test_hugging_face_columns_of_plain_values_are_kept(hub: Callable[..., Any]) -> None:
    data = Dataset.from_torch(hub(site=["007", "a", "b", "c"], split=["x", "y", "z", "w"]))
    assert data.frame["site"].tolist() == ["007", "a", "b", "c"]
    assert data.frame["split_"].tolist() == ["x", "y", "z", "w"]
    assert data.splits is None
