"""One fold: by shares, by numbers of records, and with balanced validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgcls.core.errors import ConfigError, SplitError
from imgcls.data.dataset import Dataset
from imgcls.data.folds import Fold
from imgcls.splitting.base import splitters
from imgcls.splitting.plan import plan_folds


def made(labels: Any, groups: Any = None) -> Dataset:
    return Dataset.from_arrays(np.zeros((len(labels), 2, 2), np.uint8), [str(one) for one in labels], groups=groups)


def held_out(dataset: Dataset, seed: int = 0, **options: Any) -> Fold:
    return splitters.create({"name": "holdout", **options}).split(dataset, seed=seed)[0]


def balanced(dataset: Dataset, seed: int = 0, **options: Any) -> Fold:
    return splitters.create({"name": "balanced-holdout", **options}).split(dataset, seed=seed)[0]


def counts(dataset: Dataset, part: NDArray[np.int64]) -> list[int]:
    return np.bincount(dataset.labels[part], minlength=len(dataset.classes)).tolist()


# Numbers of records


@given(st.integers(3, 30), st.integers(3, 30), st.integers(0, 9))
def test_numbers_of_single_records_are_met_exactly(val: int, test: int, seed: int) -> None:
    dataset = made(np.random.default_rng(seed).choice(3, p=[0.6, 0.3, 0.1], size=101))
    fold = held_out(dataset, seed, val=val, test=test)
    assert (len(fold.val), len(fold.test), len(fold.train)) == (val, test, 101 - val - test)
    ideal = np.bincount(dataset.labels) * val / 101
    assert np.abs(counts(dataset, fold.val) - ideal).max() < 2.5


@given(st.integers(20, 60), st.integers(0, 9))
def test_numbers_are_met_as_nearly_as_groups_allow(val: int, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(2, 6, size=60)
    groups = np.repeat(np.arange(60), sizes)
    fold = held_out(made(groups % 2, groups), seed, val=val, test=0.2)
    assert abs(len(fold.val) - val) <= 2  # the smallest groups have two records
    assert not set(groups[fold.val]) & set(groups[fold.train])


def test_numbers_of_equal_groups_are_the_nearest_multiple() -> None:
    groups = np.arange(90) // 3
    fold = held_out(made(groups % 2, groups), val=10, test=20)
    assert (len(fold.val), len(fold.test)) == (9, 21)


def test_fixed_test_set_takes_no_records() -> None:
    fold = splitters.create({"name": "holdout", "val": 30, "test": 90}).split(made("ab" * 50), test=False)[0]
    assert (len(fold.train), len(fold.val), len(fold.test)) == (70, 30, 0)


@pytest.mark.parametrize("options", [{"val": 60, "test": 40}, {"val": 90, "test": 0.2}, {"val": 500}])
def test_training_must_be_left_something(options: dict[str, Any]) -> None:
    with pytest.raises(SplitError, match=r"'val' and 'test' must leave some of 100 records to train, got .*hold"):
        held_out(made("ab" * 50), **options)


@pytest.mark.parametrize("val", [0, 1, 1.0, 2.5, True, "2"])
def test_amounts_are_shares_or_numbers(val: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"'splitter\.val' must be a number above 0 .* got .*; or a number of records"
    ):
        held_out(made("ab" * 50), val=val)


def test_class_missing_in_a_part_is_refused() -> None:
    dataset = made("ababacacbcbc", np.arange(12) // 4)  # two parts of three groups cannot both have all classes
    with pytest.raises(SplitError, match=r"val must have every class, got none of '.'; hold out more, or use another"):
        splitters.create("holdout").split(dataset, test=False)


# Balanced validation


@given(st.integers(1, 20), st.integers(0, 9))
def test_single_records_are_drawn_by_number(per_class: int, seed: int) -> None:
    dataset = made(np.random.default_rng(seed).permutation([0] * 200 + [1] * 60 + [2] * 30))
    fold = balanced(dataset, seed, per_class=per_class, test=0.1)
    assert counts(dataset, fold.val) == [per_class] * 3
    assert counts(dataset, fold.test) == [20, 6, 3]
    assert len(fold.train) == 290 - 3 * per_class - 29


@given(st.integers(5, 15), st.integers(0, 9))
def test_groups_are_drawn_as_near_as_they_allow(per_class: int, seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 4, size=80)
    groups = np.repeat(np.arange(80), sizes)
    dataset = made(groups % 4 // 3, groups)
    fold = balanced(dataset, seed, per_class=per_class)
    assert np.abs(np.array(counts(dataset, fold.val)) - per_class).max() <= 1
    assert not set(groups[fold.val]) & set(groups[fold.train])
    assert not len(fold.test)


def test_every_record_may_be_drawn() -> None:
    dataset = made([0] * 20 + [1] * 10)
    drawn = [balanced(dataset, seed, per_class=5).val for seed in range(300)]
    often = np.bincount(np.concatenate(drawn), minlength=30) / 300
    assert np.abs(often - np.repeat([0.25, 0.5], [20, 10])).max() < 0.12


@pytest.mark.parametrize(
    ("labels", "groups", "message"),
    [
        (
            [0] * 30 + [1] * 5,
            None,
            "class '1' must have more than 'per_class' of 5 records outside of test, got 5; lower",
        ),
        ([0] * 30 + [1] * 9, [*range(30), *[40] * 9], "class '1' must have at least 2 groups, got 1; collect more"),
        ([0] * 30 + [1] * 40, np.repeat(range(7), 10) * 3, None),
        ([0] * 40 + [1] * 40, np.arange(80) // 20, "val must have every class, got none of '0'; raise 'per_class'"),
    ],
)
def test_too_few_are_refused_by_name(labels: Any, groups: Any, message: str | None) -> None:
    if message is None:
        assert len(balanced(made(labels, groups), per_class=6).val) == 20
        return
    with pytest.raises(SplitError, match=message):
        balanced(made(labels, groups), per_class=5)


def test_it_says_what_validation_is_not_good_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET", raising=False)
    balanced(made([0] * 30 + [1] * 9), per_class=5)
    text = capsys.readouterr().err
    assert text.startswith("balanced-holdout: validation has 0 5, 1 5; precision, average precision")
    assert "not those of the population" in text


@pytest.mark.parametrize("name", ["balanced-holdout", "repeated"])
def test_reweighting_is_to_the_classes_outside_of_test(name: str) -> None:
    inner = {"name": "balanced-holdout", "per_class": 5, "reweight": True}
    splitter = splitters.create(inner if name == "balanced-holdout" else {"name": name, "splitter": inner, "times": 2})
    dataset = made([0] * 80 + [1] * 20)
    assert splitter.split(dataset).prior == pytest.approx({"0": 0.8, "1": 0.2})
    fixed = Dataset.from_arrays(np.zeros((100, 2, 2), np.uint8), dataset.labels, splits=["test"] * 40 + ["train"] * 60)
    assert plan_folds(fixed, splitter, test="predefined", seed=0).prior == pytest.approx({"0": 2 / 3, "1": 1 / 3})
    assert splitters.create("balanced-holdout").split(made([0] * 30 + [1] * 30)).prior is None


def test_reweighting_says_what_it_does_not_reach(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("IMGCLS_QUIET", raising=False)
    balanced(made([0] * 30 + [1] * 9), per_class=5, reweight=True)
    assert capsys.readouterr().err.endswith("outside of test, but the monitored metric does not\n")


def test_several_labels_are_not_reweighted() -> None:
    labels = np.eye(2, dtype=int).repeat(20, axis=0)
    several = Dataset.from_arrays(np.zeros((40, 2, 2), np.uint8), labels, classes=["a", "b"])
    with pytest.raises(ConfigError, match="'reweight' must be left out where records have several labels, got True"):
        balanced(several, reweight=True)
