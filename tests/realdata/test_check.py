from __future__ import annotations

import os
from pathlib import Path

import attrs
import pandas as pd
import pytest

from imgcls.data.check.checking import check
from imgcls.data.check.report import CheckReport
from imgcls.data.dataset import Dataset
from imgcls.splitting.base import splitters

pytestmark = pytest.mark.realdata


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(os.environ["IMGCLS_TEST_DATA"])


@pytest.fixture(scope="module")
def tiles(folder: Path) -> Dataset:
    return Dataset.from_csv(folder / "magnetic_tile" / "index.csv", group="group_inferred")


@pytest.fixture(scope="module")
def found(tiles: Dataset) -> CheckReport:
    return check(tiles)


def _across(data: Dataset, pairs: pd.DataFrame, seed: int) -> int:
    fold = splitters.create("holdout").split(data, seed=seed)[0]
    side = {data.ids[place]: name for name in ("train", "val", "test") for place in fold.part(name)}
    return int((pairs["a"].map(side) != pairs["b"].map(side)).sum())


def _with_groups(data: Dataset, groups: pd.Series[str] | None) -> Dataset:
    bare = data.frame.drop(columns="group")
    return attrs.evolve(data, frame=bare if groups is None else bare.assign(group=groups))


def test_chest_xray_has_its_duplicates_and_little_else(folder: Path, tmp_path: Path) -> None:
    data = Dataset.from_folder(folder / "chest_xray", group=r"(person\d+_[a-z]+|(?:NORMAL2-)?IM-\d+)")
    report = check(data)
    assert report.ok
    assert (report.num_surplus, len(report.copies)) == (32, 30)
    assert (report.pairs["kind"] == "near").sum() == 1  # one patient, taken twice
    assert report.missing_groups == (("NORMAL2-IM-0095", "NORMAL2-IM-0096"),)
    assert set(report.problems["kind"]) == {"duplicate", "missing group"}
    assert report.save(tmp_path / "page.html").stat().st_size < 10e6


def test_a_random_split_of_tiles_leaks_ten_times_as_much_as_a_grouped_one(tiles: Dataset, found: CheckReport) -> None:
    plain = _with_groups(tiles, None)
    random = sum(_across(plain, found.pairs, seed) for seed in range(5))
    grouped = sum(_across(tiles, found.pairs, seed) for seed in range(5))
    assert random > 10 * grouped > 0


def test_joining_the_missing_groups_of_tiles_leaves_no_leak(tiles: Dataset, found: CheckReport) -> None:
    joined = {name: cluster[0] for cluster in found.missing_groups for name in cluster}
    assert len(found.missing_groups) == 11
    assert _across(_with_groups(tiles, tiles.frame["group"].replace(joined)), found.pairs, 0) == 0


def test_tiles_give_a_short_list(tiles: Dataset, found: CheckReport) -> None:
    assert found.ok
    assert set(found.problems["kind"]) == {"label conflict", "missing group", "mixed group"}
    assert (found.problems["kind"] == "mixed group").sum() == 8
    assert len(found.problems) < 60


def test_a_random_fold_of_tiles_is_an_error(tiles: Dataset) -> None:
    plain = _with_groups(tiles, None)
    report = check(plain, folds=splitters.create("holdout").split(plain))
    kinds = report.problems["kind"].value_counts()
    assert not report.ok
    assert kinds["near duplicate across"] > 1000
    assert kinds["no groups"] == 1
