from __future__ import annotations

from typing import Any, final

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from imgcls.balancing.balancer import Balancer
from imgcls.balancing.base import Records, Sampler, samplers
from imgcls.core.errors import ConfigError, PluginContractError

NAMES = samplers.names()
LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=50).map(lambda labels: np.array(labels, dtype=np.int64))


def records(labels: Any) -> Records:
    return Records(labels=np.asarray(labels, dtype=np.int64), groups=None, num_classes=4)


@pytest.mark.parametrize("name", NAMES)
@given(labels=LABELS, epoch=st.integers(0, 5), seed=st.integers(0, 2**32))
def test_draws_are_positions_and_the_same_again(name: str, labels: NDArray[np.int64], epoch: int, seed: int) -> None:
    sampler = samplers.create(name)
    drawn = [sampler.draw(records(labels), batch_size=4, epoch=epoch, seed=seed) for _ in range(2)]
    assert np.array_equal(drawn[0], drawn[1])
    assert drawn[0].dtype == np.int64
    assert set(drawn[0]) <= set(range(len(labels)))


@pytest.mark.parametrize("name", NAMES)
def test_other_epoch_or_seed_draws_anew(name: str) -> None:
    many = records(np.arange(200) % 3)
    keys = [(0, 0), (1, 0), (0, 1)]
    drawn = [samplers.create(name).draw(many, batch_size=8, epoch=epoch, seed=seed) for epoch, seed in keys]
    assert not any(np.array_equal(drawn[i], drawn[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_global_chance_is_neither_used_nor_changed(name: str) -> None:
    np.random.seed(1)  # noqa: NPY002 (the global state is what this is about)
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    samplers.create(name).draw(records([0, 1, 1]), batch_size=2, epoch=0, seed=0)
    assert np.array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


@given(labels=LABELS, seed=st.integers(0, 99))
def test_uniform_draws_every_record_once(labels: NDArray[np.int64], seed: int) -> None:
    drawn = samplers.create("uniform").draw(records(labels), batch_size=4, epoch=0, seed=seed)
    assert np.array_equal(np.sort(drawn), np.arange(len(labels)))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=4), st.integers(0, 9))
def test_weighted_draws_classes_equally_and_records_of_a_class_equally(sizes: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    draw = samplers.create("weighted").draw
    drawn = np.concatenate(
        [draw(records(labels), batch_size=4, epoch=epoch, seed=seed) for epoch in range(4000 // len(labels) + 1)]
    )
    shares = np.bincount(labels[drawn], minlength=len(sizes)) / len(drawn)
    assert np.abs(shares - 1 / len(sizes)).max() < 5 * 0.5 / np.sqrt(len(drawn))
    expected = len(drawn) / (len(sizes) * np.array(sizes)[labels])
    assert np.all(np.abs(np.bincount(drawn, minlength=len(labels)) - expected) < 6 * np.sqrt(expected) + 1)


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


def test_inverse_weights_by_hand() -> None:
    weights = Balancer(class_weights="inverse").weights(np.array([0, 0, 0, 1]), ("a", "b"))
    assert weights == pytest.approx([0.5, 1.5])


def test_given_weights_are_ordered_by_class_and_scaled() -> None:
    weights = Balancer(class_weights={"b": 1, "a": 3}).weights(np.array([0, 1]), ("a", "b"))
    assert weights == pytest.approx([1.5, 0.5])


def test_classes_that_are_numbers_may_be_weighted_by_number() -> None:
    assert Balancer(class_weights={0: 1, 1: 3}).weights(np.array([0, 1]), ("0", "1")) == pytest.approx([0.5, 1.5])


@given(LABELS)
def test_inverse_weights_have_mean_one_and_equalise_the_present_classes(labels: NDArray[np.int64]) -> None:
    weights = Balancer(class_weights="inverse").weights(labels, ("a", "b", "c", "d"))
    assert weights is not None
    assert weights.mean() == pytest.approx(1)
    present, counts = np.unique(labels, return_counts=True)
    assert np.ptp(weights[present] * counts) == pytest.approx(0)


def test_no_weights_by_default() -> None:
    assert Balancer().weights(np.array([0, 1]), ("a", "b")) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "focal"}, "'loss' must be one of 'cross-entropy', 'bce', got 'focal'"),
        ({"sampler": "wieghted"}, "'sampler' must name an installed plugin, got 'wieghted'; did you mean 'weighted'"),
        ({"sampler": {"name": "weighted", "power": 1}}, r"'sampler\.power' must be an option of Weighted"),
        ({"class_weights": "balanced"}, "'class_weights' must be None, 'inverse' or a mapping .*, got 'balanced'"),
        ({"class_weights": [1, 2]}, "'class_weights' must be None, 'inverse' or a mapping"),
        ({"class_weights": {"a": -1}}, "'class_weights' must be finite, 0 or more and not all 0, got"),
        ({"class_weights": {"a": 0}}, "not all 0"),
        ({"class_weights": {}}, "not all 0"),
        ({"class_weights": {"a": float("nan")}}, "finite"),
        ({"class_weights": {"a": "x"}}, "finite"),
        (
            {"class_weights": "inverse", "sampler": "weighted"},
            "corrects twice; drop one of them or set 'allow_stacking'",
        ),
        ({"allow_stacking": 1}, "'allow_stacking' must be a bool, got 1"),
    ],
)
def test_wrong_balancers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, LookupError), match=message):
        Balancer(**options)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 1, "c": 1}, "'class_weights' must name classes, got 'c'; there are 'a', 'b'"),
        ({"a": 1}, "'class_weights' must name every class, got none for 'b'"),
    ],
)
def test_weights_that_do_not_name_the_classes_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Balancer(class_weights=weights).weights(np.array([0, 1]), ("a", "b"))


def test_stacking_can_be_wanted() -> None:
    balancer = Balancer(sampler="weighted", class_weights="inverse", allow_stacking=True)
    assert balancer.weights(np.array([0, 1]), ("a", "b")) is not None
