"""Sets in which a record has several labels, or none."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imgcls.core.errors import SplitError
from imgcls.data.dataset import Dataset
from imgcls.splitting.base import splitters
from imgcls.splitting.plan import plan_folds


def labels_of(seed: int, size: int = 240) -> NDArray[np.int64]:
    """Labels (N, 6), some rare and some that come together."""
    rng = np.random.default_rng(seed)
    labels = rng.random((size, 6)) < rng.uniform(0.05, 0.5, 6)
    labels[:, 1] |= labels[:, 0] & (rng.random(size) < 0.7)
    return labels.astype(np.int64)


def made(labels: NDArray[np.int64], groups: NDArray[np.int64] | None = None) -> Dataset:
    pixels = np.zeros((len(labels), 2, 2), np.uint8)
    return Dataset.from_arrays(pixels, labels, classes=list("abcdef"), groups=groups)


def deviation(parts: NDArray[np.int64], labels: NDArray[np.int64], k: int) -> float:
    """The mean over folds and labels of |share of the label's records in the fold - 1 / k|."""
    held = np.stack([labels[parts == part].sum(axis=0) for part in range(k)])
    return float(np.abs(held / labels.sum(axis=0) - 1 / k).mean())


def iterative(labels: NDArray[np.int64], k: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Iterative stratification as in Sechidis et al., "On the Stratification of Multi-Label Data", 2011, figure 1."""
    parts = np.full(len(labels), -1)
    lacks, room = np.tile(labels.sum(axis=0) / k, (k, 1)), np.full(k, len(labels) / k)
    while (left := labels[parts == -1].sum(axis=0)).any():
        rarest = np.where(left > 0, left, len(labels) + 1).argmin()
        for record in np.flatnonzero((parts == -1) & (labels[:, rarest] > 0)):
            best = np.lexsort((rng.random(k), -room, -lacks[:, rarest]))[0]
            parts[record] = best
            lacks[best] -= labels[record]
            room[best] -= 1
    for record in np.flatnonzero(parts == -1):
        parts[record] = room.argmax()
        room[parts[record]] -= 1
    return parts


def ours(dataset: Dataset, k: int, seed: int) -> NDArray[np.int64]:
    parts = np.empty(len(dataset), dtype=np.int64)
    for number, fold in enumerate(
        splitters.create({"name": "stratified-group-kfold", "k": k}).split(dataset, seed=seed)
    ):
        parts[fold.test] = number
    return parts


def test_records_are_as_balanced_as_by_iterative_stratification() -> None:
    found = np.empty((20, 3))
    for seed in range(20):
        labels, k, rng = labels_of(seed), 3 + seed % 4, np.random.default_rng(seed)
        rivals = [iterative(labels, k, rng), rng.permutation(len(labels)) % k]
        found[seed] = [deviation(parts, labels, k) for parts in (ours(made(labels), k, seed), *rivals)]
    assert np.all(found[:, 0] < found[:, 2])
    assert found[:, 0].mean() <= found[:, 1].mean()


def test_groups_are_more_balanced_than_at_random() -> None:
    for seed in range(8):
        rng = np.random.default_rng(seed)
        labels, groups = labels_of(seed), np.sort(rng.integers(80, size=240))
        number = np.unique(groups, return_inverse=True)[1]
        drawn = (rng.permutation(number.max() + 1) % 4)[number]
        found = ours(made(labels, groups), 4, seed)
        assert deviation(found, labels, 4) < deviation(drawn, labels, 4)
        assert all(len(set(found[groups == group])) == 1 for group in groups)


def test_folds_are_equal_in_records_though_some_have_no_label() -> None:
    labels = labels_of(1)
    labels[::2] = 0
    assert np.ptp(np.bincount(ours(made(labels), 5, 0))) <= 4


@pytest.mark.parametrize("name", ["holdout", "balanced-holdout", "repeated", "leave-one-group-out", "group-kfold"])
def test_every_label_trains_and_validates(name: str) -> None:
    dataset = made(labels_of(0), np.arange(240) // 8)
    for fold in splitters.create(name).split(dataset):
        assert dataset.labels[fold.train].any(axis=0).all()
        assert dataset.labels[fold.val].any(axis=0).all()


def test_a_share_is_cut_for_a_fixed_test_set() -> None:
    dataset = made(labels_of(0))
    fold = plan_folds(dataset, splitters.create("stratified-kfold"), test=0.25, seed=0)[0]
    assert abs(len(fold.test) - 60) <= 3  # labels are divided in proportion, and records as far as they follow
    np.testing.assert_allclose(dataset.labels[fold.test].sum(axis=0) / dataset.labels.sum(axis=0), 0.25, atol=0.05)


def test_rare_label_is_refused() -> None:
    labels = labels_of(0)
    labels[:, 2] = np.arange(240) < 4
    with pytest.raises(SplitError, match="class 'c' must have at least 5 records, got 4"):
        splitters.create("stratified-kfold").split(made(labels))
