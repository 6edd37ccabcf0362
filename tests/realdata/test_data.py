from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imgcls.core.errors import SplitError
from imgcls.data.dataset import Dataset
from imgcls.splitting.base import splitters

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(os.environ["IMGCLS_TEST_DATA"])


@pytest.fixture(scope="module")
def xray(folder: Path) -> Dataset:
    return Dataset.from_folder(folder / "chest_xray", group=r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)")


@pytest.fixture(scope="module")
def tiles(folder: Path) -> Dataset:
    return Dataset.from_csv(folder / "magnetic_tile" / "index.csv", group="group_inferred")


def test_chest_xray_has_its_records_and_groups(folder: Path, xray: Dataset) -> None:
    index = pd.read_csv(folder / "chest_xray" / "index.csv").set_index("image")
    assert (len(xray), xray.counts()) == (5840, {"NORMAL": 1341 + 234, "PNEUMONIA": 3875 + 390})
    assert (xray.positive, xray.positive_given) == ("NORMAL", False)
    assert xray.frame["group"].tolist() == index.loc[xray.ids.tolist()]["group_from_filename"].tolist()
    assert xray.frame["split"].tolist() == index.loc[xray.ids.tolist()]["split"].tolist()
    assert xray.frame["group"].nunique() == 4082


def test_chest_xray_split_keeps_groups_whole(xray: Dataset) -> None:
    fold = splitters.create("predefined").split(xray)[0]
    assert xray.groups is not None
    assert (len(fold.train) + len(fold.val), len(fold.test), len(fold.unused)) == (5216, 624, 0)
    sides = [set(xray.groups[part]) for part in (fold.train, fold.val, fold.test)]
    assert sum(map(len, sides)) == len(set.union(*sides))
    shares = [np.mean(xray.labels[part]) for part in (fold.train, fold.val)]
    assert shares[0] == pytest.approx(shares[1], abs=0.002)
    assert len(fold.val) == pytest.approx(0.2 * 5216, abs=3)


def test_magnetic_tile_has_its_records_and_groups(tiles: Dataset) -> None:
    assert (len(tiles), len(tiles.classes), tiles.counts()["MT_Free"]) == (1344, 6, 952)
    assert tiles.frame["group"].nunique() == 238
    assert {"mask_", "exposure", "width"} <= set(tiles.frame)


def test_magnetic_tile_pictures_have_the_size_of_the_index(tiles: Dataset) -> None:
    for position in range(0, len(tiles), 200):
        row = tiles.frame.iloc[position]
        assert tiles[position].image.shape == (row["height"], row["width"], 1)


@pytest.mark.parametrize("name", ["stratified-group-kfold", "holdout"])
def test_tiles_stay_on_one_side(tiles: Dataset, name: str) -> None:
    assert tiles.groups is not None
    for fold in splitters.create(name).split(tiles):
        held = np.bincount(tiles.labels[fold.test], minlength=6) / np.bincount(tiles.labels)
        assert np.abs(held - 0.2).max() < 0.08
        assert not set(tiles.groups[fold.train]) & set(tiles.groups[fold.test])


def test_random_folds_of_tiles_would_leak(tiles: Dataset) -> None:
    with pytest.raises(SplitError, match="groups must stand on one side of a split, got groups of several"):
        splitters.create("stratified-kfold").split(tiles)
