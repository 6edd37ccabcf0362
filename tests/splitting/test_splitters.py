from __future__ import annotations

from pathlib import Path
from typing import Any, cast, final

import attrs
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, PluginContractError, SplitError
from imgcls.data.dataset import Dataset
from imgcls.data.folds import TEST, Fold, Folds
from imgcls.splitting.base import Splitter, splitters

NAMES = splitters.names()
ROTATING = ["kfold", "stratified-kfold", "group-kfold", "stratified-group-kfold"]

#: Those that refuse sets with groups, and those that do not look at classes.
SINGLE, BLIND = {"kfold", "stratified-kfold"}, {"kfold", "group-kfold"}

#: Options with which small sets can be divided, quickly, into parts of all three kinds.
OPTIONS: dict[str, dict[str, Any]] = {
    "balanced-holdout": {"per_class": 3, "test": 0.2},
    "repeated": {"splitter": {"name": "stratified-group-kfold", "k": 3}, "times": 2},
}


def splitter(name: str, **options: Any) -> Splitter:
    return splitters.create({"name": name, **OPTIONS.get(name, {}), **options})


def made(labels: Any, groups: Any = None, splits: Any = None) -> Dataset:
    pixels = np.zeros((len(labels), 2, 2), np.uint8)
    return Dataset.from_arrays(pixels, [str(label) for label in labels], groups=groups, splits=splits)


