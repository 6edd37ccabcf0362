from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors

from imgcls.core.errors import DataError, RunError
from imgcls.inference.guarding import Guard, Known


def drawn(count: int, *, seed: int = 0, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def a_guard(train: np.ndarray, val: np.ndarray, folds: int = 1) -> Guard:
    records = np.arange(len(train))
    ids = np.array([f"r{number}" for number in records])
    labels = np.array(["a", "b"])[records % 2]
    return Guard(folds=[Known.fit(train, records, val) for _ in range(folds)], ids=ids, labels=labels)


@given(seed=st.integers(0, 99))
def test_distance_is_that_of_mahalanobis(seed: int) -> None:
    train, asked = drawn(40, seed=seed), drawn(7, seed=seed + 100)
    guard = a_guard(train, drawn(20, seed=seed + 200))
    wanted = np.sqrt(LedoitWolf().fit(train).mahalanobis(asked))
    np.testing.assert_allclose(guard.near([asked]).distance * guard.folds[0].limit, wanted, rtol=1e-3)


@given(seed=st.integers(0, 99))
def test_the_nearest_records_have_the_smallest_angle(seed: int) -> None:
    train, asked = drawn(40, seed=seed), drawn(7, seed=seed + 100)
    near = a_guard(train, drawn(20)).near([asked], neighbours=3)
    wanted = NearestNeighbors(n_neighbors=3, metric="cosine").fit(train).kneighbors(asked)[0]
    found = [[cosine(image, train[at]) for at in row] for image, row in zip(asked, near.records, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=2e-3)


def test_fewer_records_than_features_are_enough() -> None:
    guard = a_guard(drawn(10, size=64), drawn(20, seed=1, size=64))
    assert guard.near([drawn(3, seed=2, size=64) * 10]).unlike.all()


@pytest.mark.parametrize(("count", "outside"), [(30, 0), (199, 1), (1000, 9)])
def test_so_many_validation_records_lie_outside(count: int, outside: int) -> None:
    val = drawn(count, seed=1)
    assert a_guard(drawn(50), val).near([val]).unlike.sum() == outside


def test_folds_are_averaged_in_units_of_their_limits() -> None:
    first, second = a_guard(drawn(30), drawn(9, seed=1)), a_guard(drawn(30, seed=2), drawn(9, seed=3))
    both = Guard(folds=[*first.folds, *second.folds], ids=first.ids, labels=first.labels)
    asked = drawn(5, seed=4)
    alone = [one.near([asked]).distance for one in (first, second)]
    np.testing.assert_allclose(both.near([asked, asked]).distance, np.mean(alone, axis=0), rtol=1e-6)


def test_a_record_that_one_fold_trained_on_may_be_the_nearest() -> None:
    train, val = drawn(20), drawn(9, seed=1)
    parts = [Known.fit(train[part], part, val) for part in (np.arange(10), np.arange(10, 20))]
    guard = Guard(folds=parts, ids=np.arange(20).astype(str), labels=np.repeat("a", 20))
    near = guard.near([train, train], neighbours=3)
    assert near.records[:, 0].tolist() == list(range(20))


def test_a_guard_is_read_as_it_was_written(tmp_path: Path) -> None:
    guard, asked = a_guard(drawn(30), drawn(9, seed=1), folds=2), drawn(4, seed=2)
    guard.save(tmp_path / "guard.npz")
    again = Guard.load(tmp_path / "guard.npz")
    np.testing.assert_array_equal(again.near([asked] * 2).distance, guard.near([asked] * 2).distance)
    assert again.ids.tolist() == guard.ids.tolist()
    (tmp_path / "guard.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match=r"guard .*guard.npz' must be as it was written, .* delete it"):
        Guard.load(tmp_path / "guard.npz")


def test_a_guard_needs_validation_records() -> None:
    with pytest.raises(DataError, match="'val' must have records for a guard"):
        Known.fit(drawn(5), np.arange(5), drawn(0))
