from __future__ import annotations

from typing import Any, final

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgcls.balancing.base import Records, Sampler, samplers
from imgcls.core.errors import ConfigError, PluginContractError

NAMES = samplers.names()
CLASSES = ("a", "b", "c", "d")
LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=50).map(lambda labels: np.array(labels, dtype=np.int64))
SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=4)
SEEDS = st.integers(0, 2**32)
SEVERAL = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]] * 5)


def records(labels: Any, groups: Any = None) -> Records:
    given = None if groups is None else np.array([f"g{group}" for group in groups])
    return Records(labels=np.asarray(labels, dtype=np.int64), groups=given, num_classes=4, classes=CLASSES)


def grouped(labels: Any) -> Records:
    return records(labels, groups=np.arange(len(labels)) // 3)


def draw(spec: Any, data: Records, *, batch_size: int = 4, epoch: int = 0, seed: int = 0) -> NDArray[np.int64]:
    return samplers.create(spec).draw(data, batch_size=batch_size, epoch=epoch, seed=seed)


def is_floor_or_ceiling(counts: NDArray[Any], shares: Any) -> bool:
    return bool(np.all(counts >= np.floor(shares - 1e-9)) and np.all(counts <= np.ceil(shares + 1e-9)))


# Every sampler


@pytest.mark.parametrize("name", NAMES)
@given(labels=LABELS, epoch=st.integers(0, 5), seed=SEEDS)
def test_draws_are_positions_and_the_same_again(name: str, labels: NDArray[np.int64], epoch: int, seed: int) -> None:
    drawn = [draw(name, grouped(labels), epoch=epoch, seed=seed) for _ in range(2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert drawn[0].dtype == np.int64
    assert set(drawn[0]) <= set(range(len(labels)))


@pytest.mark.parametrize("name", NAMES)
def test_other_epoch_or_seed_draws_anew(name: str) -> None:
    many = grouped(np.arange(200) % 3)
    drawn = [draw(name, many, epoch=epoch, seed=seed) for epoch, seed in [(0, 0), (1, 0), (0, 1)]]
    assert not any(np.array_equal(drawn[i], drawn[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_global_chance_is_neither_used_nor_changed(name: str) -> None:
    np.random.seed(1)  # noqa: NPY002 (the global state is what this is about)
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    draw(name, grouped([0, 1, 1]))
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


@pytest.mark.parametrize("name", NAMES)
@given(labels=LABELS, seed=SEEDS)
def test_what_never_repeats_draws_no_record_twice(name: str, labels: NDArray[np.int64], seed: int) -> None:
    drawn = draw(name, grouped(labels), seed=seed)
    assert samplers.create(name).repeats or len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("name", NAMES)
def test_what_corrects_makes_classes_more_equal_and_what_does_not_leaves_them(name: str) -> None:
    labels = np.repeat([0, 1], [90, 10])
    every = np.concatenate([draw(name, grouped(labels), epoch=epoch) for epoch in range(50)])
    assert np.mean(labels[every] == 1) == pytest.approx(0.5 if samplers.create(name).corrects else 0.1, abs=0.03)


# Each sampler


@given(LABELS, SEEDS)
def test_uniform_draws_every_record_once(labels: NDArray[np.int64], seed: int) -> None:
    assert np.array_equal(np.sort(draw("uniform", records(labels), seed=seed)), np.arange(len(labels)))


WEIGHTS = {"a": 1.0, "b": 4.0, "c": 0.0, "d": 0.5}


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@given(st.lists(st.integers(1, 200), min_size=2, max_size=4), st.integers(0, 9))
def test_weighted_draws_follow_the_weights(weights: dict[str, float] | None, sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    own = (1 / np.array(sizes) if weights is None else np.array(list(weights.values())))[labels]
    spec = {"name": "weighted", "weights": weights}
    epochs = range(4000 // len(labels) + 1)
    drawn = np.concatenate([draw(spec, records(labels), epoch=epoch, seed=seed) for epoch in epochs])
    assert len(drawn) == len(epochs) * len(labels)
    expected = len(drawn) * own / own.sum()
    assert np.all(
        np.abs(np.bincount(drawn, minlength=len(labels)) - expected) <= 6 * np.sqrt(expected) + (expected > 0)
    )


@given(SIZES, st.sampled_from([0.0, 0.5, 0.9, 0.999]), SEEDS)
def test_effective_number_draws_records_and_classes_by_their_share(sizes: list[int], beta: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    drawn = draw({"name": "effective-number", "beta": beta}, records(labels), seed=seed)
    weights = ((1 - beta) / (1 - beta ** np.array(sizes)))[labels]  # Cui et al., equation 2
    shares = len(labels) * weights / weights.sum()
    assert len(drawn) == len(labels)
    assert is_floor_or_ceiling(np.bincount(drawn, minlength=len(labels)), shares)
    assert is_floor_or_ceiling(np.bincount(labels[drawn], minlength=len(sizes)), np.bincount(labels, weights=shares))


def test_effective_number_draws_every_record_equally_often_in_the_mean() -> None:
    labels = np.repeat([0, 1], [7, 3])
    spec = {"name": "effective-number", "beta": 0.999999}
    drawn = np.concatenate([draw(spec, records(labels), epoch=epoch) for epoch in range(2000)])
    shares = np.bincount(drawn) / 2000
    np.testing.assert_allclose(shares, np.repeat([5 / 7, 5 / 3], [7, 3]), atol=0.06)


@given(SIZES, SEEDS)
def test_oversample_makes_all_classes_as_large_as_the_largest(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    drawn = draw("oversample", records(labels), seed=seed)
    assert np.bincount(labels[drawn]).tolist() == [max(sizes)] * len(sizes)
    assert is_floor_or_ceiling(np.bincount(drawn, minlength=len(labels)), max(sizes) / np.array(sizes)[labels])


@given(SIZES, SEEDS)
def test_undersample_makes_all_classes_as_small_as_the_rarest(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    drawn = draw("undersample", records(labels), seed=seed)
    assert np.bincount(labels[drawn]).tolist() == [min(sizes)] * len(sizes)


def test_undersample_comes_to_every_record_in_time() -> None:
    labels = np.repeat([0, 1], [30, 3])
    assert set(np.concatenate([draw("undersample", records(labels), epoch=n) for n in range(100)])) == set(range(33))


@given(SIZES, st.integers(4, 9), SEEDS)
def test_balanced_batches_have_classes_and_records_evenly(sizes: list[int], batch_size: int, seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    drawn = draw("balanced-batch", records(labels), batch_size=batch_size, seed=seed)
    batches = drawn.reshape(-1, batch_size)
    assert 0 <= len(drawn) - len(labels) < batch_size
    for batch in batches:
        assert is_floor_or_ceiling(np.bincount(labels[batch], minlength=len(sizes)), batch_size / len(sizes))
    assert np.ptp(np.bincount(labels[drawn])) <= 1
    for name, size in enumerate(sizes):
        own = drawn[labels[drawn] == name]
        passes = [own[start : start + size] for start in range(0, len(own), size)]
        assert all(len(set(one)) == len(one) for one in passes)


def test_balanced_batches_of_one_set_hold_classes_that_have_no_records_at_zero() -> None:
    drawn = draw("balanced-batch", records([0, 0, 0, 2]), batch_size=2)
    assert drawn.reshape(-1, 2).shape == (2, 2)
    assert np.all(np.sort(drawn.reshape(-1, 2), axis=1)[:, 1] == 3)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=60), SEEDS)
def test_group_uniform_draws_groups_and_their_records_evenly(groups: list[int], seed: int) -> None:
    _, code, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = draw("group-uniform", records(np.zeros(len(groups)), groups=groups), seed=seed)
    assert len(drawn) == len(groups)
    each = len(groups) / len(sizes)
    assert is_floor_or_ceiling(np.bincount(code[drawn], minlength=len(sizes)), each)
    assert is_floor_or_ceiling(np.bincount(drawn, minlength=len(groups)), each / sizes[code])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=60), SEEDS)
def test_balanced_group_uniform_draws_classes_and_groups_within_them_evenly(
    pairs: list[tuple[int, int]], seed: int
) -> None:
    labels, groups = np.array(pairs).T
    drawn = draw({"name": "group-uniform", "balanced": True}, records(labels, groups=groups), seed=seed)
    present = np.unique(labels)
    shares = np.zeros(len(labels))
    for name in present:
        of_class = np.unique(groups[labels == name])
        for group in of_class:
            unit = (labels == name) & (groups == group)
            shares[unit] = len(labels) / (len(present) * len(of_class) * unit.sum())
            assert is_floor_or_ceiling(np.array(np.isin(drawn, np.flatnonzero(unit)).sum()), shares[unit].sum())
    assert is_floor_or_ceiling(np.bincount(labels[drawn])[present], len(labels) / len(present))
    assert is_floor_or_ceiling(np.bincount(drawn, minlength=len(labels)), shares)


# Several labels


@pytest.mark.parametrize(
    ("spec", "weights"),
    [
        # 15 records have a, 5 have b, none c, 5 have d, 5 no label
        ("weighted", [1 / 15, (1 / 15 + 1 / 5) / 2, 1 / 5, (1 / 15 + 1 / 5) / 2]),
        ({"name": "weighted", "weights": {"a": 1, "b": 5, "d": 3, "c": 3}}, [1, 3, 3, 2]),
        ({"name": "effective-number", "beta": 0.0}, [1, 1, 1, 1]),
        ({"name": "effective-number", "beta": 0.999999}, [1 / 15, (1 / 15 + 1 / 5) / 2, 1 / 5, (1 / 15 + 1 / 5) / 2]),
    ],
)
def test_records_of_several_labels_have_the_mean_of_their_weights(spec: Any, weights: list[float]) -> None:
    drawn = np.concatenate([draw(spec, records(SEVERAL), epoch=epoch) for epoch in range(500)])
    shares = np.bincount(drawn % 4) / len(drawn)
    np.testing.assert_allclose(shares, np.array(weights) / sum(weights), atol=0.02)


@pytest.mark.parametrize("name", [name for name in NAMES if not samplers.create(name).takes_multilabel])
def test_samplers_that_need_one_class_a_record_refuse_several(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f"'sampler' must be one that draws records of several labels, got '{name}'; take"
    ):
        draw(name, records(SEVERAL, groups=range(20)))


# Refusals


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "weighted", "weights": {"a": 0, "b": 0, "c": 1}}, "must be above 0 for some class with records"),
        ({"name": "weighted", "weights": {"a": 1, "x": 1}}, r"'sampler\.weights' must name classes, got 'x'; there"),
        ({"name": "weighted", "weights": {"a": 1}}, r"'sampler\.weights' must name every class, got none for 'b'"),
        ("group-uniform", "'sampler' must be one that needs no groups .*, got 'group-uniform'; name their 'group'"),
    ],
)
def test_records_that_a_sampler_cannot_draw_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        draw(spec, records([0, 1, 1]))


def test_a_batch_without_room_for_every_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"smaller than the 3 classes, got a 'batch_size' of 2; raise that"):
        draw("balanced-batch", records([0, 1, 2]), batch_size=2)


def test_weights_by_name_need_names() -> None:
    nameless = Records(labels=np.array([0, 1]), groups=None, num_classes=2)
    with pytest.raises(ConfigError, match=r"'sampler\.weights' must be left out where classes have no names"):
        draw({"name": "weighted", "weights": {"a": 1, "b": 1}}, nameless)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "weighted", "weights": {"a": -1}}, "'sampler.weights' must be finite, 0 or more and not all 0"),
        ({"name": "weighted", "weights": {"a": float("nan")}}, "finite"),
        ({"name": "weighted", "weights": {"a": 0}}, "not all 0"),
        ({"name": "weighted", "weights": [1, 2]}, "'sampler.weights' must be a mapping from class to weight, or None"),
        ({"name": "effective-number", "beta": 1.0}, "'sampler.beta' must be a number of at least 0 and below 1"),
        ({"name": "group-uniform", "balanced": 1}, "'sampler.balanced' must be a bool"),
    ],
)
def test_wrong_options_are_refused(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        samplers.create(spec)


@final
@attrs.frozen(kw_only=True)
class Given(Sampler):
    positions: Any

    def _draw(self, records: Records, *, batch_size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        return np.asarray(self.positions)


@pytest.mark.parametrize("positions", [[], [3], [-1], [0.0], [[0]], 0])
def test_plugin_that_draws_what_is_not_there_is_caught(positions: Any) -> None:
    with pytest.raises(PluginContractError, match=r"Given\._draw must return positions \(M,\) from 0 to 2, got"):
        Given(positions=positions).draw(records([0, 1, 2]), batch_size=1, epoch=0, seed=0)