@st.composite
def datasets(draw: st.DrawFn, *, grouped: bool = True) -> Dataset:
    """A set with at least eight groups of each class, some groups of several classes, and a grouped split."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    num_classes = draw(st.integers(1, 4))
    sizes = rng.integers(1, draw(st.integers(2, 9)), size=num_classes * draw(st.integers(8, 12)))
    groups = np.repeat(np.arange(len(sizes)), sizes)
    labels = np.where(rng.random(len(groups)) < 0.1, rng.integers(num_classes, size=len(groups)), groups % num_classes)
    labels[np.flatnonzero(np.diff(groups, prepend=-1))] = np.arange(len(sizes)) % num_classes
    splits = np.array(["train", "train", "train", "test"])[(np.arange(len(sizes)) // num_classes) % 4][groups]
    order = rng.permutation(len(groups))
    return made(labels[order], groups[order] if grouped else None, splits[order])


def sets_for(name: str) -> st.SearchStrategy[Dataset]:
    return datasets(grouped=name not in SINGLE)


def divided(name: str, dataset: Dataset, *, seed: int = 0, test: bool = True, **options: Any) -> Folds:
    """Divide a set; what does not look at classes may leave one without training records, which is refused."""
    made = splitter(name, **options)
    if name not in BLIND:
        return made.split(dataset, seed=seed, test=test)
    try:
        return made.split(dataset, seed=seed, test=test)
    except SplitError:
        assume(False)
        raise


def parts(fold: Fold) -> list[NDArray[np.int64]]:
    return [fold.train, fold.val, fold.test, fold.unused]


@pytest.mark.parametrize("test", [True, False])
@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10)
@given(data=st.data(), seed=st.integers(0, 99))
def test_folds_cover_the_set_with_whole_groups_and_train_every_class(
    name: str, test: bool, data: st.DataObject, seed: int
) -> None:
    dataset = data.draw(sets_for(name))
    for fold in divided(name, dataset, seed=seed, test=test):
        assert np.array_equal(np.sort(np.concatenate(parts(fold))), np.arange(len(dataset)))
        assert len(np.unique(dataset.labels[fold.train])) == len(dataset.classes)
        assert (len(fold.test) > 0) == test
        if dataset.groups is not None:
            sides = [set(dataset.groups[part]) for part in parts(fold)]
            assert sum(map(len, sides)) == len(set(dataset.groups))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=5)
@given(data=st.data())
def test_same_seed_same_folds_in_any_order_of_records(name: str, data: st.DataObject) -> None:
    dataset = data.draw(sets_for(name))
    order = np.random.default_rng(0).permutation(len(dataset))
    codes = splitter(name).assign(dataset, seed=3, test=True)
    assert np.array_equal(codes, splitter(name).assign(dataset, seed=3, test=True))
    assert np.array_equal(codes[..., order], splitter(name).assign(dataset.subset(order), seed=3, test=True))


@pytest.mark.parametrize("name", NAMES)
def test_other_seed_other_folds(name: str) -> None:
    groups = np.arange(120) // (1 if name in SINGLE else 3)
    dataset = made(groups % 2, groups, np.where(groups < 30, "train", "test"))
    codes = [splitter(name).assign(dataset, seed=seed, test=True) for seed in range(2)]
    assert not np.array_equal(codes[0], codes[1])


@pytest.mark.parametrize("name", NAMES)
def test_folds_come_back_from_disk_for_the_same_set_only(name: str, tmp_path: Path) -> None:
    groups = np.arange(60) // (1 if name in SINGLE else 3)
    dataset = made(groups % 2, groups, np.where(groups < 12, "train", "test"))
    folds = splitter(name).split(dataset)
    folds.save(tmp_path / "splits.json", dataset)
    again = Folds.load(tmp_path / "splits.json", dataset)
    assert (again.repeats, again.report) == (folds.repeats, folds.report)
    for one, two in zip(folds, again, strict=True):
        assert all(map(np.array_equal, parts(one), parts(two)))
    with pytest.raises(SplitError, match="the set must be the one"):
        Folds.load(tmp_path / "splits.json", dataset.relabel({"0": "zero"}))


@pytest.mark.parametrize("name", ROTATING)
@settings(max_examples=10)
@given(data=st.data(), k=st.integers(2, 4))
def test_every_record_is_held_out_once(name: str, data: st.DataObject, k: int) -> None:
    dataset = data.draw(sets_for(name))
    folds = divided(name, dataset, k=k)
    assert np.array_equal(np.sort(np.concatenate([fold.test for fold in folds])), np.arange(len(dataset)))
    rotated = divided(name, dataset, k=k, test=False)
    assert np.array_equal(np.sort(np.concatenate([fold.val for fold in rotated])), np.arange(len(dataset)))


@given(labels=st.lists(st.sampled_from("aaab"), min_size=30, max_size=80), k=st.integers(2, 5))
def test_single_records_are_divided_to_the_record(labels: list[str], k: int) -> None:
    dataset = made(labels)
    assume(min(dataset.counts().values()) > k)
    for fold in splitters.create({"name": "stratified-kfold", "k": k}).split(dataset):
        counts = np.bincount(dataset.labels[fold.test], minlength=len(dataset.classes))
        assert np.abs(counts - np.bincount(dataset.labels) / k).max() < 2


@given(val=st.sampled_from([0.1, 0.25, 0.4]), test=st.sampled_from([0.1, 0.3]), seed=st.integers(0, 9))
def test_shares_of_groups_are_near_their_ideal(val: float, test: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 6, size=200)
    labels = np.repeat(rng.choice(3, p=[0.6, 0.3, 0.1], size=200), sizes)
    dataset = made(labels, np.repeat(np.arange(200), sizes))
    fold = splitters.create({"name": "holdout", "val": val, "test": test}).split(dataset, seed=seed)[0]
    for share, part in ((1 - val - test, fold.train), (val, fold.val), (test, fold.test)):
        counts = np.bincount(dataset.labels[part], minlength=3)
        assert np.abs(counts / np.bincount(labels) - share).max() < 0.04


def test_fixed_test_set_leaves_its_share_to_training() -> None:
    fold = splitters.create({"name": "holdout", "val": 0.2}).split(made("ab" * 50), test=False)[0]
    assert (len(fold.train), len(fold.val), len(fold.test)) == (80, 20, 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("holdout", "class 'b' must have at least 3 groups, got 2; collect more or merge classes"),
        ("stratified-group-kfold", "class 'b' must have at least 5 groups, got 2; use fewer folds than 5"),
    ],
)
def test_class_with_few_groups_is_refused(name: str, message: str) -> None:
    dataset = made("aaaaaaaabbbb", list("stuvwxyzpppq"))
    with pytest.raises(SplitError, match=message):
        splitters.create(name).split(dataset)


def test_class_with_few_records_is_refused() -> None:
    with pytest.raises(SplitError, match="class 'b' must have at least 5 records, got 4; use fewer folds than 5"):
        splitters.create("stratified-kfold").split(made("aaaaaabbbb"))


def test_splitter_without_groups_refuses_a_set_with_groups() -> None:
    with pytest.raises(SplitError, match=r"groups must stand on one side of a split, got .* on both"):
        splitters.create("stratified-kfold").split(made("ab" * 10, np.arange(20) // 4))


PREDEFINED = splitters.create("predefined")


def test_predefined_takes_the_parts_of_the_set() -> None:
    splits = ["train"] * 4 + ["val"] * 2 + ["test"] * 2
    fold = PREDEFINED.split(made("abababab", splits=splits))[0]
    assert [part.tolist() for part in parts(fold)] == [[0, 1, 2, 3], [4, 5], [6, 7], []]
    fold = PREDEFINED.split(made("abababab", splits=splits), test=False)[0]
    assert [part.tolist() for part in parts(fold)] == [[0, 1, 2, 3], [4, 5], [], [6, 7]]


def test_predefined_cuts_validation_by_group() -> None:
    groups = np.arange(60) // 3
    dataset = made(groups % 2, groups, ["train"] * 48 + ["test"] * 12)
    fold = splitters.create({"name": "predefined", "val": 0.25}).split(dataset)[0]
    assert fold.test.tolist() == list(range(48, 60))
    assert len(fold.val) == 12
    assert not set(groups[fold.train]) & set(groups[fold.val])


def test_predefined_refuses_a_divided_group() -> None:
    dataset = made("abababab", list("uuvvwwxu"), ["train"] * 4 + ["val"] * 2 + ["test"] * 2)
    with pytest.raises(SplitError, match="got 'u' on both train and test of fold 0; move their records to one side"):
        PREDEFINED.split(dataset)


def test_predefined_refuses_a_set_without_splits() -> None:
    with pytest.raises(
        SplitError, match="the set must name its splits, got none; give 'split' or use another splitter"
    ):
        PREDEFINED.split(made("abab"))


def test_predefined_refuses_a_class_that_only_tests() -> None:
    dataset = made("aaabbb", splits=["train", "train", "val", "test", "test", "val"])
    with pytest.raises(SplitError, match="fold 0 must train on every class, got none of 'b'"):
        PREDEFINED.split(dataset)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "holdout", "val": 0.5, "test": 0.5}, r"'splitter\.val' must leave something to train beside 'test'"),
        ({"name": "holdout", "val": 1}, r"'splitter\.val' must be a number above 0 and below 1, got 1"),
        ({"name": "stratified-kfold", "k": 1}, r"'splitter\.k' must be a whole number of at least 2, got 1"),
        ({"name": "stratified-kfold", "n": 3}, r"'splitter\.n' must be an option of StratifiedKFold"),
        ({"k": 3}, r"'splitter' must be a name, a mapping with a 'name' or a plugin, got \{'k': 3\}"),
    ],
)
def test_wrong_option_is_refused_by_name(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        splitters.create(spec)


@final
@attrs.frozen(kw_only=True)
class Wrong(Splitter):
    def assign(self, dataset: Dataset, *, seed: int, test: bool) -> NDArray[np.int8]:
        return np.full((1, len(dataset)), TEST, dtype=np.int8)


def test_wrong_plugins_are_caught() -> None:
    with pytest.raises(SplitError, match="must have records to train"):
        Wrong().split(made("abab"))
    with pytest.raises(PluginContractError, match=r"Wrong\.assign must give no test records when 'test' is False"):
        Wrong().split(made("abab"), test=False)


def test_splitters_are_values() -> None:
    kind = cast("Any", splitters.create({"name": "holdout", "val": 0.3}))
    assert kind == splitters.create({"name": "holdout", "val": 0.3}) != splitters.create("holdout")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        kind.val = 0.4
