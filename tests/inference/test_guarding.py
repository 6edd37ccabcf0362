from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from imgcls.core.errors import DataError, RunError
from imgcls.inference.guarding import Guard, Known


def drawn(count: int, *, seed: int = 0, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def unit(features: np.ndarray) -> np.ndarray:
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def a_guard(train: np.ndarray, val: np.ndarray, folds: int = 1) -> Guard:
    records = np.arange(len(train))
    ids = np.array([f"r{number}" for number in records])
    labels = np.array(["a", "b"])[records % 2]
    return Guard(folds=[Known.fit(train, records, val) for _ in range(folds)], ids=ids, labels=labels)


def reference(train: np.ndarray, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    found = NearestNeighbors(n_neighbors=5).fit(unit(train)).kneighbors(unit(features))
    return found[0][:, -1], found[1]


@given(scale=st.floats(0.01, 1000), seed=st.integers(0, 99))
def test_distance_is_that_of_the_fifth_neighbour_of_unit_length(scale: float, seed: int) -> None:
    train, asked = drawn(40, seed=seed), drawn(7, seed=seed + 100)
    guard = a_guard(train, drawn(20, seed=seed + 200))
    near = guard.near([asked * np.float32(scale)], neighbours=5)
    distances, nearest = reference(train, asked)
    np.testing.assert_allclose(near.distance * guard.folds[0].limit, distances, atol=2e-3)
    order = unit(asked) @ unit(train).T
    np.testing.assert_allclose(
        np.take_along_axis(order, near.records, axis=1), np.take_along_axis(order, nearest, axis=1), atol=2e-3
    )


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
