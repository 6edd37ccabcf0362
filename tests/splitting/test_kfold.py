"""What rotates, what is refused, and repeats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from imgcls.core.dumping import spec_of
from imgcls.core.errors import ConfigError, SplitError
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold
from imgcls.splitting.base import splitters
from imgcls.splitting.plan import plan_folds

GROUPS = np.arange(120) // 3
ROTATING = ["kfold", "stratified-kfold", "group-kfold", "stratified-group-kfold", "leave-one-group-out"]


def made(labels: Any = None, groups: Any = GROUPS) -> Dataset:
    labels = GROUPS % 2 if labels is None else labels
    return Dataset.from_arrays(np.zeros((len(labels), 2, 2), np.uint8), [str(one) for one in labels], groups=groups)


def set_for(name: str) -> Dataset:
    return made(groups=None if name in {"kfold", "stratified-kfold"} else GROUPS)


def same(one: Fold, two: Fold) -> bool:
    return all(np.array_equal(one.part(name), two.part(name)) for name in ("train", "val", "test", "unused"))


@pytest.mark.parametrize("name", ROTATING)
def test_validation_rotates_where_it_is_reported(name: str) -> None:
    dataset = set_for(name)
    folds = splitters.create({"name": name, "report": "val"}).split(dataset, seed=1)
    assert folds.report == "val"
    assert not any(len(fold.test) for fold in folds)
    assert np.array_equal(np.sort(np.concatenate([fold.val for fold in folds])), np.arange(120))
    tested = splitters.create(name).split(dataset, seed=1)
    assert tested.report == "test"
    assert all(np.array_equal(one.val, two.test) for one, two in zip(folds, tested, strict=True))


@pytest.mark.parametrize("test", [0.2, "other"])
def test_a_fixed_test_set_is_what_is_reported(test: Any) -> None:
    other = Dataset.from_arrays(np.ones((4, 2, 2), np.uint8), list("0101"))
    splitter = splitters.create({"name": "stratified-group-kfold", "report": "val"})
    assert plan_folds(made(), splitter, test=other if test == "other" else test, seed=0).report == "test"


@pytest.mark.parametrize("name", ROTATING)
def test_options_without_effect_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"'splitter\.val' must be left out where 'report' is 'val' .* got 0\.3"):
        splitters.create({"name": name, "report": "val", "val": 0.3})
    with pytest.raises(ConfigError, match=r"'splitter\.report' must be one of 'test', 'val', got 'train'"):
        splitters.create({"name": name, "report": "train"})


@pytest.mark.parametrize(
    ("name", "dataset", "message"),
    [
        ("kfold", made(), "groups must stand on one side of a split, .* use 'group-kfold', or leave 'group' out"),
        ("stratified-kfold", made(), "use 'stratified-group-kfold', or leave 'group' out if they are no groups"),
        ("group-kfold", made(groups=None), "the set must have groups, got none; give 'group', or use 'kfold'"),
        (
            "leave-one-group-out",
            made(groups=None),
            "must have groups, got none; give 'group', or use 'stratified-kfold'",
        ),
        (
            "group-kfold",
            made("abab", list("uuvv")),
            "the set must have at least 5 groups, got 2; use fewer folds than 5",
        ),
        ("stratified-group-kfold", made("abab", list("uuvv")), "the set must have at least 5 groups, got 2; use fewer"),
        ("kfold", made("aba", None), "the set must have at least 5 records, got 3; use fewer folds than 5"),
        ("kfold", made("a" * 19 + "b", None), "fold . must train on every class, got none of 'b'; use fewer folds"),
        ("leave-one-group-out", made("abab", list("uuvv")), "the set must have at least 3 groups, got 2; use another"),
        (
            "leave-one-group-out",
            made("abaa", list("uuvw")),
            "class 'b' must have at least 2 groups, got 1; use another",
        ),
    ],
)
def test_impossible_folds_are_refused_with_a_remedy(name: str, dataset: Dataset, message: str) -> None:
    with pytest.raises(SplitError, match=message):
        splitters.create(name).split(dataset)


def test_folds_without_a_class_are_refused() -> None:
    dataset = made("ababacacbcbc", np.arange(12) // 4)  # two folds of three groups cannot both have all classes
    splitter = splitters.create({"name": "stratified-group-kfold", "k": 2, "report": "val"})
    with pytest.raises(SplitError, match=r"fold . must have every class, got none of '.'; use fewer folds than 2"):
        splitter.split(dataset)


def test_folds_of_whole_groups_are_equal_in_records() -> None:
    sizes = np.random.default_rng(0).integers(1, 12, 80)
    groups = np.repeat(np.arange(80), sizes)
    folds = splitters.create("group-kfold").split(made(groups % 2, groups))
    assert np.ptp([len(fold.test) for fold in folds]) <= 1


def test_each_group_is_left_out_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("IMGCLS_QUIET", raising=False)
    folds = splitters.create("leave-one-group-out").split(made())
    assert [set(GROUPS[fold.test]) for fold in folds] == [{group} for group in sorted(range(40), key=str)]
    assert capsys.readouterr().err == "leave-one-group-out: 40 folds, one for each group\n"
    assert all(np.bincount(GROUPS[fold.val] % 2).tolist() == [12, 12] for fold in folds)


def test_three_groups_are_enough_to_leave_one_out() -> None:
    dataset = made("aabbab", list("uvuvww"))
    for fold in splitters.create("leave-one-group-out").split(dataset):
        assert len(fold.train) == len(fold.val) == len(fold.test) == 2


# Repeats


def test_the_first_repeat_is_what_the_splitter_gives() -> None:
    alone = splitters.create({"name": "stratified-group-kfold", "k": 4}).split(made(), seed=7)
    folds = splitters.create({"name": "repeated", "splitter": {"name": "stratified-group-kfold", "k": 4}}).split(
        made(), seed=7
    )
    assert folds.repeats == tuple(np.repeat(range(5), 4))
    assert all(same(one, two) for one, two in zip(alone, folds, strict=False))
    for repeat in range(5):
        tested = np.concatenate(
            [fold.test for fold, number in zip(folds, folds.repeats, strict=True) if number == repeat]
        )
        assert np.array_equal(np.sort(tested), np.arange(120))


def test_more_repeats_leave_those_before_as_they_are() -> None:
    few, many = (splitters.create({"name": "repeated", "times": times}).split(made()) for times in (2, 3))
    assert all(same(one, two) for one, two in zip(few, many, strict=False))


def test_given_seeds_do_not_depend_on_that_of_the_run() -> None:
    splitter = splitters.create({"name": "repeated", "splitter": "holdout", "seeds": [5, 6]})
    folds = splitter.split(made(), seed=1)
    assert all(same(one, two) for one, two in zip(folds, splitter.split(made(), seed=2), strict=True))
    assert same(folds[1], splitters.create("holdout").split(made(), seed=6)[0])
    assert folds.repeats == (0, 1)


def test_repeats_survive_a_fixed_test_set() -> None:
    splitter = splitters.create(
        {"name": "repeated", "splitter": {"name": "stratified-group-kfold", "k": 3}, "times": 2}
    )
    folds = plan_folds(made(), splitter, test=0.2, seed=0)
    assert folds.repeats == (0, 0, 0, 1, 1, 1)
    assert all(np.array_equal(fold.test, folds[0].test) for fold in folds)


def test_repeats_rebuild_from_their_spec() -> None:
    splitter = splitters.create({"name": "repeated", "splitter": {"name": "group-kfold", "k": 3}, "seeds": [1, 2]})
    spec = spec_of(splitter)
    assert spec["splitter"] == {"name": "group-kfold", "k": 3, "val": 0.2, "report": "test"}
    assert splitters.create(spec) == splitter


def test_repeats_that_are_all_the_same_are_refused() -> None:
    named = Dataset.from_arrays(
        np.zeros((6, 2, 2), np.uint8), list("ababab"), splits=["train", "train", "val", "val", "test", "test"]
    )
    with pytest.raises(SplitError, match="repeats must differ, got the same folds from Predefined for every seed"):
        splitters.create({"name": "repeated", "splitter": "predefined"}).split(named)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splitter": "repeated"}, r"'splitter\.splitter' must not be 'repeated' itself"),
        ({"splitter": {"name": "kfold", "k": 1}}, r"'splitter\.splitter\.k' must be a whole number of at least 2"),
        ({"times": 1}, r"'splitter\.times' must be a whole number of at least 2, got 1"),
        ({"seeds": [3]}, r"'splitter\.seeds' must be a list of at least two different seeds, got \(3,\)"),
        ({"seeds": [3, 3]}, "at least two different seeds"),
        ({"seeds": [3, -1]}, r"'splitter\.seeds' must be a whole number of at least 0, got -1"),
        ({"seeds": [3, 4], "times": 2}, r"'splitter\.times' must be left out beside 'seeds', got 2"),
    ],
)
def test_wrong_repeats_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        splitters.create({"name": "repeated", **options})
