"""The readers on real sets."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imgcls.core.config import from_yaml, to_yaml
from imgcls.data.dataset import Dataset

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(os.environ["IMGCLS_TEST_DATA"])


def test_names_tell_bacteria_from_viruses(folder: Path) -> None:
    data = Dataset.from_names(
        folder / "chest_xray/train/PNEUMONIA", pattern=r"(?P<group>person\d+_(?P<label>bacteria|virus))"
    )
    assert data.counts() == {"bacteria": 2530, "virus": 1345}
    index = pd.read_csv(folder / "chest_xray/index.csv").set_index("image")
    wanted = index.loc[[f"train/PNEUMONIA/{name}" for name in data.ids]]
    assert data.frame["group"].tolist() == wanted["group_from_filename"].tolist()
    assert data.frame["label"].tolist() == wanted["subtype"].tolist()
    assert Dataset.from_config(from_yaml(to_yaml(data.source))).fingerprint == data.fingerprint


def test_npz_has_the_official_splits(folder: Path) -> None:
    (path,) = (folder / "pneumoniamnist").glob("*.npz")
    data = Dataset.from_npz(path, classes=["normal", "pneumonia"])
    assert data.frame["split"].value_counts().to_dict() == {"train": 4708, "val": 524, "test": 624}
    assert (data.multilabel, data.positive, sum(data.counts().values())) == (False, "normal", 5856)
    with np.load(path) as file:
        assert np.array_equal(data.original(4708)[..., 0], file["val_images"][0])
        assert data.labels[4708:5232].tolist() == file["val_labels"][:, 0].tolist()


def test_masks_of_tiles_have_the_areas_of_the_index(folder: Path) -> None:
    data = Dataset.from_csv(folder / "magnetic_tile/index.csv", mask="mask", group="group_inferred")
    for position in range(0, len(data), len(data) // 20):
        mask = data.original_mask(position)
        assert mask is not None
        assert mask.shape == data.original(position).shape[:2]
        assert mask.mean() == pytest.approx(data.frame["mask_fraction_gt127"].iloc[position], abs=1e-6)


def test_folders_of_tiles_have_masks_beside_the_images(folder: Path) -> None:
    data = Dataset.from_folder(folder / "magnetic_tile", mask="<stem>.png")
    wanted = Dataset.from_csv(folder / "magnetic_tile/index.csv", mask="mask")
    assert (len(data), len(data.classes)) == (1344, 6)
    assert set(data.frame["id"]) == set(wanted.frame["id"])
    assert all(name.endswith(".jpg") for name in data.frame["id"])
    both = data.frame.set_index("id")["mask"], wanted.frame.set_index("id")["mask"]
    assert both[0].to_dict() == both[1].to_dict()


def test_image_folder_is_the_class_folder(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    root = folder / "chest_xray/test"
    data, wanted = Dataset.from_torch(ImageFolder(root)), Dataset.from_folder(root)
    assert np.array_equal(data.ids, wanted.ids)
    assert np.array_equal(data.labels, wanted.labels)
    assert data.fingerprint == wanted.fingerprint


def test_image_folders_are_the_split_folders(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    root = folder / "chest_xray"
    data = Dataset.from_torch({part: ImageFolder(root / part) for part in ("test", "train")})
    wanted = Dataset.from_folder(root)
    assert data.frame[["id", "label", "split"]].equals(wanted.frame[["id", "label", "split"]])
    assert data.fingerprint == wanted.fingerprint


def test_joined_folders_are_the_whole(folder: Path) -> None:
    root = folder / "chest_xray"
    data = Dataset.concat([Dataset.from_folder(root / part) for part in ("test", "train")])
    wanted = Dataset.from_folder(root)
    assert (data.root, data.counts()) == (Path(os.path.realpath(root)), wanted.counts())
    assert np.array_equal(data.ids, wanted.ids)
    assert np.array_equal(data.times(), wanted.times())
